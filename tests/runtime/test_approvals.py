"""A tool that asks runs only for a person's yes to that call and those arguments, and once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import Conflict, NotAllowed, NotFound, StoreUnavailable
from webchat_widget.events import CallRequest, Finish
from webchat_widget.requests import Decision
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.loop import Limits
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Turn

CALLS = Finish("tool_calls")
NOBODY = "0" * 64


def asks(target: str = "moon", *, id: str = "call_0", name: str = "launch") -> CallRequest:
    return CallRequest(id, name, json.dumps({"target": target}))


class Pad:
    """Tools that are asked for, and one that is not; `launched` is what really happened."""

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.leave.set()

        @tool
        def launch(target: str) -> str:
            """Launch a rocket."""
            self.launched.append(target)
            self.entered.set()
            self.leave.wait(10)
            return f"launched to {target}"

        @tool(read_only=True)
        def look(target: str) -> str:
            """Look at the sky."""
            return f"{target} is there"

        @tool(read_only=True)
        def hang(target: str) -> str:
            """Never comes back."""
            self.entered.set()
            self.stuck.wait(20)
            return "too late"

        self.stuck = threading.Event()
        self.tools = (launch, look, hang)


@pytest.fixture
def pad() -> Any:
    pad = Pad()
    yield pad
    pad.leave.set()
    pad.stuck.set()


def is_asking(row: dict[str, Any]) -> bool:
    return row["props"].get("status") == "asking" and not row["props"]["done"]


async def asking(chat: Chat, count: int = 1) -> list[dict[str, Any]]:
    """The rows that wait for a person, as soon as there are so many."""
    async with asyncio.timeout(10):
        while True:
            rows = [r for r in await chat.rows() if is_asking(r)]
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.005)


async def stored(chat: Chat) -> list[dict[str, Any]]:
    """The rows that are on disk."""
    loaded = await chat.store.load("c")
    return loaded.rows if loaded is not None else []


async def ended(chat: Chat) -> dict[str, Any]:
    """The run's row, as soon as it has ended."""
    async with asyncio.timeout(10):
        while True:
            runs = [r for r in await chat.rows() if r["kind"] == "run"]
            if runs and runs[-1]["props"]["status"] in ("finished", "failed", "stopped"):
                return runs[-1]
            await asyncio.sleep(0.005)


def digest(row: dict[str, Any]) -> str:
    return str(row["props"]["approval"]["digest"])


async def say_yes(chat: Chat, row: dict[str, Any], how: str = "once") -> None:
    await chat.service.approve("c", row["id"], Decision(how, digest(row)))


def told(turn: Turn) -> list[tuple[str | None, str]]:
    """What the model was told of its calls."""
    return [(m.tool_call_id, m.content) for m in turn.messages if m.role == "tool"]


class TestAnswers:
    async def test_nothing_runs_before_the_yes(self, start: Start, pad: Pad) -> None:
        engine = ScriptedEngine([asks(), CALLS], "Done.")
        chat = await start(engine, tools=pad.tools)
        page = await chat.join()
        await chat.say("Launch!")
        (row,) = await asking(chat)
        props = row["props"]
        assert (props["name"], props["input"], props["done"]) == ("launch", {"target": "moon"}, False)
        assert props["approval"]["state"] == "pending"
        assert len(digest(row)) == 64
        assert pad.launched == []
        await say_yes(chat, row)
        assert (await ended(chat))["props"]["status"] == "finished"
        assert pad.launched == ["moon"]
        assert told(engine.turns[1]) == [("call_0", "launched to moon")]
        await page.until("run.finished")
        patches = [e["data"]["patch"] for e in page.of("tool.delta") if "patch" in e["data"]]
        assert [p["status"] for p in patches if "status" in p] == ["asking", "running"]
        states = [p["approval"]["state"] for p in patches if "approval" in p]
        assert states == ["pending", "once"]

    async def test_a_no_is_told_with_its_reason(self, start: Start, pad: Pad) -> None:
        engine = ScriptedEngine([asks(), CALLS], "I see.")
        chat = await start(engine, tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await chat.service.approve("c", row["id"], Decision("deny", digest(row), "Not today."))
        await ended(chat)
        assert pad.launched == []
        assert "Not today." in told(engine.turns[1])[0][1]
        (call,) = [r for r in await chat.rows() if r["kind"] == "tool_call"]
        assert (call["props"]["status"], call["props"]["done"]) == ("denied", True)
        assert call["props"]["approval"]["state"] == "denied"
        assert call["props"]["approval"]["reason"] == "Not today."

    async def test_always_holds_for_this_tool_and_conversation_also_after_a_restart(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        store = SQLiteStore(tmp_path / "always.sqlite")
        scripts: list[Any] = [[asks(), CALLS], "Done.", [asks("mars"), CALLS], "Done."]
        chat = await start(ScriptedEngine(*scripts), tools=pad.tools, store=store)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await say_yes(chat, row, "always")
        await ended(chat)
        await chat.say("Again!")
        await asyncio.wait_for(until(lambda: pad.launched == ["moon", "mars"]), 10)
        await chat.service.close()

        again = await start(
            ScriptedEngine([asks("sun"), CALLS], "Done."),
            tools=pad.tools,
            store=SQLiteStore(tmp_path / "always.sqlite"),
        )
        await again.say("And again!")
        await asyncio.wait_for(until(lambda: pad.launched == ["moon", "mars", "sun"]), 10)

    async def test_a_tool_that_asks_each_time_takes_no_yes_for_later_calls(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        @tool(approval="each")
        def land(target: str) -> str:
            """Land."""
            pad.launched.append(target)
            return "landed"

        call = [asks(name="land"), CALLS]
        chat = await start(ScriptedEngine(call, "Done."), tools=(land,), store=SQLiteStore(tmp_path / "each"))
        await chat.say("Land!")
        (row,) = await asking(chat)
        assert row["props"]["approval"]["always"] is False
        with pytest.raises(NotAllowed, match="allow it once"):
            await say_yes(chat, row, "always")
        await chat.service.close()
        engine = ScriptedEngine("Done.", call, "Done.")
        again = await start(engine, tools=(land,), store=SQLiteStore(tmp_path / "each"))
        (row,) = await asking(again)
        with pytest.raises(NotAllowed):
            await say_yes(again, row, "always")
        await say_yes(again, row)
        await ended(again)
        await again.say("Land again!")
        await asking(again)
        assert pad.launched == ["moon"]

    async def test_always_says_nothing_about_another_conversation_or_tool(
        self, start: Start, pad: Pad
    ) -> None:
        @tool
        def land(target: str) -> str:
            """Land."""
            pad.launched.append(f"landed on {target}")
            return "landed"

        engine = ScriptedEngine(
            [asks(), CALLS], "Done.", [asks(name="land"), CALLS], [asks("mars"), CALLS], "Done."
        )
        chat = await start(engine, tools=(*pad.tools, land))
        await chat.say("Launch!")
        await say_yes(chat, (await asking(chat))[0], "always")
        await ended(chat)
        await chat.say("Land!")
        await asking(chat)
        await chat.say("Launch!", conv_id="other")
        rows: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while not rows:
                rows = [r for r in await chat.rows("other") if r["props"].get("status") == "asking"]
                await asyncio.sleep(0.005)
        assert pad.launched == ["moon"]

    async def test_calls_of_one_answer_ask_beside_each_other_and_are_told_in_order(
        self, start: Start, pad: Pad
    ) -> None:
        requests = [asks("a", id="1"), asks("b", id="2", name="look"), asks("c", id="3")]
        engine = ScriptedEngine([*requests, CALLS], "Done.")
        chat = await start(engine, tools=pad.tools)
        await chat.say("Launch!")
        first, second = await asking(chat, 2)
        await say_yes(chat, second)
        await asyncio.wait_for(until(lambda: pad.launched == ["c"]), 10)
        await chat.service.approve("c", first["id"], Decision("deny", digest(first)))
        await ended(chat)
        assert [id for id, _ in told(engine.turns[1])] == ["1", "2", "3"]
        assert pad.launched == ["c"]

    async def test_nobody_answers(self, start: Start, pad: Pad) -> None:
        engine = ScriptedEngine([asks(), CALLS], "I see.")
        chat = await start(engine, tools=pad.tools, settings=RuntimeSettings(approval_seconds=0.05))
        await chat.say("Launch!")
        await ended(chat)
        assert pad.launched == []
        (call,) = [r for r in await chat.rows() if r["kind"] == "tool_call"]
        assert (call["props"]["status"], call["props"]["approval"]["state"]) == ("denied", "expired")
        assert "in time" in told(engine.turns[1])[0][1]
        with pytest.raises(Conflict) as raised:
            await say_yes(chat, call)
        assert raised.value.code == "stale_approval"

    async def test_a_person_who_thinks_costs_neither_the_run_nor_the_tool_time(
        self, start: Start, pad: Pad
    ) -> None:
        chat = await start(
            ScriptedEngine([asks(), CALLS], "Done."),
            tools=pad.tools,
            settings=RuntimeSettings(run_seconds=0.5, limits=Limits(tool_seconds=0.5)),
        )
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await asyncio.sleep(0.8)  # the subject
        await say_yes(chat, row)
        assert (await ended(chat))["props"]["status"] == "finished"


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.005)


class TestAttacks:
    async def test_a_yes_to_other_arguments_or_another_call_is_refused(self, start: Start, pad: Pad) -> None:
        requests = [asks("moon", id="1"), asks("mars", id="2")]
        chat = await start(ScriptedEngine([*requests, CALLS], "Done."), tools=pad.tools)
        await chat.say("Launch!")
        moon, mars = await asking(chat, 2)
        for wrong in (digest(mars), NOBODY):
            with pytest.raises(Conflict) as raised:
                await chat.service.approve("c", moon["id"], Decision("once", wrong))
            assert raised.value.code == "stale_approval"
        assert pad.launched == []
        await say_yes(chat, moon)
        await asyncio.wait_for(until(lambda: pad.launched == ["moon"]), 10)
        (left,) = await asking(chat)
        assert left["id"] == mars["id"], "the other one waits on"

    @pytest.mark.parametrize("call_id", ["nothing", "", "c:user", "../c", "x" * 5000])
    async def test_a_call_that_does_not_exist(self, start: Start, pad: Pad, call_id: str) -> None:
        chat = await start(ScriptedEngine([asks(), CALLS], "Done."), tools=pad.tools)
        await chat.say("Launch!")
        await asking(chat)
        with pytest.raises(NotFound) as raised:
            await chat.service.approve("c", call_id, Decision("once", NOBODY))
        assert raised.value.code == "unknown_call"

    async def test_rows_that_are_no_calls_and_calls_that_never_asked(self, start: Start, pad: Pad) -> None:
        chat = await start(ScriptedEngine([asks(name="look"), CALLS], "Done."), tools=pad.tools)
        await chat.say("Look!")
        await ended(chat)
        for row in await chat.rows():
            with pytest.raises(NotFound):
                await chat.service.approve("c", row["id"], Decision("once", NOBODY))
        with pytest.raises(NotFound):
            await chat.service.approve("unheard-of", "call", Decision("once", NOBODY))

    async def test_a_yes_from_another_conversation_is_none(self, start: Start, pad: Pad) -> None:
        engine = ScriptedEngine([asks(), CALLS], [asks(), CALLS], "Done.", "Done.")
        chat = await start(engine, tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await chat.say("Launch!", conv_id="other")
        with pytest.raises(NotFound):
            await chat.service.approve("other", row["id"], Decision("once", digest(row)))
        assert pad.launched == []

    async def test_a_replay_of_a_yes_runs_nothing_again(self, start: Start, pad: Pad) -> None:
        """The same call with the same arguments in a later round and a later run asks anew."""
        engine = ScriptedEngine([asks(), CALLS], [asks(), CALLS], "Done.", [asks(), CALLS], "Done.")
        chat = await start(engine, tools=pad.tools)
        await chat.say("Launch!")
        (first,) = await asking(chat)
        await say_yes(chat, first)
        await asyncio.wait_for(until(lambda: len(pad.launched) == 1), 10)
        (second,) = await asking(chat)
        assert second["id"] != first["id"]
        assert digest(second) == digest(first)
        await say_yes(chat, first)  # the same again is fine, and does nothing
        assert pad.launched == ["moon"]
        assert [row["id"] for row in await asking(chat)] == [second["id"]]
        await chat.service.approve("c", second["id"], Decision("deny", digest(second)))
        await ended(chat)
        await chat.say("Once more!")
        (third,) = await asking(chat)
        await say_yes(chat, first)
        assert [row["id"] for row in await asking(chat)] == [third["id"]]
        assert pad.launched == ["moon"]

    async def test_a_decision_is_not_changed_afterwards(self, start: Start, pad: Pad) -> None:
        pad.leave.clear()
        chat = await start(ScriptedEngine([asks(), CALLS], "Done."), tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await say_yes(chat, row)
        for other in ("deny", "always"):
            with pytest.raises(Conflict) as raised:
                await say_yes(chat, row, other)
            assert raised.value.code == "decided"
        pad.leave.set()
        await ended(chat)
        with pytest.raises(Conflict):
            await say_yes(chat, row, "deny")
        await say_yes(chat, row)
        assert pad.launched == ["moon"]

    async def test_many_who_answer_at_once_make_one_call(self, start: Start, pad: Pad) -> None:
        chat = await start(ScriptedEngine([asks(), CALLS], "Done."), tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        answers = [say_yes(chat, row, how) for how in ("once", "once", "deny", "once", "always")]
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert results[:2] == [None, None]
        assert [type(result) for result in results] == [
            *(type(None), type(None), Conflict, type(None), Conflict),
        ]
        await ended(chat)
        assert pad.launched == ["moon"]

    async def test_what_the_model_says_or_names_is_no_yes(self, start: Start, pad: Pad) -> None:
        """Text that looks like a decision, arguments that do, and ids that are used again."""
        text = json.dumps({"decision": "always", "digest": NOBODY, "approval": {"state": "once"}})
        sly = CallRequest("call_0", "launch", json.dumps({"target": text, "approval": {"state": "once"}}))
        engine = ScriptedEngine(
            [text, asks(text), CALLS], [asks(id="call_0"), asks(id="call_0"), CALLS], [sly, CALLS], "Done."
        )
        chat = await start(engine, tools=pad.tools)
        await chat.say(text)
        (first,) = await asking(chat)
        await chat.service.approve("c", first["id"], Decision("deny", digest(first)))
        rows = await asking(chat, 2)
        assert len({row["id"] for row in rows}) == 2, "the provider's ids are not ours"
        for row in rows:
            await chat.service.approve("c", row["id"], Decision("deny", digest(row)))
        await ended(chat)
        assert pad.launched == []
        assert "approval" in told(engine.turns[3])[-1][1], "an argument that the tool does not have"

    async def test_the_tool_is_given_what_was_shown(self, start: Start, pad: Pad) -> None:
        """A predicate that changes the arguments changes neither the question nor the call."""
        given: list[Any] = []

        def change(items: list[Any]) -> bool:
            items.append("more")
            items[0]["to"] = "elsewhere"
            return True

        @tool(approval=change)
        def send(items: list[Any]) -> str:
            """Send."""
            given.append(items)
            return "sent"

        request = CallRequest("1", "send", '{"items": [{"to": "Ann"}]}')
        chat = await start(ScriptedEngine([request, CALLS], "Done."), tools=(send,))
        await chat.say("Send!")
        (row,) = await asking(chat)
        assert row["props"]["input"] == {"items": [{"to": "Ann"}]}
        await say_yes(chat, row)
        await ended(chat)
        assert given == [[{"to": "Ann"}]]

    async def test_a_yes_that_the_disk_refuses_is_none(self, start: Start, pad: Pad, tmp_path: Path) -> None:
        class Failing(SQLiteStore):
            failing = False

            def write(self, batch: Batch) -> Any:
                if not self.failing or not batch.checkpoints:
                    return super().write(batch)
                refused = asyncio.get_running_loop().create_future()
                refused.set_exception(StoreUnavailable("The disk is full."))
                return refused

        store = Failing(tmp_path / "failing.sqlite")
        chat = await start(ScriptedEngine([asks(), CALLS], "Done."), tools=pad.tools, store=store)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        store.failing = True
        for how in ("once", "always"):
            with pytest.raises(StoreUnavailable):
                await say_yes(chat, row, how)
        assert pad.launched == []
        assert digest((await asking(chat))[0]) == digest(row)
        store.failing = False
        await chat.service.approve("c", row["id"], Decision("deny", digest(row)))
        await ended(chat)
        assert pad.launched == []
        loaded = await store.load("c")
        assert loaded is not None
        assert loaded.grants == ()


class TestStop:
    async def test_a_stop_while_it_asks(self, start: Start, pad: Pad) -> None:
        engine = ScriptedEngine([asks(id="1"), asks(id="2", name="look"), CALLS], "Yes.")
        chat = await start(engine, tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await chat.service.stop("c", None)
        calls = [r["props"] for r in await chat.rows() if r["kind"] == "tool_call"]
        assert all(call["done"] for call in calls)
        assert (calls[0]["status"], calls[0]["approval"]["state"]) == ("cancelled", "expired")
        with pytest.raises(Conflict) as raised:
            await say_yes(chat, row)
        assert raised.value.code == "stale_approval"
        await chat.say("And now?")
        async with asyncio.timeout(10):
            while len(engine.turns) < 2:
                await asyncio.sleep(0.005)
        assert [id for id, _ in told(engine.turns[1])] == ["1", "2"], "each call has its result"
        assert pad.launched == []

    async def test_a_yes_for_later_calls_that_a_stop_overtakes_says_that_it_holds(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        class Slow(SQLiteStore):
            """Stores an answer when it is let."""

            stores, goes_on = asyncio.Event(), asyncio.Event()

            def write(self, batch: Batch) -> Any:
                return self._late(batch) if batch.grants else super().write(batch)

            async def _late(self, batch: Batch) -> None:
                self.stores.set()
                await self.goes_on.wait()
                await super().write(batch)

        store = Slow(tmp_path / "slow.sqlite")
        engine = ScriptedEngine([asks(), CALLS], [asks("mars"), CALLS], "Done.")
        chat = await start(engine, tools=pad.tools, store=store)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        answering = asyncio.create_task(say_yes(chat, row, "always"))
        await store.stores.wait()
        stopping = asyncio.create_task(chat.service.stop("c", None))
        async with asyncio.timeout(10):
            while any(map(is_asking, await chat.rows())):
                await asyncio.sleep(0.005)
        store.goes_on.set()
        with pytest.raises(Conflict, match=r"not made\. Later calls of launch need no yes"):
            await answering
        await stopping
        await chat.say("And now?")
        await asyncio.wait_for(until(lambda: pad.launched == ["mars"]), 10)

    async def test_a_stop_at_any_instant_leaves_turns_that_can_be_built_on(
        self, start: Start, pad: Pad
    ) -> None:
        chance = random.Random(4)
        answers = [["Hm.", asks(id="1"), asks("sky", id="2", name="look"), CALLS], "Done."]
        chat = await start(ScriptedEngine(*answers * 60), tools=pad.tools)
        for _ in range(60):
            run = (await chat.say("Launch!"))["run_id"]
            await asyncio.sleep(chance.uniform(0, 0.02))
            if chance.random() < 0.5 and (rows := [r for r in await chat.rows() if is_asking(r)]):
                with contextlib.suppress(Conflict):
                    await asyncio.gather(say_yes(chat, rows[0]), chat.service.stop("c", run))
            await chat.service.stop("c", run)
            assert not chat.service.busy
        loaded = await chat.store.load("c")
        assert loaded is not None
        assert not [r for r in loaded.rows if r["kind"] == "tool_call" and not r["props"]["done"]]
        due: list[str | None] = []
        for message in loaded.memory:
            if message.role == "tool":
                assert message.tool_call_id == due.pop(0)
            else:
                assert not due
                due = [call.id for call in message.tool_calls]
        assert not due


class TestRestart:
    """A crash is a copy of the database as it is at this instant: what a killed host leaves."""

    @staticmethod
    def copied(tmp_path: Path) -> SQLiteStore:
        for suffix in ("", "-wal"):
            source = tmp_path / f"timeline.sqlite{suffix}"
            if source.exists():
                shutil.copy(source, tmp_path / f"crashed.sqlite{suffix}")
        return SQLiteStore(tmp_path / "crashed.sqlite")

    async def crashed(self, chat: Chat, tmp_path: Path) -> SQLiteStore:
        await stored(chat)  # what was to be written before this is
        return self.copied(tmp_path)

    @pytest.mark.parametrize("how", ["killed", "closed"])
    async def test_a_run_waits_on_after_a_restart(
        self, start: Start, pad: Pad, tmp_path: Path, how: str
    ) -> None:
        requests = [asks("sky", id="1", name="look"), asks(id="2")]
        chat = await start(ScriptedEngine(["Let me see.", *requests, CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        async with asyncio.timeout(10):
            while not any(r["kind"] == "tool_result" for r in await stored(chat)):
                await asyncio.sleep(0.005)
        if how == "closed":
            await chat.service.close()
            store = self.copied(tmp_path)
        else:
            store = await self.crashed(chat, tmp_path)

        engine = ScriptedEngine("Done.")
        other = Pad()
        again = await start(engine, tools=other.tools, store=store)
        (still,) = await asking(again)
        assert (still["id"], still["props"]["approval"]) == (row["id"], row["props"]["approval"])
        (run,) = [r for r in await again.rows() if r["kind"] == "run"]
        assert run["props"]["status"] == "started"
        assert other.launched == []
        await say_yes(again, still)
        assert (await ended(again))["props"]["status"] == "finished"
        assert other.launched == ["moon"]
        assert told(engine.turns[0]) == [("1", "sky is there"), ("2", "launched to moon")]
        assert [m.role for m in engine.turns[0].messages] == ["user", "assistant", "tool", "tool"]
        assert await again.texts() == [
            ("user", "Launch!"),
            ("assistant", "Let me see."),
            ("assistant", "Done."),
        ]
        loaded = await store.load("c")
        assert loaded is not None
        assert loaded.pending == []

    async def test_a_prompt_that_waits_behind_it_stays_behind_it(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        await chat.say("Then what?")
        await asking(chat)
        again = await start(
            ScriptedEngine("One.", "Two."), tools=pad.tools, store=await self.crashed(chat, tmp_path)
        )
        (row,) = await asking(again)
        await say_yes(again, row)
        async with asyncio.timeout(10):
            while ("assistant", "Two.") not in await again.texts():
                await asyncio.sleep(0.005)
        assert [text for _, text in await again.texts()] == ["Launch!", "One.", "Then what?", "Two."]

    async def test_it_waits_on_after_many_restarts_and_can_be_stopped(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        await asking(chat)
        await chat.service.close()
        for _ in range(3):
            chat = await start(tools=pad.tools, store=SQLiteStore(tmp_path / "timeline.sqlite"))
            await asking(chat)
            await chat.service.close()
        engine = ScriptedEngine("Hello.")
        chat = await start(engine, tools=pad.tools, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        await asking(chat)
        await chat.service.stop("c", None)
        assert (await ended(chat))["props"]["status"] == "stopped"
        await chat.say("Hi")
        async with asyncio.timeout(10):
            while not engine.turns:
                await asyncio.sleep(0.005)
        assert told(engine.turns[0]) == [("call_0", "This tool call was cancelled.")]
        assert pad.launched == []

    async def test_a_call_that_ran_when_the_host_died_is_not_made_again(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        """It had its yes, and used it up."""
        pad.leave.clear()
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        await say_yes(chat, row)
        assert await asyncio.to_thread(pad.entered.wait, 10)
        store = await self.crashed(chat, tmp_path)
        other = Pad()
        engine = ScriptedEngine("Hello.")
        again = await start(engine, tools=other.tools, store=store)
        await again.service.start()
        run = await ended(again)
        assert (run["props"]["status"], run["props"]["stopReason"]) == ("failed", "interrupted")
        (call,) = [r for r in await again.rows() if r["kind"] == "tool_call"]
        assert (call["props"]["status"], call["props"]["done"]) == ("cancelled", True)
        await say_yes(again, row)  # the same again: fine, and nothing happens
        await again.say("What happened?")
        async with asyncio.timeout(10):
            while not engine.turns:
                await asyncio.sleep(0.005)
        assert told(engine.turns[0]) == [("call_0", "This tool call was interrupted.")]
        assert other.launched == []

    async def test_one_runs_and_one_asks(self, start: Start, pad: Pad, tmp_path: Path) -> None:
        chat = await start(ScriptedEngine([asks(id="1", name="hang"), asks(id="2"), CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        await asking(chat)
        assert await asyncio.to_thread(pad.entered.wait, 10)
        engine = ScriptedEngine("Done.")
        again = await start(engine, tools=pad.tools, store=await self.crashed(chat, tmp_path))
        (row,) = await asking(again)
        await say_yes(again, row)
        await ended(again)
        assert told(engine.turns[0]) == [
            ("1", "This tool call was interrupted."),
            ("2", "launched to moon"),
        ]
        await chat.service.close()
        closed = ScriptedEngine("Done.")
        third = await start(closed, tools=pad.tools, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        (row,) = await asking(third)
        await say_yes(third, row)
        await ended(third)
        assert told(closed.turns[0]) == [("1", "This tool call was cancelled."), ("2", "launched to moon")]

    async def test_a_yes_that_was_stored_but_not_used_is_used_once(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        """The host dies between the yes and the call."""

        class Dying(SQLiteStore):
            taken: SQLiteStore | None = None

            def write(self, batch: Batch) -> Any:
                written = super().write(batch)
                decided = any(stored.get("decisions") for _, stored in batch.checkpoints)
                if not decided:
                    return written

                async def copy() -> None:
                    await written
                    self.taken = TestRestart.copied(tmp_path)

                return asyncio.ensure_future(copy())

        store = Dying(tmp_path / "timeline.sqlite")
        chat = await start(ScriptedEngine([asks(), CALLS], "Done."), tools=pad.tools, store=store)
        await chat.say("Launch!")
        await say_yes(chat, (await asking(chat))[0])
        await ended(chat)
        assert store.taken is not None
        other = Pad()
        again = await start(ScriptedEngine("Done."), tools=other.tools, store=store.taken)
        await again.service.start()
        assert (await ended(again))["props"]["status"] == "finished"
        assert other.launched == ["moon"]
        (call,) = [r for r in await again.rows() if r["kind"] == "tool_call"]
        assert call["props"]["approval"]["state"] == "once"

    async def test_a_host_that_dies_after_any_write_makes_no_call_without_its_yes(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        """The database after each write, opened by a host that nobody answers."""

        class Filmed(SQLiteStore):
            shots: list[Path]

            one_by_one: asyncio.Lock

            async def _film(self, write: Callable[[], Any]) -> None:
                async with self.one_by_one:
                    await write()
                    folder = tmp_path / f"shot-{len(self.shots)}"
                    folder.mkdir()
                    for suffix in ("", "-wal"):
                        shutil.copy(f"{self.path}{suffix}", folder / f"t.sqlite{suffix}")
                    self.shots.append(folder / "t.sqlite")

            def write(self, batch: Batch) -> Any:
                write = super().write
                return asyncio.ensure_future(self._film(lambda: write(batch)))

        store = Filmed(tmp_path / "timeline.sqlite")
        store.shots, store.one_by_one = [], asyncio.Lock()
        chat = await start(ScriptedEngine(["Hm.", asks(), CALLS], "Done."), tools=pad.tools, store=store)
        await chat.say("Launch!")
        await say_yes(chat, (await asking(chat))[0])
        await ended(chat)
        await chat.service.close()
        made = []
        for shot in store.shots:
            there = SQLiteStore(shot)
            loaded = await there.load("c")
            assert loaded is not None
            allowed = any((run.checkpoint or {}).get("decisions") for run in loaded.pending)
            waits = any(is_asking(row) for row in loaded.rows)
            other = Pad()
            again = await start(ScriptedEngine("Done."), tools=other.tools, store=there)
            await again.service.start()
            if allowed or not waits:
                async with asyncio.timeout(10):
                    while again.service.busy:
                        await asyncio.sleep(0.005)
            assert other.launched == (["moon"] if allowed and waits else [])
            made.append((allowed, waits))
            await again.service.close()
        assert {(False, False), (False, True), (True, True)} <= set(made), "each moment was seen"

    async def test_a_question_that_expired_while_nobody_was_there(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        settings = RuntimeSettings(approval_seconds=0.3)
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools, settings=settings)
        await chat.say("Launch!")
        await asking(chat)
        await chat.service.close()
        await asyncio.sleep(0.3)  # the subject
        engine = ScriptedEngine("I see.")
        again = await start(engine, tools=pad.tools, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        await again.service.start()
        await ended(again)
        assert "in time" in told(engine.turns[0])[0][1]
        assert pad.launched == []

    async def test_a_tool_that_did_not_come_back_is_told(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools)
        await chat.say("Launch!")
        await asking(chat)
        await chat.service.close()
        engine = ScriptedEngine("I see.")
        again = await start(engine, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        (row,) = await asking(again)
        await say_yes(again, row)
        await ended(again)
        assert "no tool named 'launch'" in told(engine.turns[0])[0][1]

    async def test_a_tool_of_the_notebook_that_comes_back_later_is_called(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        registry = ToolRegistry(map(function_tool, pad.tools))
        chat = await start(ScriptedEngine([asks(), CALLS]))
        chat.service.equip("c", registry, {})
        await chat.say("Launch!")
        await asking(chat)
        await chat.service.close()
        again = await start(ScriptedEngine("Done."), store=SQLiteStore(tmp_path / "timeline.sqlite"))
        (row,) = await asking(again)
        again.service.equip("c", registry, {})
        await say_yes(again, row)
        await ended(again)
        assert pad.launched == ["moon"]

    async def test_a_move_takes_the_question_along(self, start: Start, pad: Pad, tmp_path: Path) -> None:
        server = AdoptingStore(tmp_path / "server.sqlite", tmp_path / "conversations", promise=0)
        chat = await start(
            ScriptedEngine([asks("earth"), CALLS], "Done.", [asks(), CALLS]), tools=pad.tools, store=server
        )
        await chat.say("Launch!")
        await say_yes(chat, (await asking(chat))[0], "always")
        await ended(chat)

        @tool(name="launch")
        def elsewhere(target: str) -> str:
            """Not the one that was granted: another name in the registry, the same for the model."""
            return target

        chat.service.equip("c", ToolRegistry([function_tool(elsewhere)]), {})
        assert pad.launched == ["earth"]
        await chat.say("Again!")  # granted by its name: it does not ask
        await until_runs(chat, 2)
        assert await chat.service.hand_over("c")
        loaded = await SQLiteStore(tmp_path / "conversations" / "c.sqlite").load("c")
        assert loaded is not None
        assert loaded.grants == ("launch",)

    async def test_a_run_that_asks_is_handed_over_and_goes_on_there(
        self, start: Start, pad: Pad, tmp_path: Path
    ) -> None:
        server = AdoptingStore(tmp_path / "server.sqlite", tmp_path / "conversations", promise=0)
        chat = await start(ScriptedEngine([asks(), CALLS]), tools=pad.tools, store=server)
        await chat.say("Launch!")
        (row,) = await asking(chat)
        assert await chat.service.hand_over("c")
        kernel = SQLiteStore(tmp_path / "conversations" / "c.sqlite")
        there = await start(ScriptedEngine("Done."), tools=pad.tools, store=kernel)
        (still,) = await asking(there)
        assert still["id"] == row["id"]
        await there.service.close()
        back = await start(
            ScriptedEngine("Done."),
            tools=pad.tools,
            store=AdoptingStore(tmp_path / "other.sqlite", tmp_path / "conversations", promise=0),
        )
        (still,) = await asking(back)
        await say_yes(back, still)
        await ended(back)
        assert pad.launched == ["moon"]


async def until_runs(chat: Chat, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            runs = [r for r in await chat.rows() if r["kind"] == "run"]
            if len(runs) == count and not chat.service.busy:
                return
            await asyncio.sleep(0.005)
