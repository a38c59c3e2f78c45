"""The engine for OpenAI's protocol, against a real server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.model_server import Gate, ModelServer, Reply
from webchat_widget.engines.openai import DEFAULT_MODEL, OpenAIEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, Turn
from webchat_widget.typing import Usage

KEY = "sk-canary-0123456789"
AT_ONCE = {"retry-after-ms": "1"}
"""What a server asks for is obeyed, so that a retry needs no wait."""


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer(models=["first-model", "second-model"]) as server:
        yield server


@asynccontextmanager
async def engine_for(url: str, **options: Any) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(base_url=url, **{"api_key": KEY, "timeout": 10.0, "model": "test-model", **options})
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture
async def engine(model: ModelServer) -> AsyncIterator[OpenAIEngine]:
    async with engine_for(model.url) as engine:
        yield engine


def turn(prompt: str = "hi", **more: Any) -> Turn:
    return Turn((Message("user", prompt),), **more)


async def answer(engine: OpenAIEngine, turn: Turn) -> list[EngineEvent]:
    return [event async for event in engine.stream(turn)]


async def fault(engine: OpenAIEngine, turn: Turn) -> tuple[EngineError, list[EngineEvent]]:
    """The error with which a turn ends, and what came before it."""
    events: list[EngineEvent] = []

    async def read() -> None:
        async for event in engine.stream(turn):
            events.append(event)

    with pytest.raises(EngineError) as raised:
        await read()
    error = raised.value
    assert KEY not in f"{error} {error.message} {error!r}"
    assert error.__cause__ is None, "a traceback of the SDK may show the key"
    assert error.__suppress_context__ or error.__context__ is None
    return error, events


def said(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextChunk))


class TestAnswer:
    async def test_text_streams(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply("Hello there, you 😀."))
        *text, finish = await answer(engine, turn())
        assert text == [TextChunk("Hello "), TextChunk("there, "), TextChunk("you "), TextChunk("😀.")]
        assert finish == Finish("stop", Usage(inputTokens=7, outputTokens=4, cachedTokens=0), "test-model")

    async def test_a_piece_is_given_when_it_comes(self, model: ModelServer, engine: OpenAIEngine) -> None:
        gate = Gate()
        model.script(Reply(chunks=["one ", "two"], hold=gate))
        stream = engine.stream(turn())
        gate.step()
        assert await anext(stream) == TextChunk("one "), "though the server holds the rest"
        gate.open()
        assert said([event async for event in stream]) == "two"

    async def test_reasoning_then_text(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply("Yes.", reasoning="hm well"))
        events = await answer(engine, turn())
        assert events[:3] == [ThinkingChunk("hm "), ThinkingChunk("well"), TextChunk("Yes.")]

    async def test_a_call_in_pieces(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply(tool_calls=[{"name": "calculate", "arguments": {"expression": "37 * 42"}}]))
        call, finish = await answer(engine, turn())
        assert call == CallRequest("call_0", "calculate", '{"expression": "37 * 42"}')
        assert isinstance(finish, Finish)
        assert finish.reason == "tool_calls"

    async def test_the_request_is_the_turn_and_carries_the_key(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        await answer(engine, turn("what?", model="chosen-model"))
        (request,) = model.completions
        assert request.body["model"] == "chosen-model"
        assert request.body["messages"] == [{"role": "user", "content": "what?"}]
        assert request.headers["authorization"] == f"Bearer {KEY}"

    async def test_keep_alives_between_pieces_are_no_text(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        model.script(Reply("a b c", fault="keepalive"))
        assert said(await answer(engine, turn())) == "a b c"

    async def test_turns_at_once_do_not_mix(self, model: ModelServer, engine: OpenAIEngine) -> None:
        answers = await asyncio.gather(*(answer(engine, turn(f"prompt {n}")) for n in range(10)))
        assert [said(each) for each in answers] == [f"You said: prompt {n}" for n in range(10)]

    async def test_it_answers_again_after_it_was_closed(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        await engine.aclose()
        await engine.aclose()
        assert said(await answer(engine, turn())) == "You said: hi"


class TestModel:
    async def test_the_first_of_the_server_s_list_where_none_is_named(self, model: ModelServer) -> None:
        async with engine_for(model.url, model=None) as engine:
            assert engine.model is None
            await answer(engine, turn())
            await answer(engine, turn())
            assert engine.model == "first-model"
        assert [request.body["model"] for request in model.completions] == ["first-model"] * 2
        assert len(model.requests) == 3, "the list was asked for once"

    async def test_the_turn_s_own_needs_no_list(self, model: ModelServer) -> None:
        async with engine_for(model.url, model=None) as engine:
            await answer(engine, turn(model="chosen-model"))
        assert len(model.requests) == 1

    async def test_an_empty_list(self, model: ModelServer) -> None:
        model.models.clear()
        async with engine_for(model.url, model=None) as engine:
            error, _ = await fault(engine, turn())
        assert (error.code, error.retryable) == ("no_model", False)
        assert f"127.0.0.1:{model.port}" in error.message
        assert "WEBCHAT_MODEL" in error.message

    async def test_a_rejected_key_for_the_list(self) -> None:
        with ModelServer(api_key="right") as model:
            async with engine_for(model.url, model=None) as engine:
                error, _ = await fault(engine, turn())
        assert error.code == "key_rejected"

    @pytest.mark.parametrize(
        ("status", "content_type", "body"),
        [
            ("200 OK", "text/html", b"<html>Sign in</html>"),
            ("200 OK", "application/json", b'"no list"'),
            ("200 OK", "application/json", b"{}"),
            ("200 OK", "application/json", b"{"),
            ("404 Not Found", "text/html", b"<html>Nothing here</html>"),
        ],
        ids=["a page", "a text", "an object", "half a JSON", "no such path"],
    )
    async def test_what_is_no_list_says_that_the_address_is_wrong(
        self, status: str, content_type: str, body: bytes
    ) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        async with server, engine_for(f"http://127.0.0.1:{port}/v1", model=None) as engine:
            error, _ = await fault(engine, turn())
        assert error.code == ("no_model" if status.startswith("404") else "protocol_error")
        assert "OPENAI_BASE_URL" in error.message
        assert "None" not in error.message

    def test_openai_itself_has_a_default(self) -> None:
        assert OpenAIEngine().model == DEFAULT_MODEL


class TestRefused:
    async def test_a_wrong_key(self) -> None:
        with ModelServer(api_key="right") as model:
            async with engine_for(model.url) as engine:
                error, events = await fault(engine, turn())
        assert (error.code, error.retryable, events) == ("key_rejected", False, [])
        assert f"127.0.0.1:{model.port}" in error.message
        assert "OPENAI_API_KEY" in error.message

    @pytest.mark.parametrize(
        ("status", "message", "code", "retryable", "names"),
        [
            (400, None, "context_too_long", False, "too long"),
            (403, None, "key_rejected", False, "HOST"),
            (404, None, "model_unknown", False, "'test-model'"),
            (422, None, "model_refused_request", False, "'test-model'"),
        ],
    )
    async def test_what_another_try_would_not_help(
        self,
        model: ModelServer,
        engine: OpenAIEngine,
        status: int,
        message: str | None,
        code: str,
        retryable: bool,
        names: str,
    ) -> None:
        model.script(Reply(status=status, message=message))
        error, _ = await fault(engine, turn())
        assert (error.code, error.retryable) == (code, retryable)
        assert names.replace("HOST", f"127.0.0.1:{model.port}") in error.message
        assert len(model.completions) == 1

    @pytest.mark.parametrize(
        ("status", "code"),
        [(429, "rate_limited"), (500, "model_server_error"), (503, "model_server_error")],
    )
    async def test_what_may_pass_is_tried_three_times(
        self, model: ModelServer, engine: OpenAIEngine, status: int, code: str
    ) -> None:
        model.script(*[Reply(status=status, headers=AT_ONCE)] * 3)
        error, _ = await fault(engine, turn())
        assert (error.code, error.retryable) == (code, True)
        assert f"127.0.0.1:{model.port}" in error.message
        assert len(model.completions) == 3

    @pytest.mark.parametrize("status", [429, 500])
    async def test_a_retry_that_is_answered_is_all_that_is_seen(
        self, model: ModelServer, engine: OpenAIEngine, status: int
    ) -> None:
        model.script(
            Reply(status=status, headers=AT_ONCE), Reply(status=status, headers=AT_ONCE), "Here I am."
        )
        assert said(await answer(engine, turn())) == "Here I am."

    async def test_the_upstream_s_words_are_not_passed_on(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        model.script(Reply(status=403, message=f"The key {KEY} of Jane Doe may not."))
        error, _ = await fault(engine, turn())
        assert "Jane" not in error.message

    async def test_a_server_that_is_not_there(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.stop()
        error, _ = await fault(engine, turn())
        assert (error.code, error.retryable) == ("model_unreachable", True)
        assert f"127.0.0.1:{model.port}" in error.message

    async def test_a_host_that_does_not_exist(self) -> None:
        async with engine_for("http://user:secret@no-such-host.invalid/v1") as engine:
            error, _ = await fault(engine, turn())
        assert error.code == "model_unreachable"
        assert "no-such-host.invalid" in error.message
        assert "secret" not in f"{error.message} {engine!r}"

    async def test_a_page_instead_of_an_answer(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply(fault="html"))
        error, events = await fault(engine, turn())
        assert (error.code, events) == ("protocol_error", [])
        assert "Sign in" not in error.message


class TestBroken:
    """The answer had begun: what came is kept."""

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (Reply("one two three four", fault="cut", after=2), "interrupted"),
            (Reply("one two", finish_reason=None), "interrupted"),
            (Reply("one two three four", fault="malformed", after=2), "protocol_error"),
            (
                Reply("one two three four", fault="error_event", after=2, message=f"Bad {KEY}"),
                "model_server_error",
            ),
        ],
        ids=["cut", "no finish_reason", "malformed", "an error event"],
    )
    async def test_it_breaks_off(
        self, model: ModelServer, engine: OpenAIEngine, reply: Reply, code: str
    ) -> None:
        model.script(reply)
        error, events = await fault(engine, turn())
        assert (error.code, error.retryable) == (code, True)
        assert said(events).rstrip() == "one two"
        assert len(model.completions) == 1, "an answer that has begun is never asked for again"

    @pytest.mark.parametrize("quiet", ["stall", "keepalive"])
    async def test_a_server_that_says_no_more(self, model: ModelServer, quiet: Any) -> None:
        """Keep-alives tell that the connection lives, not that the model does. An answer may take longer than
        the silence that is allowed, which counts from its last piece."""
        model.script(Reply("a b c d e f g h i", fault=quiet, after=8, delay=0.1))
        async with engine_for(model.url, timeout=0.6) as engine:
            heard: list[float] = []

            async def read() -> None:
                async for _ in engine.stream(turn()):
                    heard.append(time.monotonic())

            with pytest.raises(EngineError) as raised:
                await read()
            silence = time.monotonic() - heard[-1]
        error = raised.value
        assert (error.code, error.retryable) == ("interrupted", True)
        assert "0.6 s" in error.message
        assert f"127.0.0.1:{model.port}" in error.message
        assert len(heard) == 8
        assert 0.5 < silence < 5
        await asyncio.to_thread(model.wait_disconnected)

    async def test_a_server_that_never_answers(self, model: ModelServer) -> None:
        accepted: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        async with server, engine_for(f"http://127.0.0.1:{port}/v1", timeout=0.05) as engine:
            error, _ = await fault(engine, turn())
            for writer in accepted:
                writer.close()
        assert (error.code, error.retryable) == ("model_timeout", True)
        assert f"127.0.0.1:{port}" in error.message


class TestClosing:
    async def test_to_stop_reading_closes_the_connection(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        gate = Gate()
        model.script(Reply(chunks=["one ", "two "], hold=gate))
        stream = engine.stream(turn())
        gate.step()
        assert await anext(stream) == TextChunk("one ")
        await stream.aclose()  # an async generator
        (gone,) = await asyncio.to_thread(model.wait_disconnected)
        assert gone.chunks_sent == 1

    async def test_a_cancel_before_the_first_word_closes_the_connection(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        gate = Gate()
        model.script(Reply("never", hold=gate))
        reading = asyncio.ensure_future(answer(engine, turn()))
        await asyncio.to_thread(gate.wait_held)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        (gone,) = await asyncio.to_thread(model.wait_disconnected)
        assert gone.chunks_sent == 0

    async def test_the_next_turn_works(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply("one two three four", fault="stall", after=1), "Again.")
        stream = engine.stream(turn())
        await anext(stream)
        await stream.aclose()  # an async generator
        assert said(await answer(engine, turn())) == "Again."


async def test_the_key_is_in_no_log(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model.script(Reply(status=401), Reply("one two", fault="cut"), "fine")
    async with engine_for(model.url) as engine:
        await fault(engine, turn())
        await fault(engine, turn())
        await answer(engine, turn())
        assert KEY not in repr(engine)
    assert caplog.records, "the SDK was heard"
    assert KEY not in caplog.text


@pytest.mark.parametrize("api", ["", "Chat", "completions"])
def test_an_api_that_is_none(api: str) -> None:
    with pytest.raises(ValueError, match=f"There is no API '{api}': say 'chat' or 'responses'"):
        OpenAIEngine(api=api)


async def test_json_that_is_no_stream(model: ModelServer, engine: OpenAIEngine) -> None:
    """A server that knows nothing of streams, or something that is no model server at all."""
    model.script(Reply(raw=b'{"hello": "world"}', headers={"Content-Type": "application/json"}))
    error, events = await fault(engine, turn())
    assert (error.code, events) == ("protocol_error", [])


async def test_the_stream_of_a_server_with_habits_of_its_own(
    model: ModelServer, engine: OpenAIEngine
) -> None:
    """A byte order mark, CRLF, comments, empty chunks, usage alone, and something after the end."""
    lines = [
        "\ufeff: hello",
        "",
        'data: {"choices": []}',
        "",
        'event: chunk\r\ndata:{"choices": [{"delta": {"content": "Hi", "tool_calls": null}}]}',
        "",
        'data: {"choices": [{"delta": null, "finish_reason": "stop"}]}',
        "",
        'data: {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
        "",
        'data: {"choices": [{"delta": {"content": ""}, "finish_reason": null}]}',
        "",
        "data: [DONE]",
        "",
        "",
    ]
    model.script(Reply(raw="\r\n".join(lines).encode()))
    usage = Usage(inputTokens=1, outputTokens=1, cachedTokens=0)
    assert await answer(engine, turn()) == [TextChunk("Hi"), Finish("stop", usage, "test-model")]


async def test_a_password_in_the_address_is_sent_and_in_no_log(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = model.url.replace("http://", "http://jane:se%40cret@")
    async with engine_for(url, model=None) as engine:
        await answer(engine, turn())
    assert [request.headers["authorization"] for request in model.requests] == ["Basic amFuZTpzZUBjcmV0"] * 2
    assert caplog.records
    for secret in ("cret", "amFuZTpzZUBjcmV0"):
        assert secret not in caplog.text


def test_importing_the_engine_imports_no_sdk() -> None:
    program = (
        "import sys; from webchat_widget.engines.openai import OpenAIEngine; OpenAIEngine(); "
        "print([name for name in ('openai', 'httpx', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("key", [f"{KEY}\r", f"{KEY}\n", f" {KEY} "], ids=repr)
async def test_white_space_around_a_key_is_nobodys_fault(
    model: ModelServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    model.script("fine")
    with caplog.at_level(logging.DEBUG):
        async with engine_for(model.url, api_key=key) as engine:
            assert TextChunk("fine") in await answer(engine, turn())
    assert model.completions[-1].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", [f"{KEY}\u2026", f"{KEY} {KEY}", f"{KEY}\x07"], ids=ascii)
async def test_a_key_that_is_none_is_not_sent_and_not_logged(
    model: ModelServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with engine_for(model.url, api_key=key) as engine:
            error, _ = await fault(engine, turn())
    assert (error.code, error.retryable) == ("key_rejected", False)
    assert model.requests == []
    assert KEY not in caplog.text + error.message


@pytest.mark.parametrize(
    "url", ["localhost:11434/v1", "http://h:abc/v1", "ftp://h/v1", "http://", "http://["]
)
async def test_an_address_that_is_none(url: str) -> None:
    async with engine_for(url) as engine:
        assert "OpenAIEngine" in repr(engine)
        error, _ = await fault(engine, turn())
    assert (error.code, error.retryable) == ("bad_base_url", False)
