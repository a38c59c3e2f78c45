"""What the model remembers: what was stored. It is sent the same whether the chat was in memory all the time,
was let go of meanwhile, or was started again."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from tests.support.model_server import ModelServer, Reply
from webchat_widget import tool
from webchat_widget.engines.openai import OpenAIEngine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.requests import ChatRequest, Decision
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.turns import Image

VERSION_2 = Path(__file__).parents[1] / "timeline" / "version2.sql"
DOT = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode(), "dot.png")
QUICK = RuntimeSettings(evict_after=0.01, pool=PoolSettings(idle_timeout=0.01))


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


async def answered(chat: Chat, prompt: str, **more: Any) -> None:
    """Ask, and wait for the end."""
    await chat.service.chat(ChatRequest(prompt=prompt, conv_id="c", **more))
    async with asyncio.timeout(20):
        while chat.service.busy:
            await asyncio.sleep(0.005)


async def let_go(chat: Chat) -> None:
    """Wait until the conversation is not in memory any more."""
    async with asyncio.timeout(20):
        while len(chat.service._manager):
            await asyncio.sleep(0.005)


async def told_last(start: Start, path: Path, model: ModelServer, api: str, between: str) -> dict[str, Any]:
    """The body of the last request of a conversation, with something between each two prompts."""
    model.reset()
    model.script(
        Reply(
            "Let me see.",
            reasoning="Two calls at once.",
            tool_calls=[
                {"name": "double", "arguments": {"number": 21}},
                {"name": "fail", "arguments": {"why": "no luck"}},
            ],
        ),
        Reply("It is 42. é 😀"),
        Reply(status=400),
        Reply("A dot."),
    )
    engine = OpenAIEngine(model="test-model", base_url=model.url, api=api)

    async def begin() -> Chat:
        settings = QUICK if between == "evicted" else None
        return await start(engine, store=SQLiteStore(path), tools=(double, fail), settings=settings)

    chat = await begin()
    for prompt, images in (("Twice 21?", ()), ("Fails.", ()), ("What is this?", (DOT,)), ("And now?", ())):
        await answered(chat, prompt, images=images)
        if between == "evicted":
            await let_go(chat)
        elif between == "restarted":
            await chat.service.close()
            chat = await begin()
    await chat.service.close()
    await engine.aclose()
    assert len(model.completions) == 5
    return model.completions[-1].body


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("between", ["evicted", "restarted"])
async def test_the_model_is_sent_what_it_would_have_been(
    start: Start, tmp_path: Path, model: ModelServer, api: str, between: str
) -> None:
    kept = await told_last(start, tmp_path / "kept.sqlite", model, api, "nothing")
    again = await told_last(start, tmp_path / "again.sqlite", model, api, between)
    assert again == kept
    text = str(kept)
    for part in ("Let me see.", "ValueError: no luck", "It is 42. é 😀", DOT.data, "A dot.", "And now?"):
        assert part in text
    assert "Fails." not in text, "a prompt without an answer is not remembered"
    assert ("encrypted:Two calls at once." in text) == (api == "responses"), "what the provider wants back"


async def test_a_conversation_of_schema_2_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    @tool
    def wipe() -> str:
        """Wipe."""
        return "wiped"

    db = sqlite3.connect(tmp_path / "old.sqlite")
    db.executescript(VERSION_2.read_text(encoding="utf-8"))
    db.close()
    engine = ScriptedEngine("All gone.")
    chat = await start(engine, store=SQLiteStore(tmp_path / "old.sqlite"), tools=(double, wipe))
    page = await chat.join()
    (row,) = [row for row in await chat.rows() if row["props"].get("status") == "asking"]
    await chat.service.approve("c", row["id"], Decision("once", row["props"]["approval"]["digest"]))
    await page.until("run.finished")
    (turn,) = engine.turns
    assert [(message.role, message.content) for message in turn.messages] == [
        ("user", "Twice 21?"),
        ("assistant", ""),
        ("tool", "42"),
        ("assistant", "It is 42. é 😀"),
        ("user", "And again?"),
        ("assistant", "Again 42."),
        ("user", "Wipe it."),
        ("assistant", ""),
        ("tool", "wiped"),
    ]
