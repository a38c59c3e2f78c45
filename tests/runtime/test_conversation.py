"""Runs of a conversation: one at a time, in order, and each to its end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.runtime.conftest import Start
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import EngineError, KeyReused, QueueFull, ShuttingDown, StoreUnavailable
from webchat_widget.events import CallRequest, Finish, ThinkingChunk
from webchat_widget.requests import ChatRequest, TimelineQuery
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch
from webchat_widget.tools.loop import Limits


def asks(name: str, arguments: str = "{}") -> list[object]:
    """A script in which the model asks for a tool."""
    return [CallRequest("call_0", name, arguments), Finish("tool_calls")]


async def test_a_run_is_told_from_start_to_end(start: Start) -> None:
    chat = await start(ScriptedEngine([ThinkingChunk("hm"), "Hello", " there"]))
    page = await chat.join()
    run = (await chat.say("hi"))["run_id"]
    await page.until("run.finished")
    assert [t for t in page.types if not t.endswith("delta")] == [
        "ws.hello",
        "run.started",
        "timeline.upsert",
        "llm.thinking.start",
        "llm.thinking.final",
        "llm.start",
        "llm.final",
        "run.finished",
    ]
    ids = [row["id"] for row in await chat.rows()]
    assert ids == [run, f"{run}:user", f"{run}:thinking:1", f"{run}:text:1"]


async def test_what_was_live_is_what_is_stored(start: Start) -> None:
    chat = await start(ScriptedEngine(asks("double", '{"n": 21}'), "42 it is"), tools=(double,))
    page = await chat.join()
    await chat.say("double 21")
    await page.until("run.finished")
    live = await chat.rows()
    await chat.service.close()
    again = await start(store=SQLiteStore(chat.store.path))
    assert await again.rows() == live
    assert [row["kind"] for row in live] == ["run", "message", "tool_call", "tool_result", "message"]


def double(n: int) -> int:
    """Twice n."""
    return 2 * n


async def test_two_prompts_at_once_are_one_run_and_one_in_the_queue(start: Start) -> None:
    gate = asyncio.Event()
    chat = await start(ScriptedEngine(["one", gate], "two"))
    page = await chat.join()
    first, second = await asyncio.gather(chat.say("1"), chat.say("2"))
    assert (first["status"], second["status"], second["queue_position"]) == ("started", "queued", 1)
    gate.set()
    await page.until("run.finished", 2)
    assert await chat.texts() == [("user", "1"), ("assistant", "one"), ("user", "2"), ("assistant", "two")]


async def test_a_hundred_prompts_at_once_run_one_by_one(start: Start) -> None:
    chat = await start(
        ScriptedEngine(*(f"answer {n}" for n in range(100))), settings=RuntimeSettings(queue=100)
    )
    page = await chat.join()
    replies = await asyncio.gather(*(chat.say(str(n)) for n in range(100)))
    await page.until("run.finished", 100)
    started = [event["id"] for event in page.of("run.started")]
    assert started == [reply["run_id"] for reply in replies]
    running = 0
    for type_ in page.types:
        running += (type_ == "run.started") - (type_ == "run.finished")
        assert running in (0, 1)


async def test_a_full_queue_refuses(start: Start) -> None:
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "one"], "two"), settings=RuntimeSettings(queue=1))
    page = await chat.join()
    await chat.say("1")
    await page.until("timeline.upsert")
    await chat.say("2")
    with pytest.raises(QueueFull):
        await chat.say("3")
    gate.set()
    await page.until("run.finished", 2)


async def test_one_key_is_one_run_even_at_the_same_instant(start: Start) -> None:
    chat = await start(ScriptedEngine("only one"))
    page = await chat.join()
    replies = await asyncio.gather(*(chat.say("hi", key="k") for _ in range(20)))
    await page.until("run.finished")
    assert len({reply["run_id"] for reply in replies}) == 1
    assert len(page.of("run.started")) == 1


@pytest.mark.parametrize("users", [("ada", ""), ("", "ada")])
async def test_one_key_is_one_run_whoever_of_those_whose_it_is_asks(
    start: Start, users: tuple[str, str]
) -> None:
    chat = await start(ScriptedEngine("only one", "another"))
    request = ChatRequest(prompt="hi", conv_id="c", key="k", digest="hi")
    first, again = await asyncio.gather(*(chat.service.chat(request, user) for user in users))
    assert (first.replayed, again.replayed) == (False, True)
    assert again.body == first.body


async def test_one_key_of_two_persons_is_two_runs(start: Start) -> None:
    chat = await start(ScriptedEngine("one", "two"))
    request = ChatRequest(prompt="hi", conv_id="c", key="k", digest="hi")
    replies = await asyncio.gather(*(chat.service.chat(request, user) for user in ("ada", "bob")))
    assert [reply.replayed for reply in replies] == [False, False]


async def test_a_key_is_known_while_another_prompt_is_refused_it(start: Start) -> None:
    chat = await start(ScriptedEngine("only one"))
    first = await chat.say("hi", key="k")
    refused, again = await asyncio.gather(
        chat.say("something else", key="k"), chat.say("hi", key="k"), return_exceptions=True
    )
    assert isinstance(refused, KeyReused)
    assert again == first


async def test_a_key_is_free_again_where_its_prompt_was_not_taken(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "failing.sqlite")
    chat = await start(ScriptedEngine(), store=store)
    store.failing = True
    refused = await asyncio.gather(chat.say("1", key="k"), chat.say("2", key="k"), return_exceptions=True)
    assert [type(error) for error in refused] == [StoreUnavailable, StoreUnavailable]


async def test_stop_in_the_middle_of_a_tool_leaves_no_orphan(start: Start) -> None:
    release = threading.Event()

    def slow() -> str:
        """Wait for the test."""
        release.wait(20)
        return "late"

    engine = ScriptedEngine(["Let me see", *asks("slow")], "next")
    chat = await start(engine, tools=(slow,))
    page = await chat.join()
    await chat.say("go")
    await page.until("tool.start")
    await chat.service.stop("c", None)
    release.set()
    await page.until("run.stopped")
    assert page.types[-3:] == ["tool.result", "tool.done", "run.stopped"]
    await chat.say("again")
    await page.until("run.finished")
    assert [m.role for m in engine.turns[-1].messages] == ["user", "assistant", "tool", "user"]


async def test_a_fault_after_some_text_keeps_it(start: Start) -> None:
    fault = EngineError("The line was cut.", code="interrupted", retryable=True)
    chat = await start(ScriptedEngine(["half a", fault]))
    page = await chat.join()
    await chat.say("go")
    await page.until("run.failed")
    rows = {row["kind"]: row["props"] for row in await chat.rows()}
    assert (rows["message"]["content"], rows["message"]["status"]) == ("half a", "interrupted")
    assert rows["error"] == {"message": "The line was cut.", "code": "interrupted", "retryable": True}
    assert rows["run"]["error"] == "The line was cut."


async def test_a_bug_in_an_engine_ends_the_run_with_a_sentence(start: Start) -> None:
    chat = await start(ScriptedEngine(["x", ZeroDivisionError("secret")], "fine"))
    page = await chat.join()
    await chat.say("go")
    await page.until("run.failed")
    (error,) = [row["props"] for row in await chat.rows() if row["kind"] == "error"]
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    await chat.say("next")
    await page.until("run.finished")


async def test_a_model_that_only_calls_tools_stops_at_the_limit(start: Start) -> None:
    chat = await start(
        ScriptedEngine(*(asks("double", '{"n": 1}') for _ in range(3))),
        tools=(double,),
        settings=RuntimeSettings(limits=Limits(rounds=3)),
    )
    page = await chat.join()
    await chat.say("go")
    await page.until("run.failed")
    (error,) = [row["props"] for row in await chat.rows() if row["kind"] == "error"]
    assert error["code"] == "tool_limit"
    assert len(page.of("tool.done")) == 3


async def test_a_run_ends_at_its_time_limit(start: Start) -> None:
    chat = await start(ScriptedEngine(["tick", asyncio.Event()]), settings=RuntimeSettings(run_seconds=0.05))
    page = await chat.join()
    await chat.say("go")
    await page.until("run.failed")
    (error,) = [row["props"] for row in await chat.rows() if row["kind"] == "error"]
    assert error["code"] == "run_timeout"
    assert ("assistant", "tick") in await chat.texts()


async def test_a_model_that_says_nothing_is_reported(start: Start) -> None:
    chat = await start(ScriptedEngine([]))
    page = await chat.join()
    await chat.say("go")
    await page.until("run.finished")
    assert [row["kind"] for row in await chat.rows()] == ["run", "message", "log"]


async def test_closing_interrupts_the_run_and_keeps_the_queue(start: Start) -> None:
    chat = await start(ScriptedEngine(["partial", asyncio.Event()]))
    page = await chat.join()
    cut = await chat.say("1")
    waits = await chat.say("2")
    await page.until("llm.delta")
    await chat.service.close()
    assert page.closed == (1001, "the server is restarting")
    with pytest.raises(ShuttingDown):
        await chat.say("3")
    again = await start(ScriptedEngine("second"), store=SQLiteStore(chat.store.path))
    await again.service.start()
    page = await again.join()
    async with asyncio.timeout(20):
        while "second" not in [text for _, text in await again.texts()]:
            await asyncio.sleep(0)
    rows = {row["id"]: row["props"] for row in await again.rows()}
    assert (rows[cut["run_id"]]["status"], rows[cut["run_id"]]["stopReason"]) == ("failed", "interrupted")
    assert rows[f"{cut['run_id']}:text:1"]["status"] == "interrupted"
    assert rows[f"{waits['run_id']}:text:1"]["content"] == "second"


class FailingStore(SQLiteStore):
    """A store whose writes can be made to fail, as on a full disk, or to wait."""

    failing = False
    held: asyncio.Event | None = None

    def write(self, batch: Batch) -> asyncio.Future[None]:
        if not self.failing and self.held is None:
            return super().write(batch)
        return asyncio.ensure_future(self._write_later(batch, self.held, self.failing))

    async def _write_later(self, batch: Batch, held: asyncio.Event | None, failing: bool) -> None:
        if held is not None:
            await held.wait()
        if failing:
            raise StoreUnavailable("The disk is full.")
        await super().write(batch)


async def test_a_prompt_that_is_not_on_disk_is_not_accepted(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "failing.sqlite")
    engine = ScriptedEngine("answer")
    chat = await start(engine, store=store)
    page = await chat.join()
    store.failing = True
    with pytest.raises(StoreUnavailable):
        await chat.say("lost?", key="k")
    assert await chat.rows() == []
    assert engine.turns == []
    store.failing = False
    await chat.say("lost?", key="k")
    await page.until("run.finished")
    assert await chat.texts() == [("user", "lost?"), ("assistant", "answer")]
    assert page.types.count("timeline.upsert") == 1


async def test_a_disk_that_fails_in_mid_run_is_reported_and_catches_up(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "failing.sqlite")
    gate = asyncio.Event()
    chat = await start(
        ScriptedEngine(["text", gate, CallRequest("x", "none", "{}"), Finish("tool_calls")], "ok"),
        store=store,
    )
    page = await chat.join()
    await chat.say("go")
    await page.until("llm.delta")
    store.failing = True
    gate.set()
    await page.until("run.failed")
    (error,) = [row["props"] for row in await chat.rows() if row["kind"] == "error"]
    assert (error["code"], error["message"]) == ("store_unavailable", "The disk is full.")
    store.failing = False
    await chat.say("again")
    await page.until("run.finished")
    live = await chat.rows()
    await chat.service.close()
    again = await start(store=SQLiteStore(store.path))
    assert await again.rows() == live


async def test_a_prompt_without_any_answer_is_not_remembered(start: Start) -> None:
    engine = ScriptedEngine([EngineError("No.", code="model_refused_request", retryable=False)], "yes")
    chat = await start(engine)
    page = await chat.join()
    await chat.say("one")
    await page.until("run.failed")
    await chat.say("two")
    await page.until("run.finished")
    assert [(m.role, m.content) for m in engine.turns[-1].messages] == [("user", "two")]


async def test_a_stop_in_the_instant_of_the_start_ends_the_run(start: Start) -> None:
    chat = await start(ScriptedEngine("never said", "next"))
    page = await chat.join()
    await chat.say("one")
    async with asyncio.timeout(10):
        await chat.service.stop("c", None)
    await page.until("run.stopped")
    await chat.say("two")
    await page.until("run.finished")


async def test_stop_answers_when_the_end_is_on_disk(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "held.sqlite")
    gate = asyncio.Event()
    chat = await start(ScriptedEngine(["words", gate]), store=store)
    page = await chat.join()
    await chat.say("go")
    await page.until("llm.delta")
    store.held = asyncio.Event()
    gate.set()  # the run ends by itself, and its end waits for the disk
    async with asyncio.timeout(10):
        while chat.service._manager.live("c")._running.at_work:
            await asyncio.sleep(0)
    stopping = asyncio.create_task(chat.service.stop("c", None))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    assert "run.finished" not in page.types
    store.held.set()
    await stopping
    await page.until("run.finished")
    store.held = None


async def test_a_recovery_that_the_disk_refuses_is_done_the_next_time(start: Start, tmp_path: Path) -> None:
    chat = await start(ScriptedEngine(["cut", asyncio.Event()]))
    page = await chat.join()
    cut = await chat.say("1")
    waits = await chat.say("2")
    await page.until("llm.delta")
    await asyncio.sleep(0.3)  # longer than text may wait for the disk
    # As a crash leaves it: the file as it is now, and nobody who closes the run.
    copy = tmp_path / "crashed.sqlite"
    for suffix in ("", "-wal"):
        crashed = Path(chat.store.path + suffix)
        Path(f"{copy}{suffix}").write_bytes(crashed.read_bytes())
    store = FailingStore(copy)
    store.failing = True
    again = await start(ScriptedEngine("second"), store=store)
    with pytest.raises(StoreUnavailable):
        await again.service.start()
    store.failing = False
    await again.service.start()
    async with asyncio.timeout(10):
        while ("assistant", "second") not in await again.texts():
            await asyncio.sleep(0.01)
    runs = {row["id"]: row["props"]["status"] for row in await again.rows() if row["kind"] == "run"}
    assert runs[cut["run_id"]] == "failed"
    assert waits["run_id"] in runs


async def test_a_prompt_is_seen_when_it_is_accepted_and_not_before(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "held.sqlite")
    chat = await start(ScriptedEngine("first", "second"), store=store)
    page = await chat.join()
    await chat.say("one")
    await page.until("run.finished")
    before, _ = await chat.service.timeline(TimelineQuery("c"))
    store.held, store.failing = asyncio.Event(), True
    saying = asyncio.create_task(chat.say("two"))
    await asyncio.sleep(0.05)
    during, _ = await chat.service.timeline(TimelineQuery("c"))
    assert during.entities == before.entities
    assert during.version >= before.version
    store.held.set()
    with pytest.raises(StoreUnavailable):
        await saying
    store.held, store.failing = None, False
    await chat.say("three")
    await page.until("run.finished", 2)
    after, _ = await chat.service.timeline(TimelineQuery("c", since=during.version))
    assert {row["props"].get("prompt", "three") for row in after.entities} == {"three"}
    await chat.service.close()
    again = await start(store=SQLiteStore(store.path))
    assert [text for role, text in await again.texts() if role == "user"] == ["one", "three"]


async def test_those_behind_a_prompt_that_was_not_stored_move_up(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "held.sqlite")
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "1"], "3"), store=store)
    page = await chat.join()
    await chat.say("1")
    await page.until("timeline.upsert")
    store.held, store.failing = asyncio.Event(), True
    lost = asyncio.create_task(chat.say("2"))
    await asyncio.sleep(0)
    held, store.held, store.failing = store.held, None, False
    behind = asyncio.create_task(chat.say("3"))
    await asyncio.sleep(0.05)
    held.set()
    with pytest.raises(StoreUnavailable):
        await lost
    await behind
    async with asyncio.timeout(10):
        while [
            r["props"]["queuePosition"] for r in await chat.rows() if r["props"].get("status") == "queued"
        ] != [1]:
            await asyncio.sleep(0.01)
    gate.set()
    await page.until("run.finished", 2)


async def test_a_damaged_conversation_harms_no_other(start: Start) -> None:
    chat = await start(ScriptedEngine(["cut", asyncio.Event()]))
    page = await chat.join()
    await chat.say("1")
    await page.until("llm.delta")
    await chat.say("2")  # left over for a restart
    await chat.service.close()
    path = chat.store.path
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entities SET props = '{broken'")
    db.close()
    again = await start(ScriptedEngine("fine"), store=SQLiteStore(path))
    await again.service.start()
    page = await again.join("other")
    await again.say("hello", "other")
    await page.until("run.finished")
    with pytest.raises(StoreUnavailable) as error:
        await again.rows("c")
    assert error.value.code == "conversation_unreadable"


async def test_a_close_during_the_start_begins_nothing(start: Start) -> None:
    chat = await start(ScriptedEngine(["cut", asyncio.Event()]))
    page = await chat.join()
    await chat.say("1")
    await chat.say("2")
    await page.until("llm.delta")
    await chat.service.close()
    engine = ScriptedEngine("second")
    again = await start(engine, store=SQLiteStore(chat.store.path))
    starting = asyncio.create_task(again.service.start())
    await asyncio.sleep(0)
    await again.service.close()
    await asyncio.gather(starting, return_exceptions=True)
    assert engine.turns == []
    assert len(again.service._manager) == 0
