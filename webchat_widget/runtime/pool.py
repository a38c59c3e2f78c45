"""Readers of one conversation: each has an outbox of its own, so that nobody waits for a slow one.

docs/contract.md, 7: an outbox is emptied at most 60 times a second and merges what waits, so a slow reader
gets fewer, larger frames. What waits for it, and what is on its way to it, is bounded in bytes.
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
_CUMULATIVE_RATE = 4_000_000
"""Bytes a second of deltas that repeat the whole text: the longer it is, the seldomer they come."""
_LOOKS = 8
"""How often a reader is looked at until it has stalled: that the loop was busy is not the reader's fault."""

TOO_SLOW = 4408
RESTARTING = 1001


class PoolSettings:
    """`stall_seconds`: a reader that takes no byte for so long is closed; `outbox_bytes`: so is one for whom
    more than this waits or is on its way; `idle_timeout`: seconds without a reader until the conversation
    counts as idle."""

    __slots__ = ("idle_timeout", "outbox_bytes", "stall_seconds")

    def __init__(
        self, *, stall_seconds: float = 10.0, outbox_bytes: int = 48 * 2**20, idle_timeout: float = 60.0
    ) -> None:
        self.stall_seconds = stall_seconds
        self.outbox_bytes = outbox_bytes
        self.idle_timeout = idle_timeout


class Reader(Protocol):
    """The far end of a connection: a WebSocket, or a comm."""

    async def send(self, frame: bytes) -> None:
        """Send a frame, JSON; done when there is room for another. Raises OSError where nobody is there."""
        ...

    @property
    def taken(self) -> int:
        """A number that grows as the far end takes what is sent, also in the middle of a frame."""
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
        self._waiting = 0
        """The bytes of the outbox."""
        self._sent = 0
        """The bytes of the batch that is on its way."""
        self._n = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._watcher: asyncio.TimerHandle | None = None

    def start(self, on_gone: Callable[[Connection], None]) -> None:
        """Begin to send; `on_gone` is called once when the reader has gone or was closed."""
        self._task = asyncio.create_task(self._send_all(), name="webchat-reader")
        self._task.add_done_callback(lambda _: on_gone(self))

    def put(self, frame: Frame | Delta) -> None:
        """Queue a frame. Never waits; costs what is new in the frame."""
        self._waiting += _OVERHEAD + frame.size
        if isinstance(frame, Delta):
            if self._own is not None and frame.follows(self._own):
                self._own.take(frame)
            else:
                self._own = frame.copy()
                self._outbox.append(self._own)
        else:
            self._own = None
            self._outbox.append(frame)
        self._wake.set()
        if self._waiting + self._sent > self._settings.outbox_bytes:
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

    async def _send_all(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._watch((-1, 0), 0)
                repeated = await self._flush()
                self._unwatch()
                await asyncio.sleep(max(_FLUSH_SECONDS, repeated / _CUMULATIVE_RATE))
        except OSError:
            return
        finally:
            self._unwatch()

    async def _flush(self) -> int:
        """Send what waits; how many bytes of it were text that was sent before."""
        batch, self._outbox = self._outbox, []
        self._own = None
        self._sent, self._waiting = self._waiting, 0
        repeated = 0
        for frame in batch:
            encoded = self._encode(frame)
            again = max(0, len(encoded) - frame.size - _OVERHEAD)
            repeated += again
            self._sent += again
            self._n += 1
            await self._reader.send(envelope(self._n, encoded))
        self._sent = 0
        return repeated

    def _watch(self, seen: tuple[int, int], looks: int) -> None:
        """Look again and again while something is on its way, and close a reader that takes none of it."""
        now = (self._n, self._reader.taken)
        looks = looks + 1 if now == seen else 0
        if looks >= _LOOKS:
            self.close(TOO_SLOW, "too slow")
        else:
            again = self._settings.stall_seconds / _LOOKS
            self._watcher = asyncio.get_running_loop().call_later(again, self._watch, now, looks)

    def _unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

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
