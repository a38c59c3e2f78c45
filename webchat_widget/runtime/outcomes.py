"""The end of a run, in events: what went wrong, if anything did, and the terminal frame."""

from __future__ import annotations

from webchat_widget.errors import WebChatError
from webchat_widget.events import ErrorRaised, Finish, LogWritten, RunChanged, RunEvent
from webchat_widget.tools.loop import ToolLoop

__all__ = ["outcome"]

_RUN_STATUS = {
    "complete": "finished",
    "truncated": "finished",
    "refused": "finished",
    "stopped": "stopped",
    "error": "failed",
    "interrupted": "failed",
}
"""The end of a run, from the end of its last message (docs/contract.md, 3)."""


def outcome(
    run_id: str, status: str, finish: Finish | None, failure: WebChatError | None, loop: ToolLoop | None
) -> list[RunEvent]:
    """What is said last of a run. `status` is that of its last message; `finish` says how the model ended,
    None where it did not; `loop` is None where the run never came to ask it."""
    events: list[RunEvent] = []
    spoke = loop is not None and loop.has_text
    fault = _error(run_id, status, failure, spoke)
    if fault is not None:
        events.append(fault)
    elif status == "complete" and not spoke:
        events.append(_nothing_said(run_id))
    ended = RunChanged(
        id=run_id,
        status=_RUN_STATUS[status],
        model=finish.model if finish else None,
        usage=loop.usage if loop else None,
        stop_reason=finish.reason if finish else status,
        error=fault.message if fault and status != "stopped" else None,
    )
    return [*events, ended]


def _error(run_id: str, status: str, failure: WebChatError | None, spoke: bool) -> ErrorRaised | None:
    """The row that says what went wrong; an end without any text always has one."""
    id = f"{run_id}:error"
    if failure is not None:
        return ErrorRaised(id=id, message=failure.message, code=failure.code, retryable=failure.retryable)
    if spoke:
        return None
    match status:
        case "stopped":
            return ErrorRaised(
                id=id, message="Stopped before the first word.", code="stopped", retryable=True
            )
        case "interrupted":
            return ErrorRaised(
                id=id,
                message="The chat was restarted before the model answered.",
                code="interrupted",
                retryable=True,
            )
        case "refused":
            return ErrorRaised(id=id, message="The model refused to answer.", code="refused", retryable=False)
        case "truncated":
            return ErrorRaised(
                id=id,
                message="The model reached its length limit before its first word.",
                code="truncated",
                retryable=True,
            )
    return None


def _nothing_said(run_id: str) -> LogWritten:
    return LogWritten(
        id=f"{run_id}:log", level="warning", message="The model answered with no text.", fields={}
    )
