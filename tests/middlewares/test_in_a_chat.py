"""Middlewares in a real chat: what a person saw stays, ends are ends, and only the answer is remembered."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Page, Start
from tests.tools.test_loop import Stage
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, Finish, ThinkingChunk
from webchat_widget.middlewares.base import Ask, Middleware, RunView, Stream
from webchat_widget.requests import ChatRequest, Decision, Overrides
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Applied, Projector
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.turns import Turn
from webchat_widget.typing import Usage

MODES = {"name": "agent_mode", "config": {"modes": {"writer": "Write.", "critic": "Find faults."}}}
PLAN = json.dumps({"decision": "execute", "action": "Say it", "directive": "Be brief.", "reflection": "Good"})
THOUGHT = '<thinking phase="plan">Scattering.</thinking>\n'
COST = Usage(inputTokens=10, outputTokens=5, cachedTokens=0)
ENDS = ("run.finished", "run.stopped", "run.failed")


def double(n: int) -> int:
    """Twice n."""
    return 2 * n


def asks_to_double() -> list[Any]:
    return [CallRequest("1", "double", '{"n": 21}')]


def folded(page: Page) -> list[dict[str, Any]]:
    """The rows as a page has them that saw every frame."""
    rows = Projector()
    for frame in page.frames:
        if "seq" in frame["event"]:
            assert rows.apply(frame["event"]) in (Applied.CHANGED, Applied.STALE)
    return [dict(row) for row in rows.entities()]


async def seen(page: Page, kind: str, *, text: str = "") -> dict[str, Any]:
    """The row of a kind, as soon as the page has it with this text in it."""
    async with asyncio.timeout(20):
        while True:
            for row in folded(page):
                if row["kind"] == kind and text in json.dumps(row["props"]):
                    return row
            await asyncio.sleep(0.005)


async def ended(page: Page, count: int = 1) -> str:
    """The status that the last of so many runs ended with."""
    async with asyncio.timeout(20):
        while len(done := [each for each in page.types if each in ENDS]) < count:
            await asyncio.sleep(0.005)
    return done[-1].removeprefix("run.")


async def same_everywhere(start: Start, chat: Chat, page: Page) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind; those that a page folded are those of the host, before and after it is loaded again."""
    rows = await chat.rows()
    assert folded(page) == rows
    await chat.service.close()
    again = await start(store=SQLiteStore(chat.store.path))  # type: ignore[attr-defined]
    assert await again.rows() == rows
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row["props"])
    return by_kind


def kinds_left_open(rows: list[dict[str, Any]]) -> set[str]:
    ending = {"run", "message", "tool_call", "thinking_mode", "planning", "debugger_pause"}
    return {
        row["kind"]
        for row in rows
        if row["kind"] in ending and not is_terminal(row) and row["props"].get("role") != "user"
    }


class TestAWholeRun:
    async def test_all_of_them_together_leave_rows_that_a_reload_shows_again(self, start: Start) -> None:
        engine = ScriptedEngine(
            "Hello.",
            [ThinkingChunk("hm"), PLAN, Finish("stop", COST, "small")],
            [THOUGHT, "Let me compute.\n<agent_mode>critic</agent_mode>\n", *asks_to_double()],
            [THOUGHT, "It is ", "42.", Finish("stop", COST, "small")],
        )
        chat = await start(
            engine,
            tools=(double,),
            middlewares=(
                "tool_results",
                {"name": "history_limit", "config": {"messages": 1}},
                "planning",
                "logging",
                MODES,
                "thinking_mode",
                {"name": "step", "config": {"phases": ["after_inference"]}},
            ),
        )
        # Only the second run is looked at with all of them: the first has no history to be cut.
        request = ChatRequest(prompt="hi", conv_id="c", digest="hi", overrides=Overrides(middlewares=()))
        page = await chat.join()
        await chat.service.chat(request)
        await ended(page)
        await chat.say("21 * 2?")
        pause = await seen(page, "debugger_pause")
        assert pause["props"]["summary"] == 'The model asks for 1 tool: double({"n": 21})'
        # What was said before the pause is whole, and no tool has begun.
        assert kinds_left_open(await chat.rows()) == {"run", "planning", "debugger_pause"}
        await chat.service.resume("c", pause["id"])
        assert await ended(page, 2) == "finished"
        rows = await same_everywhere(start, chat, page)
        assert [m["content"] for m in rows["message"]][2:] == [
            "21 * 2?",
            "Let me compute.\n",
            "It is 42.",
        ]
        assert [m["status"] for m in rows["message"] if m["role"] == "assistant"] == ["complete"] * 3
        assert rows["message"][-1]["usage"] == COST
        assert [(r["phase"], r["reasoning"], r["status"]) for r in rows["thinking_mode"]] == [
            ("plan", "Scattering.", "completed")
        ] * 2
        assert rows["agent_mode"] == [{"title": "critic", "data": {"from": "writer", "to": "critic"}}]
        assert [row["status"] for row in rows["debugger_pause"]] == ["continued"]
        (plan,) = rows["planning"]
        assert (plan["status"], plan["execution"]["tokensUsed"]) == ("completed", 30)
        assert plan["execution"]["responseLength"] == len("Let me compute.\nIt is 42.")
        assert rows["log"][0]["message"] == "2 earlier messages were not sent to the model."
        assert [row["message"].split(",")[0] for row in rows["log"][1:]] == [
            "Request 1: 2 messages",  # the planner's
            "Request 1: 2 messages",
            "Request 2: 4 messages",
        ]
        assert rows["run"][-1]["usage"]["outputTokens"] == 10

    async def test_the_next_run_remembers_the_answer_alone_and_the_mode(self, start: Start) -> None:
        engine = ScriptedEngine(PLAN, [THOUGHT, "Blue.\n", "<agent_mode>critic</agent_mode>"], PLAN, "Yes.")
        chat = await start(engine, middlewares=("planning", MODES, "thinking_mode"))
        page = await chat.join()
        await chat.say("Which colour?")
        await ended(page)
        await chat.service.close()
        again = await start(engine, store=SQLiteStore(chat.store.path), middlewares=("planning", MODES))  # type: ignore[attr-defined]
        page = await again.join()
        await again.say("Sure?")
        await ended(page)
        system, *said = engine.turns[-1].messages
        assert [(m.role, m.content) for m in said] == [
            ("user", "Which colour?"),
            ("assistant", "Blue.\n"),
            ("user", "Sure?"),
        ]
        assert "Find faults." in system.content

    async def test_a_tool_that_its_mode_has_not_is_not_called(self, start: Start) -> None:
        calls: list[int] = []

        def launch(n: int) -> str:
            """Launch."""
            calls.append(n)
            return "gone"

        engine = ScriptedEngine([CallRequest("1", "launch", '{"n": 1}')], "I can't.")
        modes = {"reader": {"prompt": "Read.", "tools": ["double"]}}
        chat = await start(
            engine,
            tools=(double, launch),
            middlewares=({"name": "agent_mode", "config": {"modes": modes}},),
        )
        page = await chat.join()
        await chat.say("Launch!")
        assert await ended(page) == "finished"
        assert engine.turns[1].messages[-1].content == "There is no tool named 'launch'. Tools: double."
        assert calls == []

    async def test_nor_one_that_it_had_in_the_mode_before(self, start: Start) -> None:
        calls: list[int] = []

        def launch(n: int) -> str:
            """Launch."""
            calls.append(n)
            return "gone"

        engine = ScriptedEngine(
            "<agent_mode>safe</agent_mode>", [CallRequest("1", "launch", '{"n": 1}')], "I can't."
        )
        modes = {"free": "Do it.", "safe": {"prompt": "Look only.", "tools": []}}
        chat = await start(
            engine, tools=(launch,), middlewares=({"name": "agent_mode", "config": {"modes": modes}},)
        )
        page = await chat.join()
        await chat.say("Launch!")
        assert await ended(page) == "finished"
        assert engine.turns[2].messages[-1].content == "There is no tool named 'launch'. Tools: none."
        assert calls == []

    @pytest.mark.parametrize("first", [True, False])
    async def test_what_a_middleware_asks_for_itself_takes_no_tool_away(self, first: bool) -> None:
        class Checked(Middleware, frozen=True):
            async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
                for part in (Turn(turn.messages), turn) if first else (turn, Turn(turn.messages)):
                    async with aclosing(ask(part)) as said:
                        async for each in said:
                            if part is turn:
                                yield each

        scripts = [asks_to_double(), "fine"]
        stage = Stage(
            *reversed(scripts) if first else scripts,
            "fine",
            "fine",
            tools=(double,),
            middlewares=(Checked(),),
        )
        await stage.loop.run()
        assert stage.engine.turns[-1].messages[-1].content == "42"

    async def test_a_planner_that_fails_fails_the_run_in_the_same_words(self, start: Start) -> None:
        fault = EngineError("The line is dead.", code="cut", retryable=True)
        chat = await start(ScriptedEngine([fault]), middlewares=("planning",))
        page = await chat.join()
        await chat.say("Why?")
        assert await ended(page) == "failed"
        rows = await same_everywhere(start, chat, page)
        assert rows["planning"][0]["completed"]["statusReason"] == "The line is dead."
        assert rows["error"][0]["message"] == "The line is dead."

    async def test_a_pause_that_nobody_ends_ends_by_itself(self, start: Start) -> None:
        step = {"name": "step", "config": {"seconds": 0.01}}
        chat = await start(ScriptedEngine(asks_to_double(), "42"), tools=(double,), middlewares=(step,))
        page = await chat.join()
        await chat.say("21 * 2?")
        assert await ended(page) == "finished"
        rows = await same_everywhere(start, chat, page)
        assert [(r["phase"], r["status"]) for r in rows["debugger_pause"]] == [
            ("after_inference", "expired"),
            ("after_tools", "expired"),
        ]


Script = Callable[[asyncio.Event], ScriptedEngine]
MIDDLES: dict[str, tuple[tuple[Any, ...], Script, str, str]] = {
    "thinking": (
        ("thinking_mode",),
        lambda gate: ScriptedEngine(["Hm.\n", '<thinking phase="check">Is it', gate]),
        "thinking_mode",
        "Is it",
    ),
    "planning": (("planning",), lambda gate: ScriptedEngine(["{", gate]), "planning", "planning"),
    "the second step": (
        ("planning",),
        lambda gate: ScriptedEngine(PLAN.replace("execute", "continue"), [gate]),
        "planning",
        "Say it",
    ),
    "executing": (("planning",), lambda gate: ScriptedEngine(PLAN, ["Blue", gate]), "message", "Blue"),
    "a change of mode": (
        (MODES,),
        lambda gate: ScriptedEngine("<agent_mode>critic</agent_mode>", ["Bad", gate]),
        "message",
        "Bad",
    ),
    "a pause": (
        ("step", "logging"),
        lambda gate: ScriptedEngine(["Let me see", *asks_to_double()]),
        "debugger_pause",
        "double",
    ),
    "the log": (("logging",), lambda gate: ScriptedEngine(asks_to_double(), [gate]), "log", "Request 1"),
}


@pytest.mark.parametrize("middle", MIDDLES)
class TestTheMiddle:
    async def begun(self, start: Start, middle: str) -> tuple[Chat, Page]:
        """A chat in the middle of a run."""
        middlewares, script, kind, text = MIDDLES[middle]
        chat = await start(script(asyncio.Event()), tools=(double,), middlewares=middlewares)
        page = await chat.join()
        await chat.say("Why is the sky blue?")
        await seen(page, kind, text=text)
        return chat, page

    async def test_a_stop_ends_whatever_is_open(self, start: Start, middle: str) -> None:
        chat, page = await self.begun(start, middle)
        await chat.service.stop("c", None)
        assert await ended(page) == "stopped"
        assert kinds_left_open(await chat.rows()) == set()
        rows = await same_everywhere(start, chat, page)
        if middle == "thinking":
            (row,) = rows["thinking_mode"]
            assert (row["status"], row["error"]) == ("error", "The run was stopped.")
        if "planning" in rows:
            (plan,) = rows["planning"]
            assert plan["status"] == "error"
            part = plan["execution" if middle == "executing" else "completed"]
            assert "The run was stopped." in (part.get("errorMessage"), part.get("statusReason"))
        if "debugger_pause" in rows:
            assert rows["debugger_pause"][0]["status"] == "cancelled"

    async def test_a_host_that_is_killed_leaves_nothing_open(
        self, start: Start, middle: str, tmp_path: Path
    ) -> None:
        chat, page = await self.begun(start, middle)
        await chat.store.load("c")  # what was handed to the store before this is on disk
        before = {row["id"] for row in folded(page)}
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"timeline.sqlite{suffix}", tmp_path / f"killed.sqlite{suffix}")
        again = await start(ScriptedEngine(), store=SQLiteStore(tmp_path / "killed.sqlite"))
        later = await again.join()
        rows = await again.rows()
        assert kinds_left_open(rows) == set()
        assert before <= {row["id"] for row in rows}
        assert [row["props"]["status"] for row in rows if row["kind"] == "run"] == ["failed"]
        assert later.closed is None
        await chat.service.stop("c", None)


class TestARestartWhileAPersonIsWaitedFor:
    """The plan is carried out when a call asks, and the host goes away."""

    async def begun(self, start: Start) -> Chat:
        @tool
        def launch() -> str:
            """Launch."""
            return "gone"

        self.launch = launch
        engine = ScriptedEngine(PLAN, [CallRequest("1", "launch", "{}")])
        chat = await start(engine, tools=(launch,), middlewares=("planning",))
        page = await chat.join()
        await chat.say("Launch!")
        await seen(page, "tool_call", text='"asking"')
        await chat.service.close()
        return chat

    async def test_the_plan_goes_on_with_the_run(self, start: Start) -> None:
        chat = await self.begun(start)
        engine = ScriptedEngine("Done.")
        store = SQLiteStore(chat.store.path)  # type: ignore[attr-defined]
        again = await start(engine, store=store, tools=(self.launch,), middlewares=("planning",))
        page = await again.join()
        (call,) = [row for row in await again.rows() if row["kind"] == "tool_call"]
        await again.service.approve("c", call["id"], Decision("once", call["props"]["approval"]["digest"]))
        assert await ended(page) == "finished"
        (plan,) = [row["props"] for row in await again.rows() if row["kind"] == "planning"]
        assert (plan["status"], plan["execution"]["responseLength"]) == ("completed", len("Done."))
        assert "Be brief." in engine.turns[0].messages[0].content

    async def test_a_stop_then_ends_the_plan_too(self, start: Start) -> None:
        chat = await self.begun(start)
        again = await start(
            store=SQLiteStore(chat.store.path),  # type: ignore[attr-defined]
            tools=(self.launch,),
            middlewares=("planning",),
        )
        page = await again.join()
        await again.service.stop("c", None)
        assert await ended(page) == "stopped"
        assert kinds_left_open(await again.rows()) == set()

    async def test_a_run_that_can_not_go_on_ends_the_plan_too(self, start: Start) -> None:
        chat = await self.begun(start)
        again = await start(store=SQLiteStore(chat.store.path), middlewares=("gone",))  # type: ignore[attr-defined]
        page = await again.join()
        async with asyncio.timeout(20):
            while kinds_left_open(await again.rows()):
                await asyncio.sleep(0.005)
        (run,) = [row["props"] for row in await again.rows() if row["kind"] == "run"]
        assert run["status"] == "failed"
        assert page.closed is None
