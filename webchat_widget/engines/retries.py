"""When a model server is asked again: the one layer of retries, before the first word of an answer."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["TOLD_FROM", "Retries", "asked_wait"]

PAUSES = (0.5, 2.0)
"""Seconds before each retry, where the server names none."""
LONGEST = 60.0
"""Seconds that one answer may wait in all; a server that asks for more is not waited for."""
TOLD_FROM = 1.0
"""A wait from so many seconds on is told to the person."""


class Retries:
    """Counts the retries of one answer."""

    def __init__(self) -> None:
        self._pauses = iter(PAUSES)
        self._waited = 0.0

    def wait(self, asked: float | None) -> float | None:
        """Seconds until the next try, None where there is none; `asked` is what the server wants."""
        pause = next(self._pauses, None)
        if pause is None:
            return None
        # Jitter: many chats that one server sent away must not come back at one instant.
        seconds = pause * random.uniform(0.75, 1.25) if asked is None else asked
        self._waited += seconds
        return seconds if self._waited <= LONGEST else None


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds of `retry-after-ms` or `Retry-After` (seconds, or a date); None where they say nothing."""
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        return seconds / 1000
    after = headers.get("retry-after")
    return _until(after) if (seconds := _number(after)) is None else seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _until(date: str | None) -> float | None:
    try:
        when = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return seconds if seconds > 0 else None
