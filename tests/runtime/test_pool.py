"""Readers: nobody waits for a slow one, and a slow one gets fewer, larger frames."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.runtime.conftest import Page, Start
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.runtime.pool import ConnectionPool, PoolSettings
from webchat_widget.sem.frames import Control, Delta, Frame
from webchat_widget.sem.text import utf16_len
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch


def deltas(count: int) -> list[Delta]:
    """A text in pieces of one character."""
    return [Delta.of("llm.delta", "m", 1000 + n, n, "x") for n in range(count)]


def pool(**settings: float) -> ConnectionPool:
    """A pool of its own."""
    return ConnectionPool(PoolSettings(**settings), lambda _: "", lambda: None)


HELLO = Control("ws.hello", "c", {})


async def test_what_waits_is_merged_and_loses_nothing() -> None:
    readers = pool()
    page = Page()
    connection = readers.add(page, HELLO, append=True)
    for delta in deltas(1000):
        readers.publish(delta)
    end: Frame = Frame({"type": "llm.final", "id": "m", "seq": 9000, "data": {}})
    readers.publish(end)
    await page.until("llm.final")
    assert len(page.frames) <= 4
    assert "".join(event["data"]["delta"] for event in page.of("llm.delta")) == "x" * 1000
    assert page.of("llm.delta")[-1]["seq"] == 1999
    assert [frame["n"] for frame in page.frames] == list(range(1, len(page.frames) + 1))
    connection.close(1000, "done")


async def test_deltas_are_never_merged_across_another_frame() -> None:
    readers = pool()
    page = Page()
    readers.add(page, HELLO, append=True)
    first, second, third = deltas(3)
    readers.publish(first)
    readers.publish(Frame({"type": "log", "id": "l", "seq": 1500, "data": {}}))
    readers.publish(second)
    readers.publish(third)
    readers.publish(Frame({"type": "llm.final", "id": "m", "seq": 9000, "data": {}}))
    await page.until("llm.final")
    assert page.types == ["ws.hello", "llm.delta", "log", "llm.delta", "llm.final"]
    readers.close(1001, "end")


async def test_one_reader_does_not_change_what_another_gets() -> None:
    readers = pool()
    slow, quick = Page(), Page()
    slow.free.clear()
    readers.add(slow, HELLO, append=True)
    readers.add(quick, HELLO, append=True)
    for delta in deltas(200):
        readers.publish(delta)
        await asyncio.sleep(0)
    readers.publish(Frame({"type": "llm.final", "id": "m", "seq": 9000, "data": {}}))
    await quick.until("llm.final")
    assert slow.frames == []
    slow.free.set()
    await slow.until("llm.final")
    for page in (slow, quick):
        assert "".join(event["data"]["delta"] for event in page.of("llm.delta")) == "x" * 200
    assert len(slow.of("llm.delta")) <= len(quick.of("llm.delta"))
    readers.close(1001, "end")


async def test_a_reader_that_takes_nothing_is_closed_as_too_slow() -> None:
    readers = pool(stall_seconds=0.05)
    page = Page()
    page.free.clear()
    readers.add(page, HELLO, append=True)
    async with asyncio.timeout(20):
        while len(readers):
            await asyncio.sleep(0)
    assert page.closed == (4408, "too slow")


async def test_a_reader_that_takes_a_frame_slowly_but_steadily_is_waited_for() -> None:
    readers = pool(stall_seconds=0.2)
    page = Page()
    page.free.clear()
    readers.add(page, HELLO, append=True)
    for _ in range(40):  # five times as long as a stall
        page.taken += 1
        await asyncio.sleep(0.025)
    assert len(readers) == 1
    page.free.set()
    await page.until("ws.hello")
    readers.close(1001, "end")


async def test_a_loop_that_was_busy_is_no_fault_of_a_reader() -> None:
    readers = pool(stall_seconds=0.4)
    page = Page()
    page.free.clear()
    readers.add(page, HELLO, append=True)
    await asyncio.sleep(0.06)  # it has been looked at
    time.sleep(0.5)  # noqa: ASYNC251 - nobody can take anything meanwhile
    for _ in range(3):
        await asyncio.sleep(0)
    assert page.closed is None
    readers.close(1001, "end")


@pytest.mark.parametrize("text", ["x", "é", "😀"])
async def test_what_is_on_its_way_to_a_reader_counts_and_in_bytes(text: str) -> None:
    readers = pool(outbox_bytes=100_000 * len(text.encode()))
    page = Page()
    readers.add(page, HELLO, append=True)
    await page.until("ws.hello")
    page.free.clear()
    at = 0
    for seq, length in enumerate((60_000, 30_000, 20_000)):
        assert page.closed is None
        readers.publish(Delta.of("llm.delta", "m", seq, at, text * length))
        at += utf16_len(text) * length
        await asyncio.sleep(0.05)  # the first is on its way
    assert page.closed == (4408, "too slow")


async def test_a_stalled_reader_of_the_whole_text_has_it_encoded_once() -> None:
    asked = []

    def text_of(id: str) -> str:
        asked.append(id)
        return "x" * 1000

    readers = ConnectionPool(PoolSettings(), text_of, lambda: None)
    page = Page()
    page.free.clear()
    readers.add(page, HELLO, append=False)
    await asyncio.sleep(0)  # hello is on its way
    for delta in deltas(1000):
        readers.publish(delta)
        await asyncio.sleep(0)
    assert asked == []
    page.free.set()
    await page.until("llm.delta")
    assert asked == ["m"]
    assert page.of("llm.delta")[0]["data"]["cumulative"] == "x" * 1000
    readers.close(1001, "end")


async def test_the_longer_a_text_is_that_is_sent_whole_the_seldomer_it_is_sent() -> None:
    text = "x" * 2_000_000
    readers = ConnectionPool(PoolSettings(), lambda _: text, lambda: None)
    page = Page()
    readers.add(page, HELLO, append=False)
    start = time.monotonic()
    for count in range(1, 3):
        readers.publish(Delta.of("llm.delta", "m", 1000 + count, len(text) - 10 + count, "x"))
        await page.until("llm.delta", count)
    assert time.monotonic() - start > 0.45
    readers.close(1001, "end")


async def test_a_reader_for_whom_too_much_waits_is_closed() -> None:
    readers = pool(outbox_bytes=1000)
    page = Page()
    page.free.clear()
    readers.add(page, HELLO, append=True)
    for delta in deltas(2000):
        readers.publish(delta)
    assert page.closed == (4408, "too slow")


async def test_a_reader_that_is_gone_is_let_go() -> None:
    class Gone(Page):
        async def send(self, frame: bytes) -> None:
            raise ConnectionError("gone")

    readers = pool()
    readers.add(Gone(), HELLO, append=True)
    async with asyncio.timeout(20):
        while len(readers):
            await asyncio.sleep(0)


async def test_an_idle_conversation_leaves_memory_and_comes_back_whole(start: Start) -> None:
    settings = RuntimeSettings(evict_after=0.01, pool=PoolSettings(idle_timeout=0.01))
    chat = await start(ScriptedEngine("hello", "again"), settings=settings)
    await chat.say("hi")
    manager = chat.service._manager
    async with asyncio.timeout(20):
        while len(manager):
            await asyncio.sleep(0.001)
    assert await chat.texts() == [("user", "hi"), ("assistant", "hello")]
    page = await chat.join()
    await chat.say("more")
    await page.until("run.finished")
    assert (await chat.texts())[-1] == ("assistant", "again")


async def test_what_the_disk_kept_in_memory_leaves_it_once_it_is_stored(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(SQLiteStore):
        full = False

        def write(self, batch: Batch) -> asyncio.Future[None]:
            return asyncio.ensure_future(self._refuse()) if self.full else super().write(batch)

        async def _refuse(self) -> None:
            raise StoreUnavailable("The disk is full.")

    store = Full(tmp_path / "full.sqlite")
    settings = RuntimeSettings(evict_after=0.05, pool=PoolSettings(idle_timeout=0.01))
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "done"]), settings=settings, store=store)
    await chat.say("hi")
    store.full = True
    gate.set()
    async with asyncio.timeout(20):
        while "c stays in memory: The disk is full." not in caplog.text:
            await asyncio.sleep(0.01)
        assert len(chat.service._manager) == 1
        store.full = False
        while len(chat.service._manager):
            await asyncio.sleep(0.01)
    assert await chat.texts() == [("user", "hi"), ("assistant", "done")]


async def test_a_conversation_that_runs_or_is_read_stays(start: Start) -> None:
    settings = RuntimeSettings(evict_after=0.01, pool=PoolSettings(idle_timeout=0.01))
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "done"]), settings=settings)
    await chat.say("hi", "runs")
    page = await chat.join("read")
    await asyncio.sleep(0.1)  # ten times what it takes an idle one to go
    assert chat.service._manager.live("runs") is not None
    assert chat.service._manager.live("read") is not None
    gate.set()
    del page


async def test_the_seeds_form_carries_the_whole_text(start: Start) -> None:
    chat = await start(ScriptedEngine(["a", "b", "c"]))
    page = await chat.join(append=False)
    await chat.say("hi")
    await page.until("run.finished")
    assert page.of("llm.delta")[-1]["data"]["cumulative"] == "abc"


async def test_pings_that_nobody_reads_the_answers_of_pile_up_nothing() -> None:
    readers = pool()
    page = Page()
    page.free.clear()
    connection = readers.add(page, HELLO, append=True)
    await asyncio.sleep(0)
    for _ in range(10_000):
        connection.answer(Control("ws.pong", "c", {"version": 0}))
    assert len(connection._outbox) <= 2
    readers.close(1001, "end")
