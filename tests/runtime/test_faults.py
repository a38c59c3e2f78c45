"""What goes wrong around a conversation: each fault stays where it is, and nothing false is said of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.runtime.conftest import Start
from webchat_widget.engines.function import FunctionEngine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.events import TextChunk, ThinkingChunk, Upserted
from webchat_widget.requests import EventRequest, TimelineQuery
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch, Loaded, PendingRun
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Message, Turn


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


# -- a restart ---------------------------------------------------------------------------------------

PROMPT = {"prompt": "cut", "conv_id": None, "key": None, "digest": ""}
MISSHAPEN = {
    "a run without a prompt": Batch(conv_id="bad", version=1, pending=(PendingRun("r", 1, False, {}),)),
    "a message without a role": Batch(
        conv_id="bad",
        version=1,
        pending=(PendingRun("r", 1, True, PROMPT),),
        rows=(
            {"id": "r:text:1", "kind": "message", "createdSeq": 1, "version": 1, "props": {"content": "x"}},
        ),
    ),
}


@pytest.mark.parametrize("left", MISSHAPEN)
async def test_json_that_is_no_conversation_harms_no_other(
    start: Start, store: FaultyStore, left: str
) -> None:
    await store.write(MISSHAPEN[left])
    chat = await start(ScriptedEngine("fine"), store=store)
    await chat.service.start()
    page = await chat.join()
    await chat.say("hello")
    await page.until("run.finished")
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as error:
            await chat.rows("bad")
        assert error.value.code == "conversation_unreadable"


class SlowToLoad(SQLiteStore):
    """A store in which one conversation takes a while to be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read = asyncio.Event()

    async def load(self, conv_id: str) -> Loaded | None:
        if conv_id == "slow":
            await self.read.wait()
        return await super().load(conv_id)


async def test_only_who_asks_for_a_conversation_waits_until_it_is_recovered(
    start: Start, tmp_path: Path
) -> None:
    store = SlowToLoad(tmp_path / "slow.sqlite")
    for conv_id in ("slow", "quick"):
        cut = PendingRun(f"{conv_id}-run", 1, True, PROMPT)
        await store.write(Batch(conv_id=conv_id, version=1, pending=(cut,)))
    chat = await start(store=store)
    starting = asyncio.create_task(chat.service.start())
    waiting = asyncio.create_task(chat.rows("slow"))
    async with asyncio.timeout(10):
        assert [row["kind"] for row in await chat.rows("quick")] == ["error", "run"]
        assert await chat.rows("another") == []
    assert not waiting.done()
    store.read.set()
    assert [row["kind"] for row in await waiting] == ["error", "run"]
    await starting


async def test_a_queued_prompt_outlives_a_close_in_the_middle_of_a_recovery(
    start: Start, store: FaultyStore
) -> None:
    cut, waits = PendingRun("cut", 1, True, PROMPT), PendingRun("waits", 2, False, PROMPT)
    await store.write(Batch(conv_id="c", version=2, pending=(cut, waits)))
    chat = await start(store=store)
    store.held = held = asyncio.Event()
    starting = asyncio.create_task(chat.service.start())
    await asyncio.sleep(0.05)  # the end of the run that was cut is being stored
    closing = asyncio.create_task(chat.service.close())
    await asyncio.sleep(0)
    store.held = None
    held.set()
    await closing
    await asyncio.wait([starting])
    again = await start(ScriptedEngine("second"), store=SQLiteStore(store.path))
    page = await again.join()
    async with asyncio.timeout(10):
        while ("assistant", "second") not in await again.texts():
            await page.until("run.finished")
    runs = {row["id"]: row["props"]["status"] for row in await again.rows() if row["kind"] == "run"}
    assert runs == {"cut": "failed", "waits": "finished"}


# -- what is no JSON ---------------------------------------------------------------------------------


async def test_a_row_that_is_no_json_is_refused_before_it_is_one(start: Start) -> None:
    chat = await start(ScriptedEngine("fine"))
    page = await chat.join()
    stream = chat.service._manager.live("c").stream
    with pytest.raises(TypeError):
        stream.emit(Upserted(id="x", kind="note", props={"x": object()}))
    assert await chat.rows() == []
    await chat.say("hello")
    await page.until("run.finished")


async def test_a_turn_that_is_no_json_keeps_nothing_else_from_the_disk(start: Start) -> None:
    chat = await start(ScriptedEngine("fine"))
    page = await chat.join()
    stream = chat.service._manager.live("c").stream
    with pytest.raises(TypeError):
        await stream.emit(
            Upserted(id="x", kind="note", props={"x": 1}),
            turns=(("r", (Message("assistant", carried=({"x": object()},)),)),),
        )
    await chat.say("hello")
    await page.until("run.finished")
    live = await chat.rows()
    await chat.service.close()
    again = await start(store=SQLiteStore(chat.store.path))
    assert await again.rows() == live


# -- rows of a person's own --------------------------------------------------------------------------


async def test_a_change_that_is_not_stored_leaves_the_row_as_it_was(start: Start, store: FaultyStore) -> None:
    chat = await start(store=store)
    page = await chat.join()
    await chat.service.emit("c", EventRequest("note", "a", {"v": 1}))
    await chat.service.emit("c", EventRequest("note", "b", {"v": 1}))
    before, _ = await chat.service.timeline(TimelineQuery("c"))
    store.held, store.fault = held, _ = asyncio.Event(), FULL
    lost = asyncio.create_task(chat.service.emit("c", EventRequest("note", "a", {"v": 2, "w": 2})))
    await asyncio.sleep(0.05)
    store.held = store.fault = None
    behind = asyncio.create_task(chat.service.emit("c", EventRequest("note", "a", {"v": 3})))
    during, _ = await chat.service.timeline(TimelineQuery("c"))
    assert during.entities == before.entities
    held.set()
    with pytest.raises(StoreUnavailable):
        await lost
    await behind
    rows = await chat.rows()
    assert [row["props"] for row in rows] == [{"v": 3}, {"v": 1}]
    sent = [event["data"]["entity"]["props"] for event in page.of("timeline.upsert")]
    assert sent == [{"v": 1}, {"v": 1}, {"v": 3}]
    await chat.service.close()
    again = await start(store=SQLiteStore(store.path))
    assert await again.rows() == rows


# -- the end of a run --------------------------------------------------------------------------------


async def test_stop_says_nothing_false_of_an_end_that_is_not_stored(start: Start, store: FaultyStore) -> None:
    chat = await start(ScriptedEngine(["words", asyncio.Event()]), store=store)
    page = await chat.join()
    run = (await chat.say("hi"))["run_id"]
    await page.until("llm.delta")
    store.fault = FULL
    for which in (None, run, None):
        with pytest.raises(StoreUnavailable, match="full") as refused:
            await chat.service.stop("c", which)
        assert refused.value.code == "end_not_stored"
    await page.until("run.stopped")
    store.fault = None
    await chat.service.stop("c", run)
    stored = await SQLiteStore.load(store, "c")
    assert stored is not None
    assert stored.pending == []
    assert {row["id"]: row["props"].get("status") for row in stored.rows}[run] == "stopped"


async def test_stop_says_that_a_prompt_has_left_the_queue_though_that_is_not_stored(
    start: Start, store: FaultyStore
) -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine([gate, "one"], "two")
    chat = await start(engine, store=store)
    page = await chat.join()
    await chat.say("1")
    waits = (await chat.say("2"))["run_id"]
    store.fault = FULL
    with pytest.raises(StoreUnavailable) as refused:
        await chat.service.stop("c", waits)
    assert refused.value.code == "end_not_stored"
    store.fault = None
    gate.set()
    await page.until("run.finished")
    await chat.service.stop("c", waits)
    assert not chat.service.busy
    assert len(engine.turns) == 1


async def test_stop_of_what_ended_long_ago_does_not_say_that_it_was_not_stored(
    start: Start, store: FaultyStore
) -> None:
    """What can't be stored is another's."""
    chat = await start(ScriptedEngine("one"), store=store)
    page = await chat.join()
    run = (await chat.say("hi"))["run_id"]
    await page.until("run.finished")
    store.fault = FULL
    with pytest.raises(StoreUnavailable):
        await chat.service._manager.live("c").stream.emit(Upserted(id="lost", kind="note", props={}))
    for which in (None, run):
        with pytest.raises(StoreUnavailable) as refused:
            await chat.service.stop("c", which)
        assert refused.value.code == "store_unavailable"


async def test_a_flush_says_nothing_false_of_what_another_write_takes_along(
    start: Start, store: FaultyStore
) -> None:
    """As the start of the next run does with the end of one that could not be stored."""
    chat = await start(ScriptedEngine("one"), store=store)
    page = await chat.join()
    await chat.say("hi")
    await page.until("run.finished")
    stream = chat.service._manager.live("c").stream
    store.fault = FULL
    with pytest.raises(StoreUnavailable):
        await stream.emit(Upserted(id="lost", kind="note", props={}))
    store.held = held = asyncio.Event()
    other = asyncio.ensure_future(stream.emit(Upserted(id="other", kind="note", props={})))
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0.05)
    assert not flushing.done()
    held.set()
    for waiting in (other, flushing):
        with pytest.raises(StoreUnavailable):
            await waiting


async def test_a_flush_waits_for_what_is_on_its_way(start: Start, store: FaultyStore) -> None:
    chat = await start(ScriptedEngine(["words", asyncio.Event()]), store=store)
    page = await chat.join()
    await chat.say("hi")
    await page.until("llm.delta")
    stream = chat.service._manager.live("c").stream
    store.held, store.fault = held, _ = asyncio.Event(), FULL
    async with asyncio.timeout(10):
        while stream._dirty:
            await asyncio.sleep(0.01)
    store.held = store.fault = None
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0.05)
    assert not flushing.done()
    held.set()
    await flushing
    stored = await store.load("c")
    assert stored is not None
    assert stored.rows[-1]["props"]["content"] == "words"


async def test_a_flush_waits_for_no_later_write_and_leaves_nothing_to_one(
    start: Start, store: FaultyStore
) -> None:
    chat = await start(store=store)
    await chat.join()
    stream = chat.service._manager.live("c").stream

    def note(id: str, held: asyncio.Event | None, fault: Exception | None = None) -> asyncio.Future[None]:
        store.held, store.fault = held, fault
        return asyncio.ensure_future(stream.emit(Upserted(id=id, kind="note", props={})))

    gates = [asyncio.Event() for _ in range(3)]
    lost = note("lost", gates[0], FULL)
    before = note("before", gates[1])
    gates[0].set()
    with pytest.raises(StoreUnavailable):
        await lost
    store.held = None
    flushing = asyncio.create_task(stream.flush())
    await asyncio.sleep(0)
    after = note("after", gates[2])
    gates[1].set()
    await asyncio.wait([flushing], timeout=10)
    done = before.done(), flushing.done(), after.done()
    stored = await store.load("c")
    gates[2].set()
    await asyncio.gather(flushing, after)
    assert done == (True, True, False)
    assert stored is not None
    assert {row["id"] for row in stored.rows} == {"lost", "before"}


# -- readers of the newest rows ----------------------------------------------------------------------


async def test_a_frame_that_changes_an_older_row_says_where_that_was_made(start: Start) -> None:
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "one"], "two"))
    page = await chat.join()
    await chat.say("1")
    waits = (await chat.say("2"))["run_id"]
    gate.set()
    await page.until("run.finished", 2)
    for v in (1, 2):
        await chat.service.emit("c", EventRequest("note", "a", {"v": v}))
    await page.until("timeline.upsert", 4)
    made = {row["id"]: row["createdSeq"] for row in await chat.rows()}
    told = [
        (event["type"], event.get("createdSeq")) for event in page.of("run.queued") + page.of("run.started")
    ]
    assert told == [("run.queued", None), ("run.started", None), ("run.started", made[waits])]
    assert [event["createdSeq"] for event in page.of("run.finished")] == sorted(
        made[event["id"]] for event in page.of("run.finished")
    )
    assert [event.get("createdSeq") for event in page.of("timeline.upsert")][-2:] == [
        None,
        made["event:note:a"],
    ]


# -- engines that do as they like --------------------------------------------------------------------


async def test_an_engine_that_will_not_end_holds_up_neither_stop_nor_what_follows(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webchat_widget.runtime.conversation._END_SECONDS", 0.1)
    released, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(turn: Turn) -> AsyncIterator[str]:
        yield "x"
        if len(turn.messages) > 1:
            return
        try:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()
            yield "late"
            yield "later"
        finally:
            ended.set()

    chat = await start(FunctionEngine(stubborn))
    page = await chat.join()
    await chat.say("hi")
    await page.until("llm.delta")
    async with asyncio.timeout(10):
        await chat.service.stop("c", None)
    await chat.say("next")
    await page.until("run.finished")
    before, sent = await chat.rows(), len(page.frames)
    released.set()
    await ended.wait()
    await asyncio.sleep(0.05)
    assert await chat.rows() == before
    assert len(page.frames) == sent
    assert [text for role, text in await chat.texts() if role == "assistant"] == ["x", "x"]


async def test_an_engine_that_never_waits_can_be_stopped(start: Start) -> None:
    async def endless(turn: Turn) -> AsyncIterator[str]:
        while True:
            yield "x"

    chat = await start(FunctionEngine(endless))
    page = await chat.join()
    await chat.say("hi")
    await page.until("llm.delta")
    await chat.service.stop("c", None)
    await page.until("run.stopped")


async def test_an_empty_piece_of_text_is_no_message(start: Start) -> None:
    chat = await start(ScriptedEngine([ThinkingChunk(""), TextChunk(""), "Hel", ThinkingChunk(""), "lo"]))
    page = await chat.join()
    await chat.say("hi")
    await page.until("run.finished")
    assert await chat.texts() == [("user", "hi"), ("assistant", "Hello")]


# -- kernels that are gone ---------------------------------------------------------------------------


async def test_what_a_notebook_brought_goes_with_its_kernel(start: Start) -> None:
    chat = await start()
    await chat.join("read")
    lost: set[str] = set()
    for conv_id in ("gone", "read", "there"):
        chat.service.equip(conv_id, ToolRegistry(), {"df": "a text"}, gone=lambda id=conv_id: id in lost)
    lost |= {"gone", "read"}
    chat.service.equip("new", ToolRegistry(), {"df": "a text"})
    assert set(chat.service._manager._equipment) == {"read", "there", "new"}


async def test_a_notebook_that_brings_nothing_leaves_nothing(start: Start) -> None:
    chat = await start()
    chat.service.equip("c", ToolRegistry(), {"df": "a text"})
    for conv_id in ("c", "other"):
        chat.service.equip(conv_id, ToolRegistry(), {})
    assert chat.service._manager._equipment == {}
