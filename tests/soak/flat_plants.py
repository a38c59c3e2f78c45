"""Leaks for the harness `flat`, and the gauge by which a server says what it has in memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from jupyter_server.serverapp import ServerApp

from jupyter_server_webchat.heartbeat import Heartbeat
from webchat_widget.runtime.manager import ConversationManager
from webchat_widget.runtime.pool import ConnectionPool

__all__ = ["GAUGE", "gauge", "never_evicted", "never_removed", "timer_not_cancelled"]

GAUGE = "gauge.json"
_OURS = ("webchat_widget.", "jupyter_server_webchat.")


def gauge() -> None:
    """At SIGUSR2 the server writes how many tasks, timers and objects of our classes it has."""
    file = Path(os.environ["JUPYTER_CONFIG_DIR"], GAUGE)

    def write(*_: Any) -> None:
        gc.collect()
        loop = ServerApp.instance().io_loop.asyncio_loop  # Jupyter has others beside it
        names = Counter(
            type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith(_OURS)
        )
        timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
        counts = {
            "tasks": len(asyncio.all_tasks(loop)),
            "timers": sum(not timer.cancelled() for timer in timers),
            **{f"{name} objects": count for name, count in names.items()},
        }
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(counts))
        fresh.replace(file)

    signal.signal(signal.SIGUSR2, write)


def timer_not_cancelled() -> None:
    """A socket that is closed is still looked after."""
    Heartbeat.stop = lambda self: None  # type: ignore[method-assign]


def never_removed() -> None:
    """A reader that has gone still counts as one."""
    ConnectionPool.remove = lambda self, connection: None  # type: ignore[method-assign]


def never_evicted() -> None:
    """A conversation that nobody reads stays in memory."""
    ConversationManager._evict = lambda self, conversation: None  # type: ignore[method-assign]
