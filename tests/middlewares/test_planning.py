"""A plan is made before the answer, shown as it grows, and told to the one who answers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.middlewares.conftest import PROMPT, Run, answer, called, tool_of, turn_of
from webchat_widget.errors import EngineError, NotAllowed
from webchat_widget.events import CallRequest, Carried, Event, Finish, TextChunk, ThinkingChunk
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.planning import Planning
from webchat_widget.middlewares.plans import MAX_TEXT, read_step
from webchat_widget.profiles import Profiles
from webchat_widget.requests import Overrides
from webchat_widget.turns import Image, Message
from webchat_widget.typing import Usage


def step(decision: str, **fields: Any) -> str:
    return json.dumps({"decision": decision, **fields})


FIRST = step("continue", action="Look it up", reasoning="To be sure", tool_name="look", progress="half")
LAST = step(
    "execute", action="Say it", directive="Say it in one sentence.", reflection="Good", progress_score=0.9
)


def plan(run: Run) -> dict[str, Any]:
    (props,) = run.rows("planning")
    return props


async def test_a_plan_is_made_step_by_step_and_then_carried_out() -> None:
    run = Run(FIRST, LAST, "Rayleigh.", usage=Usage(inputTokens=100, outputTokens=20, cachedTokens=0))
    said = await run.ask(Planning(model="planner"), turn=turn_of(PROMPT, tools=(tool_of("look"),)))
    assert answer(said) == "Rayleigh."
    assert plan(run) == {
        "runId": "r",
        "provider": "scripted",
        "plannerModel": "planner",
        "maxIterations": 3,
        "iterations": [
            {
                "iterationIndex": 1,
                "action": "Look it up",
                "reasoning": "To be sure",
                "progress": "half",
                "toolName": "look",
            },
            {"iterationIndex": 2, "action": "Say it", "reflectionText": "Good", "progressScore": 0.9},
        ],
        "completed": {
            "totalIterations": 2,
            "finalDecision": "execute",
            "statusReason": "The planner decided so.",
            "finalDirective": "Say it in one sentence.",
        },
        "execution": {
            "directive": "Say it in one sentence.",
            "status": "completed",
            "tokensUsed": 120,
            "responseLength": len("Rayleigh."),
        },
        "status": "completed",
    }


async def test_the_planner_knows_the_tools_and_its_steps_and_has_neither_tools_nor_our_instructions() -> None:
    run = Run(FIRST, LAST, "Rayleigh.")
    turn = turn_of(Message("system", "Be brief."), PROMPT, tools=(tool_of("look"),))
    await run.ask(Planning(model="planner"), turn=turn)
    first, second, last = run.model.turns
    assert (first.tools, first.model, last.model) == ((), "planner", None)
    assert run.told(0).startswith("You plan how the person's last message is answered")
    assert "- look: What look does." in run.told(0)
    assert run.told(0).endswith("The one who answers is told:\nBe brief.")
    assert [m.content for m in first.messages[1:]] == [
        f"{PROMPT.content}\n\nWrite step 1 of at most 3 now, as JSON."
    ]
    assert [m.content for m in second.messages[2:]] == [FIRST, "Write step 2 of at most 3 now, as JSON."]
    assert [tool.name for tool in last.tools] == ["look"]
    assert run.told() == (
        "Be brief.\n\nThis plan was made for your answer:\n1. Look it up (tool: look)\n2. Say it\n\n"
        "Say it in one sentence."
    )


async def test_the_planner_sees_what_was_said_but_no_calls() -> None:
    image = Image("image/png", "aGk=")
    history = [
        Message("user", "one"),
        called("1"),
        Message("tool", "42", tool_call_id="1"),
        Message("user", "two", images=(image,)),
    ]
    run = Run(LAST, "ok")
    await run.ask(Planning(), turn=turn_of(*history))
    (asked,) = run.model.turns[0].messages[1:]
    assert (asked.content.split("\n\n")[:2], asked.images) == (["one", "two"], (image,))


async def test_what_the_planner_thinks_and_asks_for_is_nobodys_but_rows_go_through() -> None:
    class Note(Event):
        text: str

    run = Run(
        [ThinkingChunk("hm"), Carried({"a": 1}), Note(text="n"), CallRequest("1", "x", "{}"), LAST],
        "Rayleigh.",
    )
    said = await run.ask(Planning())
    left = [
        type(each).__name__
        for each in said
        if type(each).__module__ == Note.__module__ or isinstance(each, TextChunk)
    ]
    assert left == ["Note", "TextChunk"]
    assert not [each for each in said if isinstance(each, ThinkingChunk | Carried | CallRequest)]


async def test_a_planner_that_never_decides_is_stopped_at_the_limit() -> None:
    run = Run(FIRST, FIRST, "Rayleigh.")
    await run.ask(Planning(max_iterations=2))
    assert plan(run)["completed"]["statusReason"] == "All 2 steps were used up."
    assert plan(run)["status"] == "completed"


async def test_a_planner_that_writes_no_json_has_planned_all_the_same() -> None:
    run = Run("First look, then say.", "Rayleigh.")
    assert answer(await run.ask(Planning())) == "Rayleigh."
    assert plan(run)["iterations"] == [{"iterationIndex": 1, "reasoning": "First look, then say."}]
    assert plan(run)["completed"]["finalDecision"] == "execute"
    assert "1. First look, then say." in run.told()


@pytest.mark.parametrize("nothing", [Finish("stop"), CallRequest("1", "look", "{}"), " \n"])
async def test_a_planner_that_says_nothing_keeps_nobody_from_answering(nothing: Any) -> None:
    run = Run([nothing], "Rayleigh.")
    assert answer(await run.ask(Planning())) == "Rayleigh."
    assert run.told() == ""
    assert plan(run)["completed"] == {
        "totalIterations": 0,
        "finalDecision": "execute",
        "statusReason": "The planner wrote nothing in step 1.",
        "finalDirective": "",
    }


async def test_what_it_wrote_before_it_said_nothing_is_the_plan() -> None:
    run = Run(FIRST, [Finish("stop")], "Rayleigh.")
    await run.ask(Planning())
    assert plan(run)["completed"]["statusReason"] == "The planner wrote nothing in step 2."
    assert plan(run)["completed"]["totalIterations"] == len(plan(run)["iterations"]) == 1
    assert "1. Look it up" in run.told()


async def test_a_planner_that_fails_ends_the_plan_and_the_run() -> None:
    run = Run(FIRST, ["half", EngineError("The line is dead.", code="cut", retryable=True)])
    with pytest.raises(EngineError, match="The line is dead"):
        await run.ask(Planning())
    assert plan(run)["status"] == "error"
    assert plan(run)["completed"] == {
        "totalIterations": 1,
        "finalDecision": "error",
        "statusReason": "The line is dead.",
        "finalDirective": "",
    }


async def test_later_requests_of_the_run_follow_the_same_plan() -> None:
    run = Run(LAST, ["I look.", CallRequest("1", "look", "{}")], "Rayleigh.")
    await run.ask(Planning())
    assert plan(run)["status"] == "executing"
    run.round = 2
    so_far = (PROMPT, Message("assistant", "I look."), Message("tool", "blue", tool_call_id="1"))
    await run.ask(Planning(), turn=turn_of(*so_far))
    assert "Say it in one sentence." in run.told()
    assert plan(run)["status"] == "completed"
    assert plan(run)["execution"]["responseLength"] == len("I look.Rayleigh.")
    assert len(run.model.turns) == 3


async def test_a_run_that_began_without_a_plan_goes_on_without_one() -> None:
    run = Run("Rayleigh.")
    run.round = 2
    assert answer(await run.ask(Planning())) == "Rayleigh."
    assert run.rows("planning") == []


async def test_a_planner_that_talks_without_end_is_not_listened_to_without_end() -> None:
    run = Run([*["x" * 1000] * 100, asyncio.Event()], "Rayleigh.")
    async with asyncio.timeout(10):
        await run.ask(Planning())
    assert len(plan(run)["iterations"][0]["reasoning"]) == MAX_TEXT


async def test_without_reflection_there_is_none() -> None:
    run = Run(LAST, "Rayleigh.")
    await run.ask(Planning(reflect=False))
    assert "reflection" not in run.told(0)
    assert "reflectionText" not in plan(run)["iterations"][0]


@pytest.mark.parametrize(
    "text",
    [
        LAST,
        f"```json\n{LAST}\n```",
        f"Here is {{my}} plan:\n{LAST}\nGood luck!",
        f'{{"thoughts": {LAST}}}',
        LAST.replace("0.9", '"0.9"'),
        LAST.replace('"execute"', '" Execute."'),
    ],
)
def test_a_step_is_found_in_what_surrounds_it(text: str) -> None:
    found = read_step(text)
    assert found is not None
    assert (found.action, found.directive, found.done) == ("Say it", "Say it in one sentence.", True)
    assert found.progress_score == 0.9


@pytest.mark.parametrize(
    "text", ["", "no", "{", "{}", '{"a": 1}', "[1]", "{" * 5000, '{"a":' * 5000, "{action: 1}"]
)
def test_what_is_no_step_is_none(text: str) -> None:
    assert read_step(text) is None


def test_what_can_be_read_and_not_be_written_is_none() -> None:
    """Reading takes less of the stack than writing: there are depths in between."""
    for depth in range(0, sys.getrecursionlimit() + 50, 3):
        for key in ("action", "decision"):
            found = read_step(f'{{"{key}": {"[" * depth + "]" * depth}}}')
            assert found is None or found.done


def test_what_a_model_writes_in_place_of_a_text_is_text_and_bounded() -> None:
    found = read_step(
        '{"action": ["a", 1], "reasoning": "%s", "progress": 50, "strategy": ""}' % ("x" * 9000)
    )
    assert found is not None
    assert (found.action, found.progress, found.strategy) == ('["a", 1]', "50", None)
    assert len(found.reasoning or "") == MAX_TEXT


@pytest.mark.parametrize(
    ("score", "told"), [("7", 1.0), ("-1", 0.0), ("NaN", None), ('"much"', None), ("[]", None)]
)
def test_a_score_is_between_nothing_and_all(score: str, told: float | None) -> None:
    found = read_step(f'{{"action": "a", "progress_score": {score}}}')
    assert found is not None
    assert found.progress_score == told


def test_a_caller_may_choose_a_planner_among_the_models_that_the_host_allows() -> None:
    def overrides(model: str) -> Overrides:
        return Overrides(middlewares=("logging", {"name": "planning", "config": {"model": model}}))

    profiles = Profiles(models=["small-*"])
    profiles.check("default", overrides("small-1"))
    with pytest.raises(NotAllowed, match="The model 'large' is not one of those") as refused:
        profiles.check("default", overrides("large"))
    assert refused.value.field == "overrides.middlewares[1].config"


@pytest.mark.parametrize("config", [{"max_iterations": 0}, {"max_iterations": 99}, {"reflect": "yes"}])
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(NotAllowed, match="The config of the middleware planning does not fit"):
        BUILTIN.make([{"name": "planning", "config": config}])
