"""A conversation, its readers and its disk, whatever happens to them in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.soak.model import World
from tests.soak.virtual import VirtualLoop


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
