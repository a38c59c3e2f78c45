"""A TCP proxy between pages and their server that can be as bad as a network is."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Frames", "Network", "Weather"]

_PIECE = 16_384
_TEXT = 0x81
"""The first byte of a WebSocket frame that is a text and whole."""


@dataclass(frozen=True)
class Weather:
    """What happens on the lines; as it stands, nothing. Chances are between 0 and 1."""

    delay: float = 0.0
    """A piece takes up to so many seconds longer, each way."""
    rate: float = 0.0
    """Bytes a second, each way; 0: as many as come."""
    lost: float = 0.0
    """The chance of a text frame from the server not to arrive."""
    doubled: float = 0.0
    """The chance of one to arrive twice."""
    torn: float = 0.0
    """The chance of an HTTP answer not to arrive, because its line breaks."""
    deaf: float = 0.0
    """The chance of a new line to lead nowhere, without a word."""


class Frames:
    """Cuts what a server says on one connection into WebSocket frames, once it has agreed to speak them.

    A server writes the head of an answer at once, so that an answer begins where a piece does.
    """

    def __init__(self) -> None:
        self.upgraded = False
        self._waiting = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Pieces to hand on, and of each whether it is a text frame; all else passes as it comes."""
        if not self.upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            self.upgraded = head.startswith(b"HTTP/1.1 101 ")
            if not self.upgraded:
                yield head + end + data, False
                return
            yield head + end, False
        self._waiting += data
        while (length := _length(self._waiting)) is not None and length <= len(self._waiting):
            frame, self._waiting = self._waiting[:length], self._waiting[length:]
            yield frame, frame[0] == _TEXT


def _length(data: bytes) -> int | None:
    """How long the frame is that *data* begins with, in bytes; None where that is not known yet.

    A server does not mask its frames.
    """
    if len(data) < 2:
        return None
    short = data[1]
    if short < 126:
        return 2 + short
    form, size = ("!H", 2) if short == 126 else ("!Q", 8)
    if len(data) < 2 + size:
        return None
    (length,) = struct.unpack_from(form, data, 2)
    return 2 + size + int(length)


class Network:
    """Listens on `port` and talks to *server*, a port of this machine. `weather` may change at any time.

    `counts` tells what it did. The same *seed* makes the same choices, line by line.
    """

    def __init__(self, server: int, seed: int = 0) -> None:
        self.weather = Weather()
        self.counts: Counter[str] = Counter()
        self.port = 0
        self._server = server
        self._seed = seed
        self._listener: asyncio.Server | None = None
        self._lines: dict[_Line, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Network:
        await self.admit()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.refuse()
        for line in self._lines:
            line.end(hard=True)
        await asyncio.gather(*self._lines.values())

    async def admit(self) -> None:
        """Let new lines in."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._came, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse new lines until `admit`; those that are there stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def cut(self, share: float = 1.0, *, hard: bool = False) -> None:
        """End this share of the lines, with a FIN, or *hard* with a RST."""
        for line in self._some(share):
            self.counts["cuts"] += 1
            line.end(hard=hard)

    def deafen(self, share: float = 1.0, *, streams: bool = False) -> None:
        """From now on nothing arrives on this share of the lines, whichever way, and nobody is told.

        With *streams* only WebSockets are meant.
        """
        for line in self._some(share):
            if streams and not line.streams:
                continue
            self.counts["half-open"] += 1
            line.deaf = True

    def _some(self, share: float) -> list[_Line]:
        return [line for line in self._lines if line.random.random() < share]

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["lines"] += 1
        line = _Line(self, random.Random(f"{self._seed}:{self.counts['lines']}"), reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._lines[line] = task
        try:
            await line.run(self._server)
        finally:
            del self._lines[line]


class _Line:
    """One connection of a page, and ours that leads on from it."""

    def __init__(
        self,
        network: Network,
        chance: random.Random,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.random = chance
        self.deaf = chance.random() < network.weather.deaf
        self._network = network
        self._near = (reader, writer)
        self._writers = [writer]
        self._frames = Frames()

    async def run(self, server: int) -> None:
        """Carry both ways until one side has ended, or `end`; then both connections are gone."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server)
            self._writers.append(writer)
            await self._join(reader, writer)
        except OSError:  # the server is down
            self.end(hard=True)
        finally:
            self.end()
            for gone in self._writers:
                with contextlib.suppress(OSError):
                    await gone.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near_reader, near_writer = self._near
        up = asyncio.create_task(self._carry(near_reader, writer, back=False))
        down = asyncio.create_task(self._carry(reader, near_writer, back=True))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if self.deaf:
                await up  # that the server has gone is not heard either
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    @property
    def streams(self) -> bool:
        """Is there a WebSocket on it?"""
        return self._frames.upgraded

    def end(self, *, hard: bool = False) -> None:
        for writer in self._writers:
            if not hard:
                writer.close()
                continue
            if not writer.is_closing():
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                weather = self._network.weather
                pause = self.random.random() * weather.delay
                if weather.rate:
                    pause += len(data) / weather.rate
                if pause:
                    await asyncio.sleep(pause)
                if self.deaf:
                    continue
                if back and not self._frames.upgraded and self.random.random() < weather.torn:
                    self._network.counts["torn"] += 1
                    self.end(hard=True)
                    return
                writer.write(self._sifted(data) if back else data)
                await writer.drain()

    def _sifted(self, data: bytes) -> bytes:
        """What is left of it: some text frames get lost, some come twice."""
        weather, out = self._network.weather, bytearray()
        for piece, text in self._frames.feed(data):
            chance = self.random.random() if text else 1.0
            if chance < weather.lost:
                self._network.counts["lost"] += 1
                continue
            out += piece
            if chance - weather.lost < weather.doubled:
                self._network.counts["doubled"] += 1
                out += piece
        return bytes(out)
