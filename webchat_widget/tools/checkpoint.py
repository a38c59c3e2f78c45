"""Where a run stands while the calls of an answer are open: what it needs to go on after a restart."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from webchat_widget.requests import Decision
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Message, ToolCall
from webchat_widget.typing import JSONObject, Usage

__all__ = ["INTERRUPTED", "Checkpoint", "read"]

INTERRUPTED = "This tool call was interrupted."


class Checkpoint(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`said` is the prompt as the model was sent it; `produced` what followed, down to the answer that asks
    for the tools. `calls` are our ids of these, in their order; how far they are, their rows say. `left` are
    the seconds that the run may still take."""

    said: str
    produced: tuple[Message, ...]
    calls: tuple[str, ...]
    counts: dict[str, int]
    rounds: int
    chars: int
    has_text: bool
    bad: int = 0
    requests: int = 0
    left: float | None = None
    usage: Usage | None = None
    decisions: dict[str, Decision] = {}

    def stored(self) -> JSONObject:
        """For the store."""
        built: JSONObject = msgspec.to_builtins(self)
        return built

    def made(self) -> list[tuple[str, ToolCall]]:
        """The calls of the last answer, by our ids."""
        return list(zip(self.calls, self.produced[-1].tool_calls, strict=True))

    def waits(self, timeline: Projector) -> bool:
        """Whether one of its calls waits for a person: then the run goes on after a restart."""
        return any(
            (row := timeline.row(id)) is not None
            and not is_terminal(row)
            and row["props"].get("status") == "asking"
            for id in self.calls
        )

    def results(self, timeline: Projector) -> list[Message]:
        """What its calls gave; each has a result, so that the next turn can build on them."""
        return [
            Message("tool", result_of(id, timeline) or INTERRUPTED, tool_call_id=call.id)
            for id, call in self.made()
        ]


def result_of(call_id: str, timeline: Projector) -> str | None:
    """What a call gave, from its row; None where it has not ended."""
    row = timeline.row(f"{call_id}:result")
    return None if row is None else str(row["props"].get("result", ""))


def read(stored: JSONObject | None) -> Checkpoint | None:
    """What was stored; None where there is nothing, or nothing that can be gone on from."""
    if stored is None:
        return None
    try:
        checkpoint = msgspec.convert(stored, Checkpoint)
        checkpoint.made()
    except (msgspec.ValidationError, ValueError, IndexError):
        return None
    return checkpoint
