"""A person asks something of a conversation that its host is just letting go of: what they are told is so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from tests.runtime.test_approvals import CALLS, Pad, asking, asks, ended, pad, say_yes
from tests.runtime.test_hand_over import Server
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import ShuttingDown
from webchat_widget.runtime import conversation
from webchat_widget.runtime.conversation import Conversation
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch

__all__ = ["pad"]

MOVES = ("moved", "This conversation is moving. Try again in a moment.")


async def happens(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0)


def live(chat: Chat) -> Conversation:
    found = chat.service._manager.live("c")
    assert found is not None
    return found


async def statuses(chat: Chat) -> dict[str, str]:
    """How each run and each call stands, by its kind."""
    return {
        row["kind"]: row["props"]["status"]
        for row in await chat.rows()
        if row["kind"] in ("run", "tool_call")
    }


class Slow(Server):
    """The ends of calls are stored when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stores, self.goes_on = asyncio.Event(), asyncio.Event()

    def write(self, batch: Batch) -> asyncio.Future[None]:
        if not any(row["kind"] == "tool_result" for row in batch.rows):
            return super().write(batch)
        self.stores.set()
        return asyncio.ensure_future(self._late(batch))

    async def _late(self, batch: Batch) -> None:
        await self.goes_on.wait()
        await super().write(batch)


class TestWhileItMoves:
    """The run waits for a person; that a call beside it has ended is being stored."""

    @pytest.fixture
    async def store(self, start: Start, tmp_path: Path) -> AsyncIterator[Slow]:
        store = Slow(tmp_path)
        yield store
        store.goes_on.set()

    @staticmethod
    async def leaving(start: Start, pad: Pad, store: Slow) -> tuple[Chat, Any, asyncio.Task[bool]]:
        """The chat, the row of the call that asks, and the move that is under way."""
        engine = ScriptedEngine([asks(id="1"), asks(id="2", name="hang"), CALLS], "Done.")
        chat = await start(engine, store=store, tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        assert await asyncio.to_thread(pad.entered.wait, 10)
        moving = asyncio.create_task(chat.service.hand_over("c"))
        await store.stores.wait()
        return chat, row, moving

    async def test_a_stop_does_not_say_that_it_ended_what_goes_on_elsewhere(
        self, start: Start, pad: Pad, store: Slow
    ) -> None:
        chat, row, moving = await self.leaving(start, pad, store)
        stopping = asyncio.create_task(chat.service.stop("c", None))
        await asyncio.sleep(0)
        store.goes_on.set()
        with pytest.raises(ShuttingDown) as refused:
            await stopping
        assert (refused.value.code, refused.value.message, refused.value.retryable) == (*MOVES, True)
        assert await moving is True
        (still,) = await asking(chat)
        assert still["id"] == row["id"]
        await chat.service.stop("c", None)
        assert (await ended(chat))["props"]["status"] == "stopped"

    async def test_a_yes_is_asked_for_again_and_then_counts(
        self, start: Start, pad: Pad, store: Slow
    ) -> None:
        chat, row, moving = await self.leaving(start, pad, store)
        with pytest.raises(ShuttingDown) as refused:
            await say_yes(chat, row)
        assert (refused.value.code, refused.value.message) == MOVES
        with pytest.raises(ShuttingDown):
            await chat.service.resume("c", "a pause")
        store.goes_on.set()
        await moving
        assert pad.launched == []
        await asking(chat)
        await say_yes(chat, row)
        await ended(chat)
        assert pad.launched == ["moon"]


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_a_stop_that_meets_a_move_has_ended_the_run_or_says_that_it_did_not(
    start: Start, pad: Pad, tmp_path: Path, turns: int
) -> None:
    chat = await start(ScriptedEngine([asks(), CALLS], "Done."), store=Server(tmp_path), tools=pad.tools)
    await chat.say("Launch!")
    await asking(chat)
    moving = asyncio.create_task(chat.service.hand_over("c"))
    for _ in range(turns):
        await asyncio.sleep(0)
    expected = {"run": "stopped", "tool_call": "cancelled"}
    try:
        await chat.service.stop("c", None)
    except ShuttingDown:
        expected = {"run": "started", "tool_call": "asking"}
    await moving
    assert await statuses(chat) == expected


async def test_a_stop_after_the_run_was_left_says_so_until_the_conversation_is_gone(
    start: Start, pad: Pad
) -> None:
    chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools)
    await chat.say("Launch!")
    await asking(chat)
    left = live(chat)
    await chat.service.close()
    with pytest.raises(ShuttingDown, match="shutting down"):
        await left.stop(None)


async def test_a_yes_that_was_stored_as_the_host_ended_is_a_yes(
    start: Start, pad: Pad, tmp_path: Path
) -> None:
    class SlowToTakeAYes(SQLiteStore):
        """Stores an answer when it is let."""

        stores, goes_on = asyncio.Event(), asyncio.Event()

        def write(self, batch: Batch) -> Any:
            decided = any(stored.get("decisions") for _, stored in batch.checkpoints)
            return self._late(batch) if decided else super().write(batch)

        async def _late(self, batch: Batch) -> None:
            self.stores.set()
            await self.goes_on.wait()
            await super().write(batch)

    store = SlowToTakeAYes(tmp_path / "timeline.sqlite")
    chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools, store=store)
    await chat.say("Launch!")
    (row,) = await asking(chat)
    questions = live(chat)._approvals._open
    answering = asyncio.create_task(say_yes(chat, row))
    await store.stores.wait()
    closing = asyncio.create_task(chat.service.close())
    await happens(lambda: not questions)
    store.goes_on.set()
    await answering
    await closing
    assert pad.launched == []
    again = await start(ScriptedEngine("Done."), tools=pad.tools, store=SQLiteStore(store.path))
    await again.service.start()
    await ended(again)
    assert pad.launched == ["moon"], "and nobody was asked twice"


@pytest.mark.parametrize("how", ["moves", "ends"])
async def test_a_prompt_that_was_taken_but_not_begun_runs_at_the_next_host(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(conversation, "_ANSWER_SECONDS", 60)
    engine = ScriptedEngine()
    chat = await start(engine, store=Server(tmp_path))
    taken = [await chat.say("1"), await chat.say("2")]
    assert [body["status"] for body in taken] == ["started", "queued"]
    if how == "moves":
        await chat.service.hand_over("c")
        store = SQLiteStore(tmp_path / "conversations" / "c.sqlite")
    else:
        await chat.service.close()
        store = SQLiteStore(tmp_path / "server.sqlite")
    monkeypatch.undo()
    there = await start(ScriptedEngine("one", "two"), store=store)
    page = await there.join()
    await happens(lambda: not there.service.busy)
    assert await there.texts() == [("user", "1"), ("assistant", "one"), ("user", "2"), ("assistant", "two")]
    runs = {row["id"]: row["props"]["status"] for row in await there.rows() if row["kind"] == "run"}
    assert runs == {body["run_id"]: "finished" for body in taken}
    assert page.closed is None
    assert engine.turns == []
