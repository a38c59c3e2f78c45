"""Readers of one conversation: each has an outbox of its own, so that nobody waits for a slow one.

docs/contract.md, 7: an outbox is emptied at most 60 times a second and merges what waits, so a slow reader
gets fewer, larger frames, and what it costs is bounded by the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from webchat_widget.sem.frames import Control, Delta, Frame, envelope

__all__ = ["Connection", "ConnectionPool", "PoolSettings", "Reader"]

_FLUSH_SECONDS = 1 / 60
_OVERHEAD = 256
"""What a frame costs in memory beside its text, about, in bytes."""

TOO_SLOW = 4408
RESTARTING = 1001


class PoolSettings:
    """`stall_seconds`: a reader that takes nothing for so long is closed; `outbox_bytes`: so is one for whom
    more than this waits; `idle_timeout`: seconds without a reader until the conversation counts as idle."""

    __slots__ = ("idle_timeout", "outbox_bytes", "stall_seconds")

    def __init__(
        self, *, stall_seconds: float = 10.0, outbox_bytes: int = 48 * 2**20, idle_timeout: float = 60.0
    ) -> None:
        self.stall_seconds = stall_seconds
        self.outbox_bytes = outbox_bytes
        self.idle_timeout = idle_timeout


class Reader(Protocol):
    """The far end of a connection: a WebSocket, or a comm."""

    async def send(self, frame: str) -> None:
        """Send one frame; done when there is room for the next. Raises OSError where the reader is gone."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close it from our side."""
        ...


class Connection:
    """One reader and its outbox. Made by the pool."""

    def __init__(
        self,
        reader: Reader,
        settings: PoolSettings,
        text_of: Callable[[str], str],
        *,
        append: bool,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._text_of = text_of
        self._append = append
        self._outbox: list[Frame | Delta] = []
        self._own: Delta | None = None
        """The last thing in the outbox where it is a delta that others may be merged into."""
        self._bytes = 0
        self._n = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self, on_gone: Callable[[Connection], None]) -> None:
        """Begin to send; `on_gone` is called once when the reader has gone or was closed."""
        self._task = asyncio.create_task(self._send(), name="webchat-reader")
        self._task.add_done_callback(lambda _: on_gone(self))

    def put(self, frame: Frame | Delta) -> None:
        """Queue a frame. Never waits; costs what is new in the frame."""
        self._bytes += _OVERHEAD
        if isinstance(frame, Delta):
            self._bytes += len(frame.text)
            if self._own is not None and frame.follows(self._own):
                self._own.take(frame)
            else:
                self._own = frame.copy()
                self._outbox.append(self._own)
        else:
            self._bytes += len(frame.encoded())
            self._own = None
            self._outbox.append(frame)
        self._wake.set()
        if self._bytes > self._settings.outbox_bytes:
            self.close(TOO_SLOW, "too slow")

    def answer(self, frame: Control) -> None:
        """Queue an answer to the reader, unless the same kind of answer waits for it already."""
        waiting = self._outbox[-1] if self._outbox else None
        if not (isinstance(waiting, Control) and waiting.event["type"] == frame.event["type"]):
            self.put(frame)

    def close(self, code: int, reason: str) -> None:
        """Stop sending and close the reader."""
        if self._closed:
            return
        self._closed = True
        self._outbox = []
        self._own = None
        self._reader.close(code, reason)
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._outbox = self._outbox, []
            self._own = None
            self._bytes = 0
            try:
                for frame in batch:
                    self._n += 1
                    async with asyncio.timeout(self._settings.stall_seconds):
                        await self._reader.send(envelope(self._n, self._encode(frame)))
            except TimeoutError:
                self._reader.close(TOO_SLOW, "too slow")
                return
            except OSError:
                return
            await asyncio.sleep(_FLUSH_SECONDS)

    def _encode(self, frame: Frame | Delta) -> bytes:
        if isinstance(frame, Delta) and not self._append:
            return frame.encoded_cumulative(self._text_of)
        return frame.encoded()


class ConnectionPool:
    """All readers of a conversation, and the timer that says when there has been none for a while."""

    def __init__(
        self, settings: PoolSettings, text_of: Callable[[str], str], on_idle: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._text_of = text_of
        self._on_idle = on_idle
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, reader: Reader, hello: Control, *, append: bool) -> Connection:
        """Take a reader in; its first frame is `hello`. `append` chooses the form of deltas."""
        connection = Connection(reader, self._settings, self._text_of, append=append)
        connection.put(hello)
        self._connections.add(connection)
        self._stop_timer()
        connection.start(self.remove)
        return connection

    def remove(self, connection: Connection) -> None:
        """Let go of a reader that has gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        connection.close(RESTARTING, "gone")
        self.touch()

    def touch(self) -> None:
        """Start the idle timer anew, where nobody reads."""
        self._stop_timer()
        if not self._connections:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._settings.idle_timeout, self._on_idle)

    def publish(self, frame: Frame | Delta) -> None:
        """Hand a frame to every reader's outbox."""
        for connection in tuple(self._connections):
            connection.put(frame)

    def close(self, code: int, reason: str) -> None:
        """Close every reader."""
        for connection in tuple(self._connections):
            self._connections.discard(connection)
            connection.close(code, reason)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
