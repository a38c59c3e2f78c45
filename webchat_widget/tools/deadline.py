"""A limit of time that can be paused: nobody is to hurry because a person thinks."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Deadline"]


class Deadline:
    """`async with Deadline(seconds)` raises TimeoutError when the time is up, pauses not counted.

    It may be entered once. Without `seconds` there is no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._left = seconds
        self._paused = 0
        self._timeout: asyncio.Timeout | None = None
        self.expired = False
        """The time was up."""

    @property
    def left(self) -> float | None:
        """The seconds that are left; None where there is no limit."""
        if self._timeout is not None and (when := self._timeout.when()) is not None:
            return max(0.0, when - asyncio.get_running_loop().time())
        return self._left

    def pause(self) -> None:
        """Let no time pass until `resume` was called as often as this."""
        self._paused += 1
        if self._paused == 1:
            self._left = self.left
            self._reschedule(None)

    def resume(self) -> None:
        """End a pause."""
        self._paused -= 1
        if self._paused == 0:
            self._reschedule(self._left)

    async def __aenter__(self) -> Deadline:
        self._timeout = asyncio.timeout(None if self._paused else self._left)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        timeout = self._timeout
        assert timeout is not None
        self._left, self._timeout = self.left, None
        self.expired = timeout.expired()
        await timeout.__aexit__(kind, error, trace)

    def _reschedule(self, seconds: float | None) -> None:
        if self._timeout is not None and not self._timeout.expired():
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(None if seconds is None else now + seconds)
