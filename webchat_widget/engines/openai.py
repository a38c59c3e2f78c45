"""OpenAI, and every server that speaks one of its two protocols: chat completions, or the Responses API.

The SDK does authentication and connections; the event stream is read here, from the raw bytes, for the SDK's
own objects cost 170 to 200 µs a chunk. The SDK is imported on the first turn.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing
from importlib import import_module
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from webchat_widget.errors import EngineError
from webchat_widget.events import EngineEvent, Retrying
from webchat_widget.turns import Turn
from webchat_widget.typing import JSONObject

from . import completions, responses
from .faults import Faults, PartRefused, Passing, host_of, is_http, protocol_error
from .retries import TOLD_FROM, Retries
from .sse import EventReader
from .wire import check_content_type

__all__ = ["DEFAULT_MODEL", "OpenAIEngine", "api_fault"]

DEFAULT_MODEL = "gpt-5-mini"
_HOME = "https://api.openai.com/v1"


class _Answer(Protocol):
    """One streamed answer, in either style; see `completions.Answer`."""

    done: bool
    heard: int
    model: str

    def read(self, data: bytes) -> Iterator[EngineEvent]: ...
    def end(self) -> Iterator[EngineEvent]: ...


class _Style(NamedTuple):
    """One of the two protocols."""

    answer: Callable[[str], _Answer]
    request: Callable[[Turn, str, Collection[str]], JSONObject]
    optional: Mapping[str, re.Pattern[str]]
    create: Callable[[Any], Any]
    """The SDK's function, of its client."""


_STYLES = {
    "chat": _Style(
        completions.Answer,
        completions.request,
        completions.OPTIONAL,
        lambda client: client.chat.completions.with_streaming_response.create,
    ),
    "responses": _Style(
        responses.Answer,
        responses.request,
        responses.OPTIONAL,
        lambda client: client.responses.with_streaming_response.create,
    ),
}


def api_fault(api: str) -> str | None:
    """What is wrong with a word that should name a protocol, as a sentence."""
    if api in _STYLES:
        return None
    known = " or ".join(repr(name) for name in _STYLES)
    return f"There is no API {api!r}: say {known} (WEBCHAT_API, c.WebChat.api or OpenAIEngine(api=…))."


class OpenAIEngine:
    """An engine for a server that speaks the OpenAI protocol.

    `model`: the default; None asks a server at `base_url` for its list on the first turn and takes the first.
    `api_key`: None where the server needs none. `api`: "chat" for chat completions, which every compatible
    server speaks, or "responses" for the Responses API, in which OpenAI's models keep their thoughts between
    tool calls. `timeout`: seconds without anything of an answer; comments and empty chunks, which servers
    send to keep a connection open, are silence.

    A request that fails before anything of its answer came is made again, at most twice; `Retrying` tells.
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api: str = "chat",
        timeout: float = 60.0,
    ) -> None:
        if (wrong := api_fault(api)) is not None:
            raise ValueError(wrong)
        self.model = model or (None if base_url else DEFAULT_MODEL)
        self._base_url = (base_url or _HOME).strip()
        self._api_key = (api_key or "").strip()
        self._api = api
        self._style = _STYLES[api]
        self._timeout = timeout
        self._client: Any = None
        self._starting = asyncio.Lock()
        self._refused: dict[str, frozenset[str]] = {}
        """By model, the optional parts of a request that the server does not take."""

    def __repr__(self) -> str:
        return f"OpenAIEngine(model={self.model!r}, host={host_of(self._base_url)!r}, api={self._api!r})"

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer one turn; see `Engine.stream`."""
        self._check()
        client = await self._ready()
        retries = Retries()
        while True:
            answer = self._style.answer(turn.model or self.model or "")
            try:
                async with aclosing(self._ask(client, turn, answer)) as events:
                    async for event in events:
                        yield event
                return
            except PartRefused as fault:
                asked = answer.model
                if fault.part in (had := self._refused.get(asked, frozenset())):
                    raise
                self._refused[asked] = had | {fault.part}
                continue
            except Passing as fault:
                wait = None if answer.heard else retries.wait(fault.after)
                if wait is None:
                    raise
                said = f"The model server at {host_of(self._base_url)} {fault.notice}."
            if wait >= TOLD_FROM:
                yield Retrying(said, wait)
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Close the connections to the server."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ask(self, client: Any, turn: Turn, answer: _Answer) -> AsyncGenerator[EngineEvent, None]:
        """One request, and what comes of it."""
        model = answer.model = answer.model or await self._first_model(client)
        clock = asyncio.get_running_loop().time
        with Faults(self._base_url, model, self._timeout, self._style.optional) as faults:
            body = self._style.request(turn, model, self._refused.get(model, ()))
            async with self._style.create(client)(**body) as response:
                kind = response.headers.get("content-type", "")
                check_content_type(kind)
                faults.streaming = True
                reader = EventReader()
                chunks = aiter(response.iter_bytes())
                since, heard = clock(), 0
                silent = False
                while True:
                    try:
                        # Total silence is the connection's own timeout; a timer is for keep-alives alone.
                        async with asyncio.timeout_at(since + self._timeout if silent else None):
                            chunk = await anext(chunks, None)
                    except TimeoutError:
                        raise faults.stalled() from None
                    for data in reader.finish() if chunk is None else reader.feed(chunk):
                        for event in answer.read(data):
                            yield event
                    if chunk is None or answer.done:
                        break
                    silent = answer.heard == heard
                    if not silent:
                        # After the yields: the reader's own pauses are not the server's.
                        since, heard = clock(), answer.heard
        if not answer.heard and "event-stream" not in kind:
            raise protocol_error()
        for event in answer.end():
            yield event

    def _check(self) -> None:
        """Say what is wrong with the configuration before the SDK stumbles over it, and logs it."""
        if not is_http(self._base_url):
            raise EngineError(
                "The address of the model server is no http or https URL: correct OPENAI_BASE_URL or "
                "c.WebChat.base_url (say http://localhost:11434/v1), and start Jupyter again; for a chat in "
                "the kernel, in os.environ.",
                code="bad_base_url",
                retryable=False,
            )
        if not (self._api_key.isascii() and self._api_key.isprintable() and " " not in self._api_key):
            raise EngineError(
                "The API key holds characters that no key has. Set a valid OPENAI_API_KEY where Jupyter is "
                "started, and start it again; for a chat in the kernel, in os.environ.",
                code="key_rejected",
                retryable=False,
            )

    async def _ready(self) -> Any:
        """The SDK's client. Its import takes about a second, so it is not done on the loop's thread."""
        async with self._starting:
            if self._client is None:
                sdk = await asyncio.to_thread(import_module, "openai")
                base_url, headers = _apart(self._base_url)
                self._client = sdk.AsyncOpenAI(
                    api_key=self._api_key or "none",
                    base_url=base_url,
                    default_headers=headers,
                    timeout=self._timeout,
                    max_retries=0,
                )
        return self._client

    async def _first_model(self, client: Any) -> str:
        with Faults(self._base_url, None, self._timeout):
            try:
                listed = await client.models.list()
                models = [str(each.id) for each in listed.data]
            except (AttributeError, TypeError, ValueError):  # the SDK takes any answer for a list
                raise protocol_error() from None
        if not models:
            raise EngineError(
                f"The model server at {host_of(self._base_url)} lists no models: load one, or name one "
                "(WEBCHAT_MODEL or c.WebChat.model).",
                code="no_model",
                retryable=False,
            )
        self.model = models[0]
        return self.model


def _apart(url: str) -> tuple[str, dict[str, str]]:
    """An address without its user and password, and these as a header: the HTTP library logs addresses."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    name, _, password = user.partition(":")
    basic = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {basic}"}
