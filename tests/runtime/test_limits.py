"""A run ends, whatever the model, its server or a tool does: at a limit, with a sentence that names it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from tests.support.model_server import ModelServer, Reply
from webchat_widget import Event, emit
from webchat_widget.engines.function import FunctionEngine
from webchat_widget.engines.openai import OpenAIEngine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.events import CallRequest, Carried, Finish, Retrying, TextChunk, ThinkingChunk
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.tools.loop import Limits
from webchat_widget.tools.row_queue import MAX_ROWS, MAX_RUN_ROWS
from webchat_widget.turns import Turn


class Noise(Event):
    """A row that says nothing."""

    n: int


def endless(said: Callable[[int], Any]) -> FunctionEngine:
    """A model that never stops."""

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        for n in itertools.count():
            yield said(n)

    return FunctionEngine(answer)


async def fault(chat: Chat) -> dict[str, Any]:
    """The props of the error that a run ends with; nothing of it is open any more."""
    page = await chat.join()
    await chat.say("go")
    await page.until("run.failed")
    rows = await chat.rows()
    assert not [row for row in rows if row["props"].get("streaming")]
    (error,) = [row["props"] for row in rows if row["kind"] == "error"]
    return dict(error)


@pytest.mark.parametrize(
    "said",
    [
        lambda n: TextChunk("x" * 1000),
        lambda n: ThinkingChunk("x" * 1000),
        lambda n: (TextChunk, ThinkingChunk)[n % 2]("x" * 1000),
        lambda n: Carried({"before": 0, "item": {"encrypted": "x" * 1000}}),
    ],
    ids=["text", "thoughts", "by turns", "what the provider wants back"],
)
async def test_a_model_that_never_stops_is_stopped_at_its_length(
    start: Start, said: Callable[[int], Any]
) -> None:
    error = await fault(await start(endless(said), settings=RuntimeSettings(limits=Limits(text=50_000))))
    assert error["code"] == "text_limit"
    assert error["message"] == "The answer was stopped after 50,000 characters (c.WebChat.max_text)."


async def test_a_model_that_calls_tools_for_ever_is_stopped(start: Start) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    async def calls(turn: Turn) -> AsyncIterator[Any]:
        yield CallRequest(str(len(turn.messages)), "look", "{}")
        yield Finish("tool_calls")

    error = await fault(await start(FunctionEngine(calls), tools=(look,)))
    assert error["code"] == "tool_limit"
    assert error["message"].startswith("The model asked for tools 20 times in one run and was stopped")


async def test_a_model_that_asks_for_calls_without_end_is_stopped(start: Start) -> None:
    error = await fault(await start(endless(lambda n: CallRequest(str(n), "look", "{}"))))
    assert error["code"] == "tool_limit"
    assert error["message"].startswith("The model asked for more than 128 tool calls in one answer")


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_arguments_without_end_are_stopped(start: Start, api: Any) -> None:
    call = {"name": "look", "arguments": '{"at": "' + "x" * 1_100_000}
    with ModelServer() as model:
        model.script(Reply(tool_calls=[call]))
        engine = OpenAIEngine(model="test-model", base_url=model.url, api_key=None, api=api)
        error = await fault(await start(engine))
        await engine.aclose()
    assert error["code"] == "text_limit"
    assert "after 1,000,000 characters of arguments" in error["message"]


async def test_a_server_that_only_keeps_the_connection_open_is_given_up(start: Start) -> None:
    with ModelServer() as model:
        model.script(Reply("a b c", fault="keepalive", after=1))
        engine = OpenAIEngine(model="test-model", base_url=model.url, api_key=None, timeout=0.5)
        chat = await start(engine)
        error = await fault(chat)
        await engine.aclose()
    assert error["code"] == "interrupted"
    assert ("assistant", "a ") in await chat.texts()


async def test_an_engine_that_retries_for_ever_ends_with_its_time_and_leaves_a_bounded_log(
    start: Start,
) -> None:
    chat = await start(
        endless(lambda n: Retrying("Again.", seconds=0)), settings=RuntimeSettings(run_seconds=2.0)
    )
    error = await fault(chat)
    assert error["code"] == "run_timeout"
    assert len([row for row in await chat.rows() if row["kind"] == "log"]) <= MAX_ROWS + 1


async def test_the_rows_of_all_calls_of_a_run_are_bounded(start: Start) -> None:
    def shout() -> str:
        """Shout."""
        for n in range(MAX_ROWS):
            emit(Noise(n))
        return "done"

    rounds = MAX_RUN_ROWS // MAX_ROWS + 2
    requests = [CallRequest(str(n), "shout", "{}") for n in range(rounds)]
    chat = await start(ScriptedEngine([*requests, Finish("tool_calls")], "Enough."), tools=(shout,))
    page = await chat.join()
    await chat.say("go")
    await page.until("run.finished")
    rows = await chat.rows()
    assert len([row for row in rows if row["kind"] == "noise"]) == MAX_RUN_ROWS
    said = {row["props"]["message"] for row in rows if row["kind"] == "log"}
    assert len(said) == 1
    assert "all calls of a run 10,000 and 64 MB" in said.pop()
    assert ("assistant", "Enough.") in await chat.texts()
