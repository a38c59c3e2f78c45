"""Both styles of the protocol keep one contract: the same scenarios, against a server that really does it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any

import pytest

from tests.support.model_server import ModelServer, Reply
from webchat_widget.engines import retries
from webchat_widget.engines.openai import OpenAIEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import (
    CallRequest,
    Carried,
    EngineEvent,
    Finish,
    Retrying,
    TextChunk,
    ThinkingChunk,
)
from webchat_widget.turns import Image, Message, ToolCall, ToolSchema, Turn
from webchat_widget.typing import Usage

KEY = "sk-canary-0123456789"
SOON = {"retry-after-ms": "1"}
TOOL = ToolSchema("double", "Twice.", {"type": "object", "properties": {"n": {"type": "integer"}}})
ANSWERED = [TextChunk("Fine.")]
KEPT = "What came before is kept."
WRONG = (
    "The model server sent something that is not the OpenAI protocol. Is the address right "
    "(OPENAI_BASE_URL or c.WebChat.base_url; it often ends in /v1)?"
)


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
async def engine(model: ModelServer, api: str) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(base_url=model.url, api_key=KEY, model="test-model", api=api, timeout=10)
    yield engine
    await engine.aclose()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.001, 0.001))


@pytest.fixture(autouse=True)
def _the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At DEBUG, that of the SDK and of its HTTP library included, whatever the scenario."""
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpcore", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    assert KEY not in "".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    assert KEY not in caplog.text


@dataclass
class Heard:
    """One turn to its end."""

    events: list[EngineEvent] = field(default_factory=list)
    error: EngineError | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextChunk))

    @property
    def finish(self) -> Finish:
        finish = self.events[-1]
        assert isinstance(finish, Finish)
        return finish


async def hear(engine: OpenAIEngine, *messages: Message, **more: Any) -> Heard:
    heard = Heard()
    try:
        async for event in engine.stream(Turn(messages or (Message("user", "hi"),), **more)):
            heard.events.append(event)
    except EngineError as error:
        heard.error = error
    shown = heard.error
    assert KEY not in f"{shown} {shown!r} {engine!r} {''.join(format_exception(shown)) if shown else ''}"
    return heard


@dataclass(frozen=True)
class Fault:
    """What the server does, and the sentence that a person then reads; HOST is the server's."""

    replies: tuple[Reply, ...]
    code: str
    sentence: str
    retryable: bool = True
    text: str = ""


def refusal(status: int, means: str, sentence: str, **more: Any) -> Fault:
    return Fault((Reply(status=status, **more),), means, sentence, retryable=False)


REJECTED = (
    "The API key was rejected by HOST. Set a valid OPENAI_API_KEY where Jupyter is started, and start it "
    "again; for a chat in the kernel, in os.environ."
)
TOO_LONG = (
    "The conversation is too long for this model. Begin a new one, or choose a model with a larger context."
)
QUOTA = "The model server at HOST says that the quota of this API key is used up."
HALF = "one two three four"
FAULTS = {
    "401": refusal(401, "key_rejected", REJECTED),
    "401 that echoes the key": refusal(401, "key_rejected", REJECTED, message=f"Bad {KEY}"),
    "403": refusal(403, "key_rejected", REJECTED),
    "404": refusal(
        404,
        "model_unknown",
        "The model server at HOST does not know the model 'test-model'. Name another (WEBCHAT_MODEL or "
        "c.WebChat.model), or correct the address (it often ends in /v1).",
    ),
    "400": refusal(
        400,
        "model_refused_request",
        "The model server at HOST refused the request for 'test-model' with status 400.",
        code="invalid_value",
        message=f"Invalid {KEY}",
    ),
    "400, context": refusal(400, "context_too_long", TOO_LONG),
    "400, context in words alone": refusal(
        400,
        "context_too_long",
        TOO_LONG,
        code="400",
        message="the request exceeds the available context size (4096 tokens)",
    ),
    "400, content filter": refusal(
        400,
        "content_filtered",
        "The model server at HOST refused the conversation: its content filter does not let it pass.",
        code="content_filter",
        message="triggered",
    ),
    "429, quota": refusal(429, "quota_used_up", QUOTA, code="insufficient_quota"),
    "429 to the end": Fault(
        (Reply(status=429, headers=SOON),) * 3,
        "rate_limited",
        "The model server at HOST asks to slow down (429). Try again in 1 s.",
    ),
    "429, a wait that is too long": Fault(
        (Reply(status=429, headers={"Retry-After": "90"}),),
        "rate_limited",
        "The model server at HOST asks to slow down (429). Try again in 90 s.",
    ),
    **{
        f"{status} to the end": Fault(
            (Reply(status=status),) * 3,
            "model_server_error",
            f"The model server at HOST failed with status {status}. Try again.",
        )
        for status in (408, 409, 500, 503)
    },
    "dropped to the end": Fault(
        (Reply(fault="dropped"),) * 3,
        "model_unreachable",
        "Cannot reach the model server at HOST. Is it running, and is the address right (OPENAI_BASE_URL or "
        "c.WebChat.base_url)?",
    ),
    "a page": Fault((Reply(fault="html"),), "protocol_error", WRONG),
    "malformed": Fault((Reply(HALF, fault="malformed", after=2),), "protocol_error", WRONG, text="one two "),
    "wrong UTF-8": Fault((Reply(HALF, fault="bad_utf8", after=2),), "protocol_error", WRONG, text="one two "),
    "cut": Fault(
        (Reply(HALF, fault="cut", after=2),),
        "interrupted",
        f"The connection to the model server at HOST was cut. {KEPT}",
        text="one two ",
    ),
    "no end": Fault(
        (Reply(HALF, finish_reason=None),),
        "interrupted",
        f"The model server ended its answer before it was finished. {KEPT}",
        text=HALF,
    ),
    "an error in the middle": Fault(
        (Reply(HALF, fault="error_event", after=2, message=f"Bad {KEY}"),),
        "model_server_error",
        "The model server reported an error in the middle of its answer.",
        text="one two ",
    ),
    "the quota in the middle": Fault(
        (Reply(HALF, fault="error_event", after=2, code="insufficient_quota"),),
        "quota_used_up",
        "The model server says that the quota of this API key is used up.",
        retryable=False,
        text="one two ",
    ),
    "too long, said in the stream": Fault(
        (Reply(HALF, fault="error_event", after=0, code="context_length_exceeded"),),
        "context_too_long",
        TOO_LONG,
        retryable=False,
    ),
    "slow down, said in the middle": Fault(
        (Reply(HALF, fault="error_event", after=2, code="rate_limit_exceeded"),),
        "rate_limited",
        "The model server asks to slow down (429). Try again in a while.",
        text="one two ",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_fault_has_its_sentence(model: ModelServer, engine: OpenAIEngine, name: str) -> None:
    fault = FAULTS[name]
    model.script(*fault.replies)
    heard = await hear(engine)
    assert heard.error is not None
    assert heard.error.message == fault.sentence.replace("HOST", f"127.0.0.1:{model.port}")
    assert (heard.error.code, heard.error.retryable) == (fault.code, fault.retryable)
    assert heard.text == fault.text
    assert len(model.completions) == len(fault.replies), "no try more, and none less"
    assert (await hear(engine)).text == "You said: hi", "the next turn works"


PASSING = {
    "429": Reply(status=429, headers=SOON),
    "408": Reply(status=408),
    "409": Reply(status=409),
    "500": Reply(status=500),
    "dropped": Reply(fault="dropped"),
    "cut before the first word": Reply(HALF, fault="cut", after=0),
    "an end before the first word": Reply(finish_reason=None),
    "an error before the first word": Reply(HALF, fault="error_event", after=0),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_passes_is_not_seen(model: ModelServer, engine: OpenAIEngine, name: str) -> None:
    model.script(PASSING[name], PASSING[name], "Fine.")
    heard = await hear(engine)
    assert heard.events[:-1] == ANSWERED
    assert len(model.completions) == 3


@pytest.mark.parametrize("quiet", ["stall", "keepalive"])
@pytest.mark.parametrize("after", [0, 2])
async def test_silence_ends(model: ModelServer, api: str, quiet: Any, after: int) -> None:
    """Also one that keep-alives fill."""
    engine = OpenAIEngine(base_url=model.url, api_key=KEY, model="m", api=api, timeout=0.4)
    model.script(Reply(HALF, fault=quiet, after=after))
    heard = await hear(engine)
    assert heard.error is not None
    host = f"127.0.0.1:{model.port}"
    assert heard.error.message == f"The model server at {host} sent nothing for 0.4 s. {KEPT}"
    assert (heard.error.code, heard.error.retryable) == ("interrupted", True)
    assert heard.text == "one two "[: after * 4]
    await asyncio.to_thread(model.wait_disconnected)
    assert len(model.completions) == 1, "who waited so long is not made to wait again"
    await engine.aclose()


async def test_a_server_that_never_answers(model: ModelServer, api: str) -> None:
    engine = OpenAIEngine(base_url=model.url, api_key=KEY, model="m", api=api, timeout=0.2)
    model.script(Reply(fault="silent"))
    heard = await hear(engine)
    assert heard.error is not None
    assert heard.error.message == f"The model server at 127.0.0.1:{model.port} did not answer within 0.2 s."
    assert heard.error.code == "model_timeout"
    assert len(model.completions) == 1
    await engine.aclose()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1"])
async def test_a_server_that_is_not_there(api: str, host: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"{host}:{unused.getsockname()[1]}"
        engine = OpenAIEngine(base_url=f"http://{address}/v1", api_key=KEY, model="m", api=api)
        heard = await hear(engine)
    assert heard.error is not None
    assert heard.error.message.startswith(f"Cannot reach the model server at {address}. Is it running")
    assert (heard.error.code, heard.error.retryable) == ("model_unreachable", True)
    await engine.aclose()


async def test_a_long_wait_is_told_and_can_be_ended(model: ModelServer, engine: OpenAIEngine) -> None:
    model.script(Reply(status=429, headers={"Retry-After": "30"}))
    stream = engine.stream(Turn((Message("user", "hi"),)))
    told = await anext(stream)
    assert told == Retrying(f"The model server at 127.0.0.1:{model.port} asks to slow down (429).", 30)
    waiting = asyncio.ensure_future(anext(stream))
    assert not (await asyncio.wait([waiting], timeout=0.05))[0]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(model.completions) == 1


class TestAnswers:
    async def test_text_and_usage(self, model: ModelServer, engine: OpenAIEngine) -> None:
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 5},
        }
        model.script(Reply("Hello you", usage=usage))
        heard = await hear(engine)
        counted = Usage(inputTokens=9, outputTokens=2, cachedTokens=5)
        assert heard.events == [TextChunk("Hello "), TextChunk("you"), Finish("stop", counted, "test-model")]

    async def test_thoughts(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply("Yes.", reasoning="hm well"))
        heard = [event for event in (await hear(engine)).events if not isinstance(event, Carried)]
        assert heard[:-1] == [ThinkingChunk("hm "), ThinkingChunk("well"), TextChunk("Yes.")]

    async def test_thoughts_in_the_text(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply(chunks=["<th", "ink>\nhm", "</thi", "nk>\n\nYes", "."]))
        heard = await hear(engine)
        assert heard.events[:-1] == [ThinkingChunk("hm"), TextChunk("Yes"), TextChunk(".")]

    async def test_a_refusal(self, model: ModelServer, engine: OpenAIEngine) -> None:
        model.script(Reply(refusal="I can't."))
        heard = await hear(engine)
        assert heard.text == "I can't."
        assert heard.finish.refused

    @pytest.mark.parametrize("reason", ["length", "content_filter"])
    async def test_an_end_before_the_end(self, model: ModelServer, engine: OpenAIEngine, reason: str) -> None:
        """What was said stays; half a call goes."""
        half = {"name": "double", "arguments": '{"n": 2'}
        model.script(Reply("Half", finish_reason=reason, tool_calls=[half]))
        heard = await hear(engine, tools=(TOOL,))
        assert heard.events[:-1] == [TextChunk("Half")]
        assert heard.finish.reason == reason

    async def test_calls_at_once_and_their_results(self, model: ModelServer, engine: OpenAIEngine) -> None:
        calls = [{"id": "same", "name": "double", "arguments": {"n": n}} for n in (1, 2)]
        model.script(Reply("Two.", tool_calls=calls), "Done.")
        heard = await hear(engine, tools=(TOOL,))
        asked = [event for event in heard.events if isinstance(event, CallRequest)]
        assert [event.arguments for event in asked] == ['{"n": 1}', '{"n": 2}']
        assert len({event.call_id for event in asked}) == 2, "whatever the server calls them"
        assert heard.finish.reason == "tool_calls"
        memory = (
            Message("user", "hi"),
            Message("assistant", "Two.", tuple(ToolCall(c.call_id, c.name, c.arguments) for c in asked)),
            *(Message("tool", str(n * 2), tool_call_id=c.call_id) for n, c in enumerate(asked, 1)),
        )
        assert (await hear(engine, *memory, tools=(TOOL,))).text == "Done."
        sent = model.completions[-1].body
        results = {
            item.get("tool_call_id") or item.get("call_id"): item.get("content") or item.get("output")
            for item in sent.get("messages") or sent["input"]
            if item.get("role") == "tool" or item.get("type") == "function_call_output"
        }
        assert results == {asked[0].call_id: "2", asked[1].call_id: "4"}

    async def test_a_picture(self, model: ModelServer, engine: OpenAIEngine) -> None:
        await hear(engine, Message("user", "What is it?", images=(Image("image/png", "aGk="),)))
        request = model.completions[0]
        assert request.prompt == "What is it?"
        assert "data:image/png;base64,aGk=" in str(request.body)


class TestPartsThatAServerDoesNotKnow:
    async def test_they_are_left_out_and_that_is_remembered(
        self, model: ModelServer, engine: OpenAIEngine, api: str
    ) -> None:
        part, words = {
            "chat": ("stream_options", "Unrecognized request argument supplied: stream_options"),
            "responses": ("include", "Encrypted content is not supported with this model."),
        }[api]
        model.script(Reply(status=400, code="unknown", message=words), "Fine.", "Again.")
        assert (await hear(engine)).text == "Fine."
        assert (await hear(engine)).text == "Again."
        assert [part in request.body for request in model.completions] == [True, False, False]

    async def test_one_that_is_refused_all_the_same_is_an_error(
        self, model: ModelServer, engine: OpenAIEngine
    ) -> None:
        words = "stream_options and include=encrypted_content"
        model.script(*[Reply(status=400, code="unknown", message=words)] * 3)
        heard = await hear(engine)
        assert heard.error is not None
        assert heard.error.code == "model_refused_request"
        assert len(model.completions) == 2
