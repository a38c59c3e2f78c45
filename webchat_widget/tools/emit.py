"""Events of a person's own that a tool says while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from webchat_widget.events import Event

from .own_events import row_of
from .registry import Report

__all__ = ["emit", "emitting"]

_VOICE: ContextVar[_Voice | None] = ContextVar("webchat_voice", default=None)


class _Voice:
    """Where the events of one call go; nowhere when it has ended."""

    def __init__(self, report: Report) -> None:
        self.report: Report | None = report


def emit(event: Event) -> None:
    """Show a row of your own kind, from within a tool of a chat: it belongs to the run that called the tool.

    ::

        class Weather(Event):
            city: str
            celsius: float

        def look_out(city: str) -> str:
            emit(Weather(city=city, celsius=21.5))
            return "It is warm."

    Events with the same `id` change the same row. Never blocks; a row is changed at most ten times a second,
    and a call has at most 1,000 rows and 16 MB of them. Raises ValueError for an event that can't have a
    row, and RuntimeError outside of a tool. A thread that the tool starts itself is outside, unless it runs
    in the tool's context, as that of `asyncio.to_thread` does.
    """
    voice = _VOICE.get()
    report = None if voice is None else voice.report
    if report is None:
        raise RuntimeError(
            "emit() works in a tool while a chat runs it. Elsewhere use chat.emit(event); an engine and a "
            "middleware write `yield event`."
        )
    report.event(row_of(event))


@contextlib.contextmanager
def emitting(report: Report) -> Iterator[None]:
    """Within, and in what is called from here, `emit` goes to `report`."""
    voice = _Voice(report)
    token = _VOICE.set(voice)
    try:
        yield
    finally:
        voice.report = None
        _VOICE.reset(token)
