"""Bugs for the harness `readers`, and what makes a server fit for it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from jupyter_server_webchat import app, heartbeat
from jupyter_server_webchat.heartbeat import Heartbeat
from webchat_widget import tool
from webchat_widget.runtime.pool import Connection, ConnectionPool, PoolSettings
from webchat_widget.sem.frames import Delta, Frame
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry

__all__ = ["NARROW", "deaf_tool", "hasty", "immortal", "narrow", "publish_awaits", "unbounded", "unnoticed"]

NARROW = 1_300_000
"""Bytes of an outbox that a frame with all the text fits into, but not with the text before it."""
_MUCH = 64 * 1024


def hasty() -> None:
    """Seconds that are shorter than in life: who has stalled or vanished is let go of soon."""
    heartbeat.PING_SECONDS, heartbeat.SILENCE_SECONDS = 0.5, 4.0
    _settings(stall_seconds=1.0)


def narrow() -> None:
    """An outbox that is full long before its reader has stalled for too long."""
    heartbeat.SILENCE_SECONDS = 600.0
    _settings(stall_seconds=600.0, outbox_bytes=NARROW)


def deaf_tool() -> None:
    """A server whose tool listens to nobody."""

    @tool(read_only=True)
    def sleep() -> str:
        """Sleep."""
        threading.Event().wait(600)
        return "slept"

    app.ToolRegistry = lambda own: ToolRegistry([*own, function_tool(sleep)])  # type: ignore[assignment, misc]


def unbounded() -> None:
    """As much may wait for a reader as will."""
    _settings(outbox_bytes=1 << 60)


def unnoticed() -> None:
    """A reader may stall for as long as it likes."""
    Connection._watch = lambda self, seen, looks: None  # type: ignore[method-assign]


def immortal() -> None:
    """A reader that is silent is taken to be there."""
    Heartbeat._beat = lambda self: None  # type: ignore[method-assign]


def publish_awaits() -> None:
    """What comes next waits for who has not taken enough of what came before."""
    lines: dict[ConnectionPool, deque[Frame | Delta]] = {}
    tasks = set()

    def publish(pool: ConnectionPool, frame: Frame | Delta) -> None:
        line = lines.setdefault(pool, deque())
        line.append(frame)
        if len(line) == 1:
            task = asyncio.create_task(drain(pool, line))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def drain(pool: ConnectionPool, line: deque[Frame | Delta]) -> None:
        while line:
            for connection in tuple(pool._connections):
                connection.put(line[0])
            while any(connection._waiting > _MUCH for connection in pool._connections):
                await asyncio.sleep(0.005)
            line.popleft()

    ConnectionPool.publish = publish  # type: ignore[method-assign]


def _settings(**values: float) -> None:
    """Other defaults, for a server has no other values."""
    assert PoolSettings.__init__.__kwdefaults__ is not None
    PoolSettings.__init__.__kwdefaults__.update(values)
