"""A conversation, its readers and its disk, whatever happens to them in whatever order."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.soak import golden
from tests.soak.model import World
from tests.soak.schedules import HOST, LINES, SAID, take
from tests.soak.twin import Answer, Twin
from tests.soak.virtual import VirtualLoop
from webchat_widget.requests import TimelineQuery

CASES = json.loads(golden.FILE.read_text("utf-8"))["cases"]


class Schedule(RuleBasedStateMachine):
    """Any steps, on a real file; in the end all readers, the host and the disk agree."""

    choice = st.integers(0, 59)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.runner.run(self.begin())

    async def begin(self) -> None:
        self.world = World(Path(self.folder.name))
        await self.world.open()

    @initialize(a=choice, b=choice)
    def somebody_reads(self, a: int, b: int) -> None:
        self.runner.run(take(self.world, ("join", a, b)))

    @rule(name=st.sampled_from([*SAID]), a=choice, b=choice)
    def a_run_says(self, name: str, a: int, b: int) -> None:
        self.runner.run(take(self.world, (name, a, b)))

    @rule(name=st.sampled_from([*LINES]), a=choice, b=choice)
    def a_reader_gets(self, name: str, a: int, b: int) -> None:
        self.runner.run(take(self.world, (name, a, b)))

    @rule(name=st.sampled_from([*HOST]), a=choice, b=choice)
    def it_happens(self, name: str, a: int, b: int) -> None:
        self.runner.run(take(self.world, (name, a, b)))

    @invariant()
    def what_must_hold_at_any_time_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            self.runner.run(self.world.calm())
            assert self.runner.run(self.world.end()) == []
        finally:
            self.runner.close()
            self.folder.cleanup()


class TestAnySchedule(Schedule.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=30, stateful_step_count=40, derandomize=True, deadline=None)


class TestGolden:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_the_host_says_today_what_is_written_down(self, case: dict[str, Any]) -> None:
        steps = [(name, a, b) for name, a, b in case["steps"]]
        assert {"name": case["name"], **golden.golden(steps)} == case, "run python -m tests.soak.golden"

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_a_reader_that_is_told_this_shows_what_the_host_has(self, case: dict[str, Any]) -> None:
        for reader in case["readers"]:
            assert replayed(reader).shown() == case["rows"]


def replayed(tape: dict[str, Any]) -> Twin:
    """A reader that has heard a tape."""
    twin = Twin(tape["pageSize"])
    for step in tape["steps"]:
        match step["do"]:
            case "open":
                twin.opened()
            case "frame":
                twin.message(step["frame"])
            case "close":
                twin.closed()
            case "earlier":
                assert twin.ask_earlier()
            case "answer":
                query = TimelineQuery("c", **step["query"])
                twin.answer(Answer(query, step["rows"], step["version"], step["more"], step["epoch"]))
    return twin


def played(scene: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Play a scene in a world of its own, to its calm end."""

    async def whole() -> None:
        world = World()
        await world.open()
        await world.join(append=True, page_size=400)
        await scene(world)
        world.check()
        await world.calm()
        assert await world.end() == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_prompt_that_was_refused_is_sent_to_nobody_though_another_was_stored_in_the_same_moment() -> None:
    async def scene(world: World) -> None:
        world.hold()
        world.speaker.prompt(0, 0)
        world.fail(1)
        world.speaker.prompt(1, 1)
        world.store.release()
        await world.wait(0.1)
        (reader,) = world.readers
        assert [event["type"] for event in reader.sent()] == ["ws.hello", "run.started", "timeline.upsert"]

    played(scene)


def test_a_number_that_was_undone_may_be_given_out_again_for_no_reader_was_told_it() -> None:
    async def scene(world: World) -> None:
        (reader,) = world.readers
        world.speaker.own(0, 0)
        await world.wait(1)
        world.fail(1)
        world.speaker.own(1, 1)
        for _ in range(3):
            await world.wait(0.1)
            await reader.follow()
        await world.evict()
        world.set_clock(-3_600_000)
        await reader.join()
        world.speaker.own(2, 2)

    played(scene)
