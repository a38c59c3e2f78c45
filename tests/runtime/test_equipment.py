"""What a conversation has beside its profile: tools of a notebook, texts that prompts name, pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Start
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import BadRequest, NotAllowed, TooLarge, WebChatError
from webchat_widget.events import CallRequest, Finish, Retrying
from webchat_widget.requests import (
    MAX_IMAGE_BYTES,
    ChatRequest,
    Decision,
    Overrides,
    parse_approval,
    parse_chat,
)
from webchat_widget.runtime.equipment import Equipment
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Image

CALLS = Finish("tool_calls")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()


@tool(read_only=True)
def area(country: str) -> str:
    """The area of a country."""
    return f"{country}: 316"


def ours(*functions: Any) -> ToolRegistry:
    return ToolRegistry(map(function_tool, functions))


async def answered(chat: Chat, prompt: str, conv_id: str = "c", **parts: Any) -> None:
    """Ask, and wait for the end."""
    await chat.service.chat(ChatRequest(prompt=prompt, conv_id=conv_id, **parts))
    async with asyncio.timeout(10):
        while chat.service.busy:
            await asyncio.sleep(0.005)


class TestTools:
    async def test_they_are_beside_the_profile_s(self, start: Start) -> None:
        def look() -> str:
            """Look."""
            return "seen"

        request = CallRequest("1", "area", '{"country": "Malta"}')
        engine = ScriptedEngine([request, CALLS], "316.", "Elsewhere.")
        chat = await start(engine, tools=(look,))
        chat.service.equip("c", ours(area), {})
        await answered(chat, "How large?")
        assert {tool.name for tool in engine.turns[0].tools} == {"look", "area"}
        assert engine.turns[1].messages[-1].content == "Malta: 316"
        await answered(chat, "And here?", "other")
        assert [tool.name for tool in engine.turns[2].tools] == ["look"]

    async def test_a_later_call_replaces_them_for_later_runs(self, start: Start) -> None:
        never = asyncio.Event()
        engine = ScriptedEngine([never, CallRequest("1", "area", '{"country": "x"}'), CALLS], "A.", "B.")
        chat = await start(engine)
        chat.service.equip("c", ours(area), {})
        await chat.say("One")
        async with asyncio.timeout(10):
            while not engine.turns:
                await asyncio.sleep(0.005)
        chat.service.equip("c", ToolRegistry(), {})
        never.set()
        await answered(chat, "Two")
        assert engine.turns[1].messages[-1].content == "x: 316", "a run keeps what it began with"
        assert engine.turns[2].tools == ()

    async def test_an_override_names_both_kinds_or_none(self, start: Start) -> None:
        def look() -> str:
            """Look."""
            return "seen"

        engine = ScriptedEngine("A.", "B.", "C.")
        chat = await start(engine, tools=(look,))
        with pytest.raises(NotAllowed):
            await answered(chat, "x", overrides=Overrides(tools=("area",)))
        chat.service.equip("c", ours(area), {})
        await answered(chat, "x", overrides=Overrides(tools=("area", "look")))
        await answered(chat, "x", overrides=Overrides(tools=("area",)))
        await answered(chat, "x", overrides=Overrides(tools=()))
        names = [[tool.name for tool in turn.tools] for turn in engine.turns]
        assert names == [["area", "look"], ["area"], []]
        with pytest.raises(NotAllowed):
            await answered(chat, "x", "other", overrides=Overrides(tools=("area",)))
        await chat.service.configure("c", Overrides(tools=("area",)))

    async def test_one_of_the_same_name_goes_before_the_profile_s(self, start: Start) -> None:
        def look() -> str:
            """The profile's."""
            return "theirs"

        def mine() -> str:
            """The notebook's."""
            return "mine"

        engine = ScriptedEngine([CallRequest("1", "look", "{}"), CALLS], "Done.")
        chat = await start(engine, tools=(look,))
        chat.service.equip("c", ours(tool(name="look", read_only=True)(mine)), {})
        await answered(chat, "x")
        assert [tool.description for tool in engine.turns[0].tools] == ["The notebook's."]
        assert engine.turns[1].messages[-1].content == "mine"


class TestContexts:
    @pytest.mark.parametrize(
        ("prompt", "added"),
        [
            ("What is @df?", ["df"]),
            ("@df", ["df"]),
            ("(@df), @x and @df again", ["df", "x"]),
            ("@dfs and @d", []),
            ("me@df.org", []),
            ("@ df", []),
            ("@unknown", []),
            ("@df.head()", ["df"]),
            ("@größe", ["größe"]),
        ],
    )
    def test_what_a_prompt_names(self, prompt: str, added: list[str]) -> None:
        contexts = {"df": "a table", "x": "a number", "größe": "a size"}
        texts = "".join(f"\n\n[{name}]\n{contexts[name]}" for name in added)
        assert Equipment(contexts=contexts).spelled_out(prompt) == prompt + texts

    async def test_the_model_is_sent_it_and_the_person_sees_the_prompt(self, start: Start) -> None:
        engine = ScriptedEngine("A table.", "Yes.")
        chat = await start(engine)
        chat.service.equip("c", ToolRegistry(), {"df": "3 rows"})
        await answered(chat, "What is @df?")
        assert engine.turns[0].messages[-1].content == "What is @df?\n\n[df]\n3 rows"
        assert (await chat.texts())[0] == ("user", "What is @df?")
        chat.service.equip("c", ToolRegistry(), {})
        await answered(chat, "Sure?")
        assert engine.turns[1].messages[0].content.endswith("3 rows"), "it remembers what it was sent"


class TestPictures:
    async def test_they_reach_the_model_the_row_and_the_memory(self, start: Start, tmp_path: Path) -> None:
        engine = ScriptedEngine("A cat.", "Grey.")
        chat = await start(engine)
        image = Image("image/png", PNG, "cat.png")
        await answered(chat, "What is it?", images=(image,))
        assert engine.turns[0].messages[-1].images == (image,)
        (row,) = [r for r in await chat.rows() if r["props"].get("role") == "user"]
        assert row["props"]["images"] == [{"name": "cat.png", "mime": "image/png", "data": PNG}]
        await answered(chat, "Which colour?")
        assert engine.turns[1].messages[0].images == (image,)
        await chat.service.close()
        again = ScriptedEngine("Hi.")
        chat = await start(again, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        await answered(chat, "And?")
        assert again.turns[0].messages[0].images == (image,)

    def test_they_are_read_from_a_request_and_part_of_its_digest(self) -> None:
        body = {"prompt": "x", "attachments": [{"name": "cat.png", "mime": "image/png", "data": PNG}]}
        request = parse_chat(json.dumps(body).encode())
        assert request.images == (Image("image/png", PNG, "cat.png"),)
        assert request.digest != parse_chat(b'{"prompt": "x"}').digest
        assert parse_chat(b'{"prompt": "x", "attachments": []}').images == ()

    @pytest.mark.parametrize(
        ("begin", "mime"),
        [
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\x01\x02\x0a\x04WEBP", "image/webp"),
        ],
    )
    def test_each_kind_is_known_by_its_first_bytes(self, begin: bytes, mime: str) -> None:
        item = {"mime": mime, "data": base64.b64encode(begin + b"rest").decode()}
        assert parse_chat(json.dumps({"prompt": "x", "attachments": [item]}).encode()).images[0].mime == mime
        item["data"] = base64.b64encode(b"<svg/>" + begin).decode()
        with pytest.raises(NotAllowed):
            parse_chat(json.dumps({"prompt": "x", "attachments": [item]}).encode())

    @pytest.mark.parametrize(
        ("attachments", "error"),
        [
            ("x", BadRequest),
            ({"data": PNG}, BadRequest),
            ([7], BadRequest),
            ([{"mime": "image/png"}], BadRequest),
            ([{"mime": "image/png", "data": 7}], BadRequest),
            ([{"mime": "image/png", "data": PNG, "name": []}], BadRequest),
            ([{"mime": "image/svg+xml", "data": PNG}], NotAllowed),
            ([{"mime": "image/jpeg", "data": PNG}], NotAllowed),
            ([{"mime": "image/png", "data": ""}], NotAllowed),
            ([{"mime": "image/png", "data": PNG + "!"}], NotAllowed),
            ([{"mime": "image/png", "data": PNG + "\n"}], NotAllowed),
            ([{"mime": "image/png", "data": PNG}] * 11, NotAllowed),
        ],
    )
    def test_what_is_refused(self, attachments: Any, error: type[WebChatError]) -> None:
        with pytest.raises(error) as raised:
            parse_chat(json.dumps({"prompt": "x", "attachments": attachments}).encode())
        assert type(raised.value) is error

    def test_how_much_is_too_much(self) -> None:
        half = b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE_BYTES // 2 - 8)
        item = {"mime": "image/png", "data": base64.b64encode(half).decode()}
        body = {"prompt": "x", "attachments": [item, item]}
        assert len(parse_chat(json.dumps(body).encode()).images) == 2
        body["attachments"] = [item, item, {"mime": "image/png", "data": PNG}]
        with pytest.raises(TooLarge):
            parse_chat(json.dumps(body).encode())


class TestDecisions:
    def test_they_are_read_from_a_request(self) -> None:
        digest = "a" * 64
        body = {"decision": "deny", "digest": digest, "reason": "No."}
        assert parse_approval(json.dumps(body).encode()) == Decision("deny", digest, "No.")
        body = {"decision": "once", "digest": digest}
        assert parse_approval(json.dumps(body).encode()) == Decision("once", digest)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"decision": "yes", "digest": "a" * 64},
            {"decision": ["once"], "digest": "a" * 64},
            {"decision": "once"},
            {"decision": "once", "digest": "A" * 64},
            {"decision": "once", "digest": "a" * 63},
            {"decision": "once", "digest": "a" * 64 + "\n"},
            {"decision": "deny", "digest": "a" * 64, "reason": 7},
            {"decision": "deny", "digest": "a" * 64, "reason": "x" * 2001},
        ],
    )
    def test_what_is_refused(self, body: Any) -> None:
        with pytest.raises(BadRequest):
            parse_approval(json.dumps(body).encode())


async def test_prints_of_a_tool_reach_a_page_and_the_disk(start: Start, tmp_path: Path) -> None:
    def work() -> None:
        """Work."""
        for n in range(3):
            print(f"step {n} 😀")

    chat = await start(ScriptedEngine([CallRequest("1", "work", "{}"), CALLS], "Done."), tools=(work,))
    for append in (True, False):
        await chat.join(append=append)
    page = await chat.join()
    await answered(chat, "Go")
    await page.until("run.finished")
    text = ""
    for event in page.of("tool.delta"):
        piece = event["data"]["append"]["stdout"]
        assert piece["offset"] == len(text.encode("utf-16-le")) // 2
        text += piece["delta"]
    assert text == "step 0 😀\nstep 1 😀\nstep 2 😀\n"
    await chat.service.close()
    loaded = await SQLiteStore(tmp_path / "timeline.sqlite").load("c")
    assert loaded is not None
    (call,) = [row for row in loaded.rows if row["kind"] == "tool_call"]
    assert call["props"]["stdout"] == text


async def test_a_wait_for_the_model_is_a_line_in_the_chat(start: Start) -> None:
    chat = await start(ScriptedEngine([Retrying("The server is busy.", 0.5), "Hi"]))
    await answered(chat, "Hello?")
    (line,) = [row for row in await chat.rows() if row["kind"] == "log"]
    assert line["props"]["message"] == "The server is busy."
    assert line["props"]["fields"]["retryAt"] > line["createdAt"]


async def test_after_a_crash_the_model_remembers_the_calls_of_earlier_rounds(
    start: Start, tmp_path: Path
) -> None:
    never = asyncio.Event()
    request = CallRequest("1", "area", '{"country": "Malta"}')
    chat = await start(ScriptedEngine(["Let me see.", request, CALLS], ["It is", never]), tools=(area,))
    await chat.say("How large?")
    async with asyncio.timeout(10):
        while ("assistant", "It is") not in await chat.texts():
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)  # the text is written four times a second
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"timeline.sqlite{suffix}", tmp_path / f"crashed.sqlite{suffix}")
    engine = ScriptedEngine("Yes.")
    again = await start(engine, tools=(area,), store=SQLiteStore(tmp_path / "crashed.sqlite"))
    await answered(again, "Sure?")
    (turn,) = engine.turns
    assert [(m.role, m.content) for m in turn.messages] == [
        ("user", "How large?"),
        ("assistant", "Let me see."),
        ("tool", "Malta: 316"),
        ("assistant", "It is"),
        ("user", "Sure?"),
    ]
    assert turn.messages[1].tool_calls[0].id == turn.messages[2].tool_call_id
