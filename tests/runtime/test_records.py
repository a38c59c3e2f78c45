"""Every request to the engine is on record, word for word, however it ended; and nobody waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.runtime.conftest import Chat, Page, Start
from tests.runtime.test_conversation import FailingStore
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, Carried, Finish, Said, TextChunk, ThinkingChunk
from webchat_widget.middlewares.base import Ask, Middleware, Middlewares, RunView
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, Decision, Overrides, TurnsQuery
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.turns import Message, Turn
from webchat_widget.typing import Usage

USAGE = Usage(inputTokens=7, outputTokens=2, cachedTokens=0)
CALLS = [
    ThinkingChunk("Hm, "),
    ThinkingChunk("twice."),
    "Let me ",
    "see.",
    Carried({"type": "reasoning", "id": "rs_1"}),
    CallRequest("call_0", "double", '{"n": 21}'),
    Finish("tool_calls", USAGE, "scripted-2"),
]


def double(n: int) -> int:
    """Twice n."""
    return 2 * n


@tool
def wipe() -> str:
    """Wipe it all."""
    return "wiped"


class Drafting(Middleware):
    """Asks for a draft first, in a request of its own."""

    name: ClassVar[str] = "drafting"

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> AsyncIterator[Said]:  # type: ignore[override]
        """A draft, then the answer."""
        draft = ""
        async with aclosing(ask(Turn((Message("user", "Draft!"),)))) as said:
            async for each in said:
                draft += each.text if isinstance(each, TextChunk) else ""
        async with aclosing(
            ask(Turn((*turn.messages, Message("user", draft)), turn.tools, "strong"))
        ) as said:
            async for each in said:
                yield each


async def turns(chat: Chat, **asked: Any) -> list[dict[str, Any]]:
    return (await chat.service.turns(TurnsQuery("c", **asked))).turns


def phases(turns: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(turn["n"], turn["phase"]) for turn in turns]


def said(turn: dict[str, Any]) -> list[tuple[str, str]]:
    """Role and text of its messages."""
    return [(message["role"], message.get("content", "")) for message in turn["messages"]]


async def ended(chat: Chat, prompt: str, page: Page, how: str = "finished", **more: Any) -> str:
    """Ask, and wait for the end; the run's id."""
    before = len(page.of(f"run.{how}"))
    reply = await chat.service.chat(ChatRequest(prompt=prompt, conv_id="c", **more))
    await page.until(f"run.{how}", before + 1)
    return str(reply.body["run_id"])


async def test_a_run_with_a_call_is_on_record_from_its_first_word_to_its_last(start: Start) -> None:
    chat = await start(ScriptedEngine(CALLS, "It is 42."), tools=(double,))
    page = await chat.join()
    await ended(chat, "Twice 21?", page)
    first, came, results, second, answer, final = await turns(chat)
    assert phases([first, came, results, second, answer, final]) == [
        (1, "pre_inference"),
        (1, "post_inference"),
        (1, "post_tools"),
        (2, "pre_inference"),
        (2, "post_inference"),
        (2, "final"),
    ]
    assert said(first) == [("user", "Twice 21?")]
    assert [each["name"] for each in first["tools"]] == ["double"]
    assert first["model"] == "scripted"
    assert came["messages"] == [
        {"role": "thinking", "content": "Hm, twice."},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "call_0", "name": "double", "arguments": '{"n": 21}'}],
            "carried": [{"type": "reasoning", "id": "rs_1"}],
        },
    ]
    assert came["finish"] == {"reason": "tool_calls", "usage": USAGE, "model": "scripted-2"}
    assert said(results) == [("tool", "42")]
    assert second["messages"] == [*first["messages"], came["messages"][1], *results["messages"]]
    assert said(answer) == [("assistant", "It is 42.")]
    assert final["messages"] == [*second["messages"], *answer["messages"]]


async def test_they_are_in_one_order_with_the_rows(start: Start) -> None:
    chat = await start(ScriptedEngine(CALLS, "It is 42."), tools=(double,))
    page = await chat.join()
    run = await ended(chat, "Twice 21?", page)
    places = {row["id"]: row["createdSeq"] for row in await chat.rows()}
    order = [
        places[f"{run}:user"],
        *[turn["seq"] for turn in await turns(chat, phase="pre_inference", limit=2)][:1],
        places[f"{run}:thinking:1"],
        *[turn["seq"] for turn in await turns(chat, phase="post_inference")][:1],
        places[f"{run}:call:1"],
        *[turn["seq"] for turn in await turns(chat, phase="post_tools")],
        *[turn["seq"] for turn in await turns(chat, phase="pre_inference")][1:],
        places[f"{run}:text:2"],
    ]
    assert order == sorted(set(order))


async def test_a_request_is_what_the_middlewares_made_of_it_and_so_are_theirs(start: Start) -> None:
    chat = await start(ScriptedEngine("a draft", CALLS, "another", "done"), tools=(double,))
    profile = Profile(slug="default", tools=("double",), system_prompt="Be brief.")
    chat.service._env.profiles = Profiles(profile, middlewares=Middlewares([Drafting]))
    page = await chat.join()
    await ended(chat, "hi", page, overrides=Overrides(middlewares=("drafting",), model="strong"))
    sent = await turns(chat, phase="pre_inference")
    assert [turn["n"] for turn in sent] == [1, 2, 3, 4]
    assert said(sent[0]) == [("user", "Draft!")]
    assert "tools" not in sent[0]
    assert said(sent[1]) == [("system", "Be brief."), ("user", "hi"), ("user", "a draft")]
    assert (sent[0]["model"], sent[1]["model"]) == ("scripted", "strong")
    assert [turn["n"] for turn in await turns(chat, phase="post_tools")] == [2], "the one that asked for it"
    assert [said(turn) for turn in await turns(chat, phase="post_inference")][::2] == [
        [("assistant", "a draft")],
        [("assistant", "another")],
    ]


@pytest.mark.parametrize(
    ("script", "how", "messages", "finish"),
    [
        pytest.param(
            ["Half", EngineError("The line is dead.", code="cut", retryable=True)],
            "failed",
            [("assistant", "Half")],
            {"reason": "error", "usage": None, "model": None, "error": "The line is dead."},
            id="the model's server failed",
        ),
        pytest.param(
            [EngineError("It broke off.", code="interrupted", retryable=True)],
            "failed",
            [],
            {"reason": "interrupted", "usage": None, "model": None, "error": "It broke off."},
            id="it broke off",
        ),
        pytest.param(
            ["Half", RuntimeError("secret")],
            "failed",
            [("assistant", "Half")],
            {
                "reason": "error",
                "usage": None,
                "model": None,
                "error": "Something went wrong inside the chat (RuntimeError).",
            },
            id="a bug",
        ),
        pytest.param(
            ["No.", Finish("content_filter", USAGE, "scripted")],
            "finished",
            [("assistant", "No.")],
            {"reason": "content_filter", "usage": USAGE, "model": "scripted"},
            id="the model would not",
        ),
    ],
)
async def test_how_an_answer_ended_is_on_record(
    start: Start, script: list[Any], how: str, messages: list[Any], finish: dict[str, Any]
) -> None:
    chat = await start(ScriptedEngine(script))
    page = await chat.join()
    await ended(chat, "hi", page, how)
    (came,) = await turns(chat, phase="post_inference")
    assert (said(came), came["finish"]) == (messages, finish)


async def test_what_came_before_a_stop_is_on_record(start: Start) -> None:
    chat = await start(ScriptedEngine(["Half ", asyncio.Event()]))
    page = await chat.join()
    await chat.say("hi")
    await page.until("llm.delta")
    (sent,) = await turns(chat)
    assert sent["phase"] == "pre_inference", "while it is being answered"
    await chat.service.stop("c", None)
    (came,) = await turns(chat, phase="post_inference")
    assert said(came) == [("assistant", "Half ")]
    assert came["finish"]["reason"] == "cancelled"


async def test_a_prompt_without_an_answer_adds_nothing_to_the_memory(start: Start) -> None:
    chat = await start(ScriptedEngine([EngineError("No.", code="cut", retryable=True)]))
    page = await chat.join()
    await ended(chat, "hi", page, "failed")
    (final,) = await turns(chat, phase="final")
    assert (final["n"], final["messages"], final["model"]) == (1, [], None)


async def test_a_run_that_goes_on_after_a_restart_counts_on(start: Start) -> None:
    asks = [CallRequest("call_0", "wipe", "{}"), Finish("tool_calls")]
    chat = await start(ScriptedEngine(CALLS, asks), tools=(double, wipe))
    page = await chat.join()
    await chat.say("Twice 21, then wipe.")
    await page.until("tool.start", 2)
    await chat.service.close()
    again = await start(ScriptedEngine("Wiped."), store=SQLiteStore(chat.store.path), tools=(double, wipe))
    page = await again.join()
    (row,) = [row for row in await again.rows() if row["props"].get("status") == "asking"]
    await again.service.approve("c", row["id"], Decision("once", row["props"]["approval"]["digest"]))
    await page.until("run.finished")
    assert phases(await turns(again))[3:] == [
        (2, "pre_inference"),
        (2, "post_inference"),
        (2, "post_tools"),
        (3, "pre_inference"),
        (3, "post_inference"),
        (3, "final"),
    ]


async def test_a_disk_that_fails_costs_no_run_its_answer(start: Start, tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "failing.sqlite")
    gate = asyncio.Event()
    chat = await start(ScriptedEngine(["text", gate, " and more"], "again"), store=store)
    page = await chat.join()
    await chat.say("hi")
    await page.until("llm.delta")
    store.failing = True
    gate.set()
    await page.until("run.finished")
    store.failing = False
    await ended(chat, "and now?", page)
    assert phases(await turns(chat)) == [(1, "pre_inference"), (1, "post_inference"), (1, "final")] * 2
    assert said((await turns(chat))[1]) == [("assistant", "text and more")]


async def test_a_record_alone_is_stored_soon(start: Start) -> None:
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "late"]))
    page = await chat.join()
    await chat.say("hi")
    async with asyncio.timeout(10):
        while not (stored := (await chat.store.turns(TurnsQuery("c"))).turns):
            await asyncio.sleep(0)
    assert phases(stored) == [(1, "pre_inference")]
    gate.set()
    await page.until("run.finished")


async def test_a_page_is_told_of_no_version_that_it_was_not_sent(start: Start) -> None:
    """It would take a record for a frame that it has lost, and load everything anew."""
    gate = asyncio.Event()
    chat = await start(ScriptedEngine([gate, "late"]))
    page = await chat.join()
    await chat.say("hi")
    async with asyncio.timeout(10):
        while not await turns(chat):
            await asyncio.sleep(0)
    await page.until("timeline.upsert")
    assert chat.service.pong("c").event["data"]["version"] == page.of("timeline.upsert")[-1]["seq"]
    gate.set()
    await page.until("run.finished")


async def test_an_unknown_conversation_has_none(start: Start) -> None:
    chat = await start()
    assert await turns(chat) == []
    assert await chat.store.load("c") is None
