"""Histories in which each tool call is followed by its result."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from msgspec.structs import replace

from webchat_widget.turns import Message, Turn

from .base import Middleware, RunView

__all__ = ["ToolResults"]

_NO_RESULT = "(no result)"


class ToolResults(Middleware, frozen=True):
    """Puts each tool result directly behind the answer that asked for it, in the order of its calls.

    A call without a result gets one that says so, and a result that nobody asked for is left out: a history
    that was edited, or comes from elsewhere, is then one that a strict server takes.
    """

    name: ClassVar[str] = "tool_results"

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        """The turn with its results in place."""
        ordered: list[Message] = []
        # Ids are no names for good: some servers call every call `call_0`. The last call of an id counts.
        places: dict[str, deque[int]] = {}
        for message in turn.messages:
            if message.role == "tool":
                waiting = places.get(message.tool_call_id or "")
                if waiting:
                    ordered[waiting.popleft()] = message
                continue
            ordered.append(message)
            for call in message.tool_calls:
                places.pop(call.id, None)
            for call in message.tool_calls:
                places.setdefault(call.id, deque()).append(len(ordered))
                ordered.append(Message("tool", _NO_RESULT, tool_call_id=call.id))
        return replace(turn, messages=tuple(ordered))
