"""What each request to the model was and cost, in the timeline and in the host's log."""

from __future__ import annotations

import logging
from contextlib import aclosing
from time import monotonic
from typing import ClassVar, Literal

from webchat_widget.events import Finish, LogWritten
from webchat_widget.turns import Turn

from .base import Ask, Middleware, RunView, Stream

__all__ = ["Logging"]


class Logging(Middleware, frozen=True):
    """Says of each request how much was sent, what came back, and how long it took."""

    name: ClassVar[str] = "logging"
    level: Literal["debug", "info", "warning"] = "info"

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Ask, and tell of it when the answer has ended."""
        begun = monotonic()
        finish: Finish | None = None
        seconds = 0.0
        async with aclosing(ask(turn)) as said:
            async for each in said:
                if isinstance(each, Finish):
                    finish, seconds = each, monotonic() - begun
                yield each
        if finish is None:
            return
        sent = f"{_counted(len(turn.messages), 'message')}, {_counted(len(turn.tools), 'tool')}"
        cost = f"{seconds:.1f} s"
        if finish.usage is not None:
            cost = f"{finish.usage['inputTokens']} tokens in, {finish.usage['outputTokens']} out, {cost}"
        message = f"Request {run.round}: {sent} → {cost}"
        run.log.log(
            logging.getLevelNamesMapping()[self.level.upper()], "webchat: run %s: %s", run.id, message
        )
        yield LogWritten(
            id=run.new_id("log"),
            level=self.level,
            message=message,
            fields={
                "request": run.round,
                "messages": len(turn.messages),
                "tools": len(turn.tools),
                "seconds": round(seconds, 3),
                "stopReason": finish.reason,
                "model": finish.model or turn.model,
                "usage": finish.usage,
            },
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
