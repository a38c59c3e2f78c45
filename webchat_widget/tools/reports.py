"""What a running call tells, on its way from any thread to the conversation: bounded, and not too often."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from webchat_widget.events import CallDelta, CallOutput, RunEvent, TextDelta, ThinkingModeDelta
from webchat_widget.sem.text import clean
from webchat_widget.typing import JSONObject

__all__ = ["CallReport", "Sink"]

_PACE_SECONDS = 0.1
_STATUSES = ("waiting", "running")
_MAX_TEXT = 200


class Sink(Protocol):
    """Where run events go: the coordinator."""

    def emit(self, *events: RunEvent, **parts: Any) -> Awaitable[None]:
        """Number events at once, store and send them; done when they, and `parts` of a batch, are on disk."""
        ...

    def delta(self, event: TextDelta | CallOutput | ThinkingModeDelta) -> None:
        """Send more text."""
        ...


class CallReport:
    """A `Report` that goes to a sink, at most ten times a second.

    Made on the loop; its methods may be called on any thread. `limit`: characters that may be printed;
    `on_status` is called on the loop.
    """

    def __init__(self, call_id: str, sink: Sink, limit: int, on_status: Callable[[str], None]) -> None:
        self._call_id = call_id
        self._sink = sink
        self._room = limit
        self._on_status = on_status
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._printed: list[str] = []
        self._patch: JSONObject = {}
        self._told = 0.0
        """When something was sent last, on the loop's clock."""
        self._awake = False
        """The loop knows that something waits."""
        self._ended = False

    def progress(self, value: float | None, text: str = "") -> None:
        """How far the call is."""
        self._put({"progress": {"value": _share(value), "text": clean(str(text)[:_MAX_TEXT])}})

    def status(self, status: str) -> None:
        """What it waits for."""
        if status in _STATUSES:
            self._put({"status": status})

    def stdout(self, text: str) -> None:
        """What it printed."""
        if not text:
            return
        with self._lock:
            if self._room < 0 or self._ended:
                return
            kept = text[: self._room]
            self._room -= len(text)
            if self._room < 0:
                kept += "\n… output cut\n"
            self._printed.append(clean(kept))
            self._wake()

    def end(self) -> list[RunEvent]:
        """Nothing is heard from here on; what is still to be told, after what was printed is sent."""
        with self._lock:
            self._ended = True
        patch = self._take()
        patch.pop("status", None)
        return [CallDelta(id=self._call_id, patch=patch)] if patch else []

    def _put(self, patch: JSONObject) -> None:
        with self._lock:
            if not self._ended:
                self._patch.update(patch)
                self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens
                self._loop.call_soon_threadsafe(self._soon)

    def _soon(self) -> None:
        wait = self._told + _PACE_SECONDS - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._ended:
            return
        self._told = self._loop.time()
        patch = self._take()
        if "status" in patch:
            self._on_status(patch["status"])
        if patch:
            saved = asyncio.ensure_future(self._sink.emit(CallDelta(id=self._call_id, patch=patch)))
            saved.add_done_callback(_retrieve)

    def _take(self) -> JSONObject:
        """Send what was printed; what else is to be told."""
        with self._lock:
            printed, self._printed = self._printed, []
            patch, self._patch = self._patch, {}
            self._awake = False
        if printed:
            self._sink.delta(CallOutput(self._call_id, "".join(printed)))
        return patch


def _share(value: float | None) -> float | None:
    if not isinstance(value, int | float) or value != value:
        return None
    return min(1.0, max(0.0, float(value)))


def _retrieve(done: asyncio.Future[None]) -> None:
    """What could not be stored is stored with the next write."""
    if not done.cancelled():
        done.exception()
