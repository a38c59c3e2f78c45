"""A model that streams at a given pace and says in every chunk when it left, and readers that look at it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.jupyter import Jupyter
from webchat_widget.sem.text import Rope

__all__ = ["Watcher", "flow", "quantile"]

_STAMP = re.compile(r"@(\d+):")
_CHUNK = 2000


@asynccontextmanager
async def flow() -> AsyncIterator[str]:
    """The address of a model. A prompt `<bytes> <seconds>` is answered with so much text in that time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        body = json.loads(await reader.readexactly(int(length[1]) if length else 0) or b"{}")
        if "messages" in body:
            size, seconds = body["messages"][-1]["content"].split()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            await _stream(writer, int(size), float(seconds))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            writer.write(b'{"object": "list", "data": [{"id": "flow", "object": "model"}]}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def _stream(writer: asyncio.StreamWriter, size: int, seconds: float) -> None:
    count = max(1, size // _CHUNK)
    start = time.monotonic()
    for index in range(count):
        await asyncio.sleep(start + seconds * index / count - time.monotonic())
        text = f"@{time.monotonic_ns()}:".ljust(_CHUNK, "x")
        _say(writer, {"content": text})
        await writer.drain()
    _say(writer, {}, "stop")
    writer.write(b"data: [DONE]\n\n")


def _say(writer: asyncio.StreamWriter, delta: dict[str, str], finish: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "f", "object": "chat.completion.chunk", "created": 0, "model": "flow", "choices": [choice]}
    writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")


class Watcher:
    """A reader that is well: how late each chunk was, and the text that it has seen."""

    def __init__(self) -> None:
        self.late: list[float] = []
        """Seconds from the model to here, chunk by chunk."""
        self._text = Rope()
        self._seen: list[tuple[int, str]] = []
        self.ended = asyncio.Event()
        self._socket: WebSocketClientConnection | None = None

    async def join(self, server: Jupyter, conv_id: str) -> Watcher:
        """Open a socket; done when the host has said hello."""
        query = urlencode({"conv_id": conv_id, "deltas": "append"})
        address = server.url(f"webchat/ws?{query}").replace("http", "ws", 1)
        headers = {"Authorization": f"token {server.token}"}
        self._socket = await websocket_connect(
            HTTPRequest(address, headers=headers), max_message_size=1 << 28
        )
        await self._socket.read_message()
        self._reading = asyncio.create_task(self._read(self._socket))
        return self

    def know(self, text: str) -> None:
        """What there is already, of a reader that came late; what came meanwhile is laid over it."""
        self._text = Rope(text)
        for offset, delta in self._seen:
            self._text.splice(offset, delta)

    @property
    def text(self) -> str:
        """The answer, as far as it has come."""
        return self._text.text()

    async def closed(self) -> int | None:
        """The code with which the host closes the socket, once it does."""
        await self._reading
        return self._socket.close_code if self._socket is not None else None

    async def leave(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            await self._reading

    async def _read(self, socket: WebSocketClientConnection) -> None:
        while (message := await socket.read_message()) is not None:
            now = time.monotonic_ns()
            event: dict[str, Any] = msgspec.json.decode(message)["event"]
            match event["type"]:
                case "llm.delta":
                    delta, offset = event["data"]["delta"], event["data"]["offset"]
                    self.late += [(now - int(stamp)) / 1e9 for stamp in _STAMP.findall(delta)]
                    self._seen.append((offset, delta))
                    self._text.splice(offset, delta)
                case "run.finished" | "run.failed" | "run.stopped":
                    self.ended.set()


def quantile(values: list[float], q: float) -> float:
    """The value below which the share *q* of them lies."""
    return sorted(values)[int(q * (len(values) - 1))]
