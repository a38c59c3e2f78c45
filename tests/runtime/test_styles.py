"""The whole loop with a real engine: both styles of the API give the same rows, and the same memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from tests.support.model_server import ModelServer, Reply
from webchat_widget import tool
from webchat_widget.engines.openai import OpenAIEngine
from webchat_widget.timeline.memory import MemoryStore

VARY = ("usage", "idempotencyKey", "prompt", "queuePosition")


@tool(read_only=True)
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@tool(read_only=True)
def fail(why: str) -> None:
    """Fail."""
    raise ValueError(why)


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """The model's server."""
    with ModelServer() as server:
        yield server


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A call as the model asks for it."""
    return {"name": name, "arguments": arguments}


async def ended(chat: Chat, runs: int) -> None:
    """Wait for the end of so many runs."""
    async with asyncio.timeout(20):
        while True:
            rows = [row["props"] for row in await chat.rows() if row["kind"] == "run"]
            if [row["status"] for row in rows] == ["finished"] * runs:
                return
            await asyncio.sleep(0.02)


async def conversation(start: Start, model: ModelServer, api: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Two prompts with calls in two rounds: the rows, without what differs from run to run, and the bodies of
    all requests."""
    engine = OpenAIEngine(model="test-model", base_url=model.url, api=api)
    chat = await start(engine, tools=(double, fail), store=MemoryStore())
    before = len(model.requests)
    model.script(
        Reply(
            "Let me see.",
            reasoning="Two calls at once.",
            tool_calls=[call("double", number=21), call("fail", why="no luck")],
        ),
        Reply(tool_calls=[call("double", number="x")]),
        Reply("It is 42."),
        Reply("As I said: 42."),
    )
    await chat.say("Twice 21?")
    await ended(chat, 1)
    await chat.say("Once more?")
    await ended(chat, 2)
    runs = [row["id"] for row in await chat.rows() if row["kind"] == "run"]
    rows = []
    for row in await chat.rows():
        plain = {name: value for name, value in row["props"].items() if name not in VARY}
        text = json.dumps([row["id"], row["kind"], plain], sort_keys=True)
        for number, run in enumerate(runs):
            text = text.replace(run, f"run {number}")
        rows.append(json.loads(text))
    await engine.aclose()
    return rows, [request.body for request in model.requests[before:]]


def told_by_chat(body: dict[str, Any]) -> list[tuple[str, str]]:
    """What the model heard in a request of chat completions."""
    heard = []
    for message in body["messages"]:
        if message.get("content"):
            heard.append((message["role"], message["content"]))
        heard += [("call", each["function"]["name"]) for each in message.get("tool_calls") or ()]
    return heard


def told_by_responses(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The same of a request of Responses; its reasoning items have no counterpart."""
    heard = []
    for item in body["input"]:
        match item.get("type", "message"):
            case "message":
                content = item["content"]
                text = content if isinstance(content, str) else "".join(part["text"] for part in content)
                heard.append((item["role"], text))
            case "function_call":
                heard.append(("call", item["name"]))
            case "function_call_output":
                heard.append(("tool", item["output"]))
    return heard


async def test_both_styles_give_the_same_conversation(start: Start, model: ModelServer) -> None:
    rows, bodies = await conversation(start, model, "chat")
    others, other_bodies = await conversation(start, model, "responses")
    assert rows == others
    results = [props["result"] for _, kind, props in rows if kind == "tool_result"]
    assert results[:2] == ["42", "ValueError: no luck"]
    assert "number" in results[2]
    assert [props["content"] for _, kind, props in rows if kind == "message"] == [
        "Twice 21?",
        "Two calls at once.",
        "Let me see.",
        "It is 42.",
        "Once more?",
        "As I said: 42.",
    ]
    assert len(bodies) == len(other_bodies) == 4
    for body, other in zip(bodies, other_bodies, strict=True):
        assert told_by_chat(body) == told_by_responses(other)
    assert told_by_chat(bodies[3])[-3:] == [
        ("tool", results[2]),
        ("assistant", "It is 42."),
        ("user", "Once more?"),
    ]
    assert any(item.get("type") == "reasoning" for item in other_bodies[1]["input"]), "it is handed back"
