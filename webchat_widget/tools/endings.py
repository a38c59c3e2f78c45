"""How a row that a run has left open comes to its end."""

from __future__ import annotations

from webchat_widget.events import ExecutionEnded, Paused, PlanningEnded, RunEvent, ThinkingModeEnded
from webchat_widget.timeline.entities import Row

__all__ = ["ending"]

_WHY = {
    "stopped": "The run was stopped.",
    "interrupted": "The chat was stopped while this was going on.",
    "error": "The run failed.",
}


def ending(row: Row, status: str) -> RunEvent | None:
    """The event that ends a row of a middleware; `status` is the end of the run's last message. None for
    kinds that don't end."""
    id, props = row["id"], row["props"]
    why = _WHY.get(status, "The run ended before this did.")
    match row["kind"]:
        case "thinking_mode":
            return ThinkingModeEnded(id=id, success=False, error=why)
        case "planning" if props.get("status") == "executing":
            return ExecutionEnded(id=id, status="error", error_message=why)
        case "planning":
            decision = status if status in _WHY else "error"
            steps = len(props.get("iterations", ()))
            return PlanningEnded(id=id, total_iterations=steps, final_decision=decision, status_reason=why)
        case "debugger_pause":
            return Paused(
                id=id,
                phase=str(props.get("phase")),
                summary=str(props.get("summary")),
                deadline_ms=int(props.get("deadlineMs") or 0),
                status="cancelled",
            )
    return None
