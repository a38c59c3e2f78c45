"""Chat completions of OpenAI and of every server that speaks its protocol.

The SDK does authentication, retries and connections; the event stream is read here, from the raw bytes, for
the SDK's own objects cost 170 to 200 µs a chunk. The SDK is imported on the first turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from webchat_widget.errors import EngineError
from webchat_widget.events import EngineEvent
from webchat_widget.turns import Turn

from .completions import Answer, check_content_type, protocol_error, request
from .faults import Faults, host_of, is_http
from .sse import EventReader

__all__ = ["DEFAULT_MODEL", "OpenAIEngine"]

DEFAULT_MODEL = "gpt-5-mini"
_HOME = "https://api.openai.com/v1"


class OpenAIEngine:
    """An engine for chat completions.

    `model`: the default; None asks a server at `base_url` for its list on the first turn and takes the first.
    `api_key`: None where the server needs none. `timeout`: seconds that the server may be silent; comments,
    which servers send to keep a connection open, are silence.
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.model = model or (None if base_url else DEFAULT_MODEL)
        self._base_url = (base_url or _HOME).strip()
        self._api_key = (api_key or "").strip()
        self._timeout = timeout
        self._client: Any = None
        self._starting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OpenAIEngine(model={self.model!r}, host={host_of(self._base_url)!r})"

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer one turn; see `Engine.stream`."""
        self._check()
        client = await self._ready()
        model = turn.model or self.model or await self._first_model(client)
        answer = Answer(model)
        clock = asyncio.get_running_loop().time
        with Faults(self._base_url, model, self._timeout) as faults:
            create = client.chat.completions.with_streaming_response.create
            async with create(**request(turn, model)) as response:
                check_content_type(response.headers.get("content-type", ""))
                faults.streaming = True
                reader = EventReader()
                heard = clock()
                async for chunk in response.iter_bytes():
                    silent = True
                    for data in reader.feed(chunk):
                        silent = False
                        for event in answer.read(data):
                            yield event
                    if answer.done:
                        break
                    if not silent:
                        heard = clock()  # after the yields: the reader's own pauses are not the server's
                    elif clock() - heard > self._timeout:
                        raise faults.stalled()
                for data in reader.finish():
                    for event in answer.read(data):
                        yield event
        for event in answer.end():
            yield event

    async def aclose(self) -> None:
        """Close the connections to the server."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

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
                self._client = sdk.AsyncOpenAI(
                    api_key=self._api_key or "none",
                    base_url=self._base_url,
                    timeout=self._timeout,
                    max_retries=2,
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
