"""What a crash left open, closed: from the rows alone, for nothing else is left of a run that was cut."""

from __future__ import annotations

from webchat_widget.events import CallDone, CallResult, ErrorRaised, RunChanged, RunEvent, TextEnded
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Message

__all__ = ["closing_events"]

_SENTENCE = "The chat was stopped while this was being answered."


def closing_events(run_id: str, prompt: str, timeline: Projector) -> tuple[list[RunEvent], list[Message]]:
    """The events that end a run that was cut, and what of it the model should remember."""
    events: list[RunEvent] = []
    said: list[str] = []
    for row in timeline.rows():
        if not row["id"].startswith(f"{run_id}:"):
            continue
        props = row["props"]
        if row["kind"] == "message" and props["role"] == "assistant":
            said.append(props["content"])
        if row["kind"] == "message" and props["role"] != "user" and not is_terminal(row):
            events.append(TextEnded(id=row["id"], role=props["role"], status="interrupted"))
        elif row["kind"] == "tool_call" and not is_terminal(row):
            events += [
                CallResult(call_id=row["id"], result="This tool call was interrupted.", error="interrupted"),
                CallDone(id=row["id"], status="cancelled", duration_ms=0),
            ]
    if not any(said) and f"{run_id}:error" not in timeline:
        events.append(
            ErrorRaised(id=f"{run_id}:error", message=_SENTENCE, code="interrupted", retryable=True)
        )
    events.append(RunChanged(id=run_id, status="failed", stop_reason="interrupted", error=_SENTENCE))
    if not any(said):  # as with any prompt that got no answer: many models want the roles to alternate
        return events, []
    return events, [Message("user", prompt), Message("assistant", "\n\n".join(said))]
