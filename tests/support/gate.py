"""A gate before a stream: the test says when it may go on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

__all__ = ["Gate"]


class Gate:
    """Holds a stream until the test lets it go on: ``step(n)`` for *n* chunks, ``open()`` for the rest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits = 0
        self._open = False
        self._held = False
        self._wake: Callable[[], object] | None = None

    def step(self, count: int = 1) -> None:
        with self._changed:
            self._permits += count
            self._notify()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._notify()

    def wait_held(self, timeout: float = 30) -> None:
        """Return when a stream stands before the gate with all its permitted chunks sent."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held and not self._permits, timeout):
                raise TimeoutError("no stream came to the gate")

    async def wait_open(self) -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        while True:
            with self._changed:
                if self._open or self._permits:
                    self._permits = max(0, self._permits - 1)
                    self._held = False
                    return
                event.clear()
                self._wake = lambda: loop.call_soon_threadsafe(event.set)
                self._held = True
                self._changed.notify_all()
            try:
                await event.wait()
            finally:
                self._wake = None

    def _notify(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the server's loop is gone
                self._wake()
        self._changed.notify_all()
