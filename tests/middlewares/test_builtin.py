"""What all built-in middlewares have in common."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import pytest

from tests.middlewares.conftest import Run, answer, turn_of
from webchat_widget.errors import NotAllowed
from webchat_widget.events import Finish
from webchat_widget.middlewares.base import Middleware, stack
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.profiles import Profile, Profiles

NEEDED: dict[str, dict[str, Any]] = {
    "agent_mode": {"modes": {"critic": {"prompt": "Find faults."}, "poet": "Rhyme."}}
}
ALL = BUILTIN.make([{"name": kind.name, "config": NEEDED.get(kind.name)} for kind in BUILTIN])


@pytest.mark.parametrize("middleware", ALL, ids=lambda each: each.name)
class TestEach:
    def test_it_says_what_it_does(self, middleware: Middleware) -> None:
        assert (type(middleware).__doc__ or "").count(" ") > 5

    def test_its_spec_makes_it_again(self, middleware: Middleware) -> None:
        spec = json.loads(json.dumps(middleware.spec()))
        assert BUILTIN.make([spec]) == (middleware,)

    async def test_it_can_be_closed_at_whatever_it_says(self, middleware: Middleware) -> None:
        script = ["one\n", "<thinking>two</thinking><agent_mode>poet</agent_mode>", Finish("stop")]
        whole = len(await Run("a plan", script).ask(middleware))
        for number in range(1, whole):
            run = Run("a plan", script)
            ask = stack([middleware], run.model.stream, run)  # type: ignore[arg-type]
            async with aclosing(ask(turn_of())) as said:
                for _ in range(number):
                    await anext(said)
            with pytest.raises(StopAsyncIteration):
                await anext(said)


async def test_the_answer_passes_through_all_of_them() -> None:
    pieces = [*"A sky is `<b>blue</b>` at noon, 1 < 2.\n"]
    run = Run("plain text is a plan", pieces)
    said = await run.ask(*ALL)
    assert answer(said) == "".join(pieces)
    assert len([each for each in said if isinstance(each, Finish)]) == 1


def test_more_than_a_run_may_have_are_refused_at_once() -> None:
    assert len(BUILTIN.make(["logging"] * 32)) == 32
    with pytest.raises(NotAllowed, match="A run has at most 32 middlewares; these are 100,000") as refused:
        BUILTIN.make(["logging"] * 100_000, "overrides.middlewares")
    assert refused.value.field == "overrides.middlewares"
    many = Profile(slug="many", middlewares=["logging"] * 33)
    with pytest.raises(NotAllowed) as refused:
        Profiles().check_own([many])
    assert refused.value.field == "profiles[0].middlewares"
    with pytest.raises(ValueError, match="The profile many, middlewares: A run has at most 32"):
        Profiles().check_host(many, [])
