"""Whether a reader is still there: a socket of which one end has vanished looks like one that is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Heartbeat"]

PING_SECONDS = 15.0
SILENCE_SECONDS = 30.0


class Heartbeat:
    """Calls `ping` each 15 s, and `lost` once where nothing was heard for 30 s: it has 15 s for an answer.

    An administrator's `settings` count where they are shorter: `ws_ping_interval` and `ws_ping_timeout` (ms),
    and Tornado's `websocket_ping_interval` and `websocket_ping_timeout` (s). 0, which elsewhere is none, does
    not.
    """

    def __init__(
        self, settings: Mapping[str, Any], ping: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self._every = _shortest(PING_SECONDS, settings, "ping_interval")
        answer = _shortest(SILENCE_SECONDS - PING_SECONDS, settings, "ping_timeout")
        self._silence = self._every + answer
        self._grace = min(self._every, answer) / 2
        self._ping = ping
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._at(self._heard + self._every)

    def heard(self) -> None:
        """The reader has said something, be it a pong."""
        self._heard = self._loop.time()

    def stop(self) -> None:
        """It has gone, or was closed."""
        self._timer.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._due > self._grace:
            self._heard = now  # the loop was busy, or the machine slept: nobody could be heard
        self._ping()
        if now - self._heard < self._silence:
            self._timer = self._at(min(now + self._every, self._heard + self._silence))
        else:
            self._lost()

    def _at(self, due: float) -> asyncio.TimerHandle:
        self._due = due
        return self._loop.call_at(due, self._beat)


def _shortest(ours: float, settings: Mapping[str, Any], name: str) -> float:
    theirs = ((settings.get(f"ws_{name}") or 0) / 1000, settings.get(f"websocket_{name}") or 0)
    return min([ours, *(seconds for seconds in theirs if seconds > 0)])
