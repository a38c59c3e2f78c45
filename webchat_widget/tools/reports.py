"""What a running call tells, on its way from any thread to the conversation: bounded, and not too often."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from webchat_widget.events import (
    CallDelta,
    CallOutput,
    LogWritten,
    RunEvent,
    TextDelta,
    ThinkingModeDelta,
    Upserted,
)
from webchat_widget.sem.text import clean
from webchat_widget.timeline.store import TurnRecord
from webchat_widget.typing import JSONObject

from .own_events import OwnRow, named
from .row_queue import MAX_ROWS, MAX_RUN_ROWS, MAX_RUN_SIZE, MAX_SIZE, RowQueue, RowRoom

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

    def record(self, record: TurnRecord) -> None:
        """Keep what the model was sent or gave; stored soon, and nobody waits for it."""
        ...


class CallReport:
    """A `Report` that goes to a sink, at most ten times a second.

    Made on the loop; its methods may be called on any thread. `limit`: characters that may be printed;
    `on_status` is called on the loop; `room`: for rows of all calls of the run.
    """

    def __init__(
        self,
        run_id: str,
        call_id: str,
        sink: Sink,
        limit: int,
        on_status: Callable[[str], None],
        room: RowRoom | None = None,
    ) -> None:
        self._run_id = run_id
        self._call_id = call_id
        self._sink = sink
        self._room = limit
        self._on_status = on_status
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._printed: list[str] = []
        self._patch: JSONObject = {}
        self._rows = RowQueue(room=room)
        self._counted = 0
        """Rows that have no id of their own."""
        self._told_full = False
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

    def event(self, row: OwnRow) -> None:
        """A row of a person's own kind."""
        with self._lock:
            if not self._ended:
                self._rows.put(row)
                self._wake()

    def end(self) -> list[RunEvent]:
        """Nothing is heard from here on; what is still to be told, after what was printed is sent."""
        with self._lock:
            self._ended = True
        events, patch = self._take()
        patch.pop("status", None)
        return [*events, *self._changed(patch)]

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
        events, patch = self._take()
        if "status" in patch:
            self._on_status(patch["status"])
        if events or patch:
            saved = asyncio.ensure_future(self._sink.emit(*events, *self._changed(patch)))
            saved.add_done_callback(_retrieve)

    def _take(self) -> tuple[list[RunEvent], JSONObject]:
        """Send what was printed; what else is to be told: rows, and what has changed of the call."""
        with self._lock:
            printed, self._printed = self._printed, []
            patch, self._patch = self._patch, {}
            rows = self._rows.take()
            self._awake = False
        if printed:
            self._sink.delta(CallOutput(self._call_id, "".join(printed)))
        events: list[RunEvent] = [
            Upserted(id=named(row, self._run_id) or self._next_id(), kind=row.kind, props=row.props)
            for row in rows
        ]
        if self._rows.full and not self._told_full:
            self._told_full = True
            events.append(_left_out(f"{self._call_id}:log"))
        return events, patch

    def _changed(self, patch: JSONObject) -> list[RunEvent]:
        return [CallDelta(id=self._call_id, patch=patch)] if patch else []

    def _next_id(self) -> str:
        self._counted += 1
        return f"{self._call_id}:event:{self._counted}"


def _left_out(id: str) -> LogWritten:
    return LogWritten(
        id=id,
        level="warning",
        message=f"A tool call shows at most {MAX_ROWS:,} rows of its own and {MAX_SIZE // 1_000_000} MB of "
        f"them, and all calls of a run {MAX_RUN_ROWS:,} and {MAX_RUN_SIZE // 1_000_000} MB. There were more, "
        "which were left out.",
        fields={},
    )


def _share(value: float | None) -> float | None:
    if not isinstance(value, int | float) or value != value:
        return None
    return min(1.0, max(0.0, float(value)))


def _retrieve(done: asyncio.Future[None]) -> None:
    """What could not be stored is stored with the next write."""
    if not done.cancelled():
        done.exception()
