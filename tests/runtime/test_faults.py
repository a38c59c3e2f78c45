"""What goes wrong around a conversation: each fault stays where it is, and nothing false is said of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.runtime.conftest import Start
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch


class FaultyStore(SQLiteStore):
    """A store whose writes wait for `held`, and then raise `fault`, as these are when they are handed in."""

    fault: Exception | None = None
    held: asyncio.Event | None = None

    def write(self, batch: Batch) -> asyncio.Future[None]:
        if self.fault is None and self.held is None:
            return super().write(batch)
        return asyncio.ensure_future(self._late(batch, self.held, self.fault))

    async def _late(self, batch: Batch, held: asyncio.Event | None, fault: Exception | None) -> None:
        if held is not None:
            await held.wait()
        if fault is not None:
            raise fault
        await super().write(batch)


FULL = StoreUnavailable("The disk is full.")


@pytest.fixture
def store(tmp_path: Path) -> FaultyStore:
    return FaultyStore(tmp_path / "faulty.sqlite")


# -- prompts -----------------------------------------------------------------------------------------


async def test_a_prompt_that_a_bug_kept_from_the_disk_is_not_run(start: Start, store: FaultyStore) -> None:
    engine = ScriptedEngine("answer")
    chat = await start(engine, store=store)
    page = await chat.join()
    store.fault = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await chat.say("lost")
    store.fault = None
    await chat.say("kept")
    await page.until("run.finished")
    assert [message.content for turn in engine.turns for message in turn.messages] == ["kept"]
    assert await chat.texts() == [("user", "kept"), ("assistant", "answer")]


@pytest.mark.parametrize("fault", [None, FULL])
async def test_a_prompt_whose_sender_hung_up_is_taken_if_the_disk_takes_it(
    start: Start, store: FaultyStore, fault: Exception | None
) -> None:
    engine = ScriptedEngine("one", "two")
    chat = await start(engine, store=store)
    page = await chat.join()
    store.held, store.fault = held, _ = asyncio.Event(), fault
    saying = asyncio.create_task(chat.say("first"))
    await asyncio.sleep(0.05)
    saying.cancel()
    await asyncio.wait([saying])
    assert engine.turns == []
    store.held = store.fault = None
    held.set()
    await chat.say("second")
    await page.until("run.finished", 2 if fault is None else 1)
    prompts = [text for role, text in await chat.texts() if role == "user"]
    assert prompts == (["first", "second"] if fault is None else ["second"])
    assert len(engine.turns) == len(prompts)


async def test_stop_of_a_prompt_that_is_not_stored_leaves_no_trace_of_it(
    start: Start, store: FaultyStore
) -> None:
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "one"]), store=store)
    page = await chat.join()
    await chat.say("first")
    await page.until("timeline.upsert")
    store.held, store.fault = held, _ = asyncio.Event(), FULL
    lost = asyncio.create_task(chat.say("second"))
    await asyncio.sleep(0.05)
    store.held = store.fault = None
    gate.set()
    async with asyncio.timeout(10):
        while chat.service._manager.live("c")._queue:
            await asyncio.sleep(0)
    stopping = asyncio.create_task(chat.service.stop("c", None))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    held.set()
    with pytest.raises(StoreUnavailable):
        await lost
    await stopping
    assert await chat.texts() == [("user", "first"), ("assistant", "one")]
    assert [row["id"] for row in await chat.rows() if row["kind"] == "run"] == [
        page.of("run.started")[0]["id"]
    ]
