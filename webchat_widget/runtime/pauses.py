"""Pauses of a conversation's runs: a person looks at what there is, and lets the run go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from webchat_widget.errors import Conflict, NotFound
from webchat_widget.events import Paused
from webchat_widget.middlewares.shortened import shortened
from webchat_widget.sem.text import clean
from webchat_widget.tools.deadline import Deadline

from .coordinator import StreamCoordinator

__all__ = ["ConversationPauses"]

_MAX_PHASE = 100
_MAX_SUMMARY = 4000
_MAX_SECONDS = 86_400.0


class _Open:
    """A pause that a run is in."""

    def __init__(self) -> None:
        self.resumed = asyncio.Event()
        self.ended = asyncio.Event()


class ConversationPauses:
    """The `Pauses` of one conversation. A pause does not outlive its host: its run is then interrupted."""

    def __init__(self, stream: StreamCoordinator, now_ms: Callable[[], int]) -> None:
        self._stream = stream
        self._now_ms = now_ms
        self._open: dict[str, _Open] = {}
        self._run_time = Deadline()

    def begin(self, run_time: Deadline) -> None:
        """A run starts; its time stands still in a pause."""
        self._run_time = run_time

    async def pause(self, id: str, phase: str, summary: str, seconds: float) -> None:
        """Show a pause, and wait until `resume`, at most so long, and never longer than a day."""
        seconds = min(max(0.0, seconds), _MAX_SECONDS)  # in this order: a NaN is no time at all
        here = self._open[id] = _Open()
        paused = Paused(
            id=id,
            phase=clean(shortened(phase, _MAX_PHASE)),
            summary=clean(shortened(summary, _MAX_SUMMARY)),
            deadline_ms=self._now_ms() + int(seconds * 1000),
            status="paused",
        )
        try:
            await self._wait(paused, here.resumed, seconds)
        finally:
            del self._open[id]
            here.ended.set()

    async def _wait(self, paused: Paused, resumed: asyncio.Event, seconds: float) -> None:
        self._run_time.pause()
        try:
            await self._stream.emit(paused)
            status = "continued"
            try:
                async with asyncio.timeout(seconds):
                    await resumed.wait()
            except TimeoutError:
                status = "expired"
        finally:
            self._run_time.resume()
        await self._stream.emit(_ended(paused, status))

    async def resume(self, pause_id: str) -> None:
        """Let the run go on; done when the row says so. The same again is fine.

        Raises NotFound for a pause that never was, Conflict where its run has ended.
        """
        if (here := self._open.get(pause_id)) is not None:
            here.resumed.set()
            await here.ended.wait()
        row = self._stream.timeline.row(pause_id)
        if row is None or row["kind"] != "debugger_pause":
            raise NotFound("There is no such pause.", code="unknown_pause")
        if row["props"].get("status") not in ("continued", "expired"):
            raise Conflict("The run of this pause has ended.", code="run_ended")


def _ended(paused: Paused, status: str) -> Paused:
    return Paused(
        id=paused.id,
        phase=paused.phase,
        summary=paused.summary,
        deadline_ms=paused.deadline_ms,
        status=status,
    )
