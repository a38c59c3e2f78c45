"""What a crash left open, closed: from the rows and the checkpoint, for nothing else is left of the run."""

from __future__ import annotations

from webchat_widget.events import CallDone, CallResult, ErrorRaised, RunChanged, RunEvent, TextEnded
from webchat_widget.requests import ChatRequest
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Projector
from webchat_widget.tools.checkpoint import INTERRUPTED, Checkpoint
from webchat_widget.tools.endings import ending
from webchat_widget.turns import Message

__all__ = ["closing_events"]

_SENTENCE = "The chat was stopped while this was being answered."


def closing_events(
    run_id: str, request: ChatRequest, timeline: Projector, checkpoint: Checkpoint | None = None
) -> tuple[list[RunEvent], list[Message]]:
    """The events that end a run that was cut, and what of it the model should remember."""
    events: list[RunEvent] = []
    said: list[tuple[str, str]] = []
    for row in timeline.rows():
        if not row["id"].startswith(f"{run_id}:"):
            continue
        props = row["props"]
        if row["kind"] == "message" and props["role"] == "assistant" and props["content"]:
            said.append((row["id"], props["content"]))
        if row["kind"] == "message" and props["role"] != "user" and not is_terminal(row):
            events.append(TextEnded(id=row["id"], role=props["role"], status="interrupted"))
        elif row["kind"] == "tool_call" and not is_terminal(row):
            events += [
                CallResult(call_id=row["id"], result=INTERRUPTED, error="interrupted"),
                CallDone(id=row["id"], status="cancelled", duration_ms=0),
            ]
        elif not is_terminal(row) and (end := ending(row, "interrupted")) is not None:
            events.append(end)
    if not said and f"{run_id}:error" not in timeline:
        events.append(
            ErrorRaised(id=f"{run_id}:error", message=_SENTENCE, code="interrupted", retryable=True)
        )
    events.append(RunChanged(id=run_id, status="failed", stop_reason="interrupted", error=_SENTENCE))
    return events, _remembered(run_id, request, said, timeline, checkpoint)


def _remembered(
    run_id: str,
    request: ChatRequest,
    said: list[tuple[str, str]],
    timeline: Projector,
    checkpoint: Checkpoint | None,
) -> list[Message]:
    """What the checkpoint holds, with the results of its calls, and what was said after it."""
    prompt, before = request.prompt, list[Message]()
    if checkpoint is not None:
        known = {f"{run_id}:text:{n}" for n in range(1, checkpoint.counts.get("text", 0) + 1)}
        said = [(id, text) for id, text in said if id not in known]
        prompt, before = checkpoint.said, [*checkpoint.produced, *checkpoint.results(timeline)]
    if said:
        before.append(Message("assistant", "\n\n".join(text for _, text in said)))
    # A prompt without any answer is not remembered: many models want the roles to alternate.
    return [Message("user", prompt, images=request.images), *before] if before else []
