"""Step mode pauses before the tools and after them, and says what a person looks at."""

from __future__ import annotations

import pytest

from tests.middlewares.conftest import PROMPT, Run, called, turn_of
from webchat_widget.errors import NotAllowed
from webchat_widget.events import CallRequest, Finish
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.step import Step
from webchat_widget.turns import Message

CALLS = [CallRequest("1", "add", '{"a": 1}'), CallRequest("2", "look", "{}")]
AFTER_TOOLS = turn_of(PROMPT, called("1"), Message("tool", "3", tool_call_id="1"))


async def test_it_pauses_before_the_tools() -> None:
    run = Run(CALLS)
    await run.ask(Step())
    assert run.pauses == [("after_inference", 'The model asks for 2 tools: add({"a": 1}), look({})')]


async def test_it_pauses_before_the_model_is_told() -> None:
    run = Run("3.")
    await run.ask(Step(), turn=AFTER_TOOLS)
    assert run.pauses == [("after_tools", "The model is about to be told what 1 tool gave: tool_1")]


async def test_an_answer_that_asks_for_nothing_is_not_paused() -> None:
    run = Run("Rayleigh.", [*CALLS, Finish("length")])
    await run.ask(Step())
    await run.ask(Step())
    assert run.pauses == []


async def test_only_the_phases_that_are_named_pause() -> None:
    run = Run(CALLS, "3.")
    await run.ask(Step(("after_tools",)))
    await run.ask(Step(("after_inference",)), turn=AFTER_TOOLS)
    assert run.pauses == []


async def test_a_summary_is_short_whatever_the_model_asks_for() -> None:
    run = Run([CallRequest("1", "write", '{"text": "' + "x" * 10_000 + '"}')] * 50)
    await run.ask(Step())
    ((_, summary),) = run.pauses
    assert len(summary) == 1000
    assert summary.startswith('The model asks for 50 tools: write({"text": "xxx')


@pytest.mark.parametrize("config", [{"seconds": 0}, {"seconds": 1e9}, {"phases": ["before"]}])
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(NotAllowed, match="The config of the middleware step does not fit"):
        BUILTIN.make([{"name": "step", "config": config}])
