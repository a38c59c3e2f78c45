"""Rows: entities as the projection and the stores hold them (docs/contract.md, 2 and 5).

A row is `{id, kind, createdSeq, version, props}`. Times are no part of it: they are derived from the two
positions when a row is shown, the same way on both sides of the wire.
"""

from __future__ import annotations

from typing import Any

from webchat_widget.typing import Entity

__all__ = ["Row", "entity", "is_open", "is_terminal"]

Row = dict[str, Any]

_TERMINAL_RUN = frozenset({"finished", "stopped", "failed"})
_ENDED = frozenset({"completed", "error"})
_ENDING = frozenset({"run", "tool_call", "planning", "thinking_mode", "debugger_pause"})
"""Kinds of rows that come to an end, beside messages."""


def is_terminal(row: Row | Entity) -> bool:
    """True where the row has ended for good: no later frame may undo it."""
    props = row["props"]
    match row["kind"]:
        case "message":
            return props.get("streaming") is False
        case "tool_call":
            return props.get("done") is True
        case "run":
            return props.get("status") in _TERMINAL_RUN
        case "planning" | "thinking_mode":
            return props.get("status") in _ENDED
        case "debugger_pause":
            return bool(props.get("status") != "paused")
    return False


def is_open(row: Row | Entity) -> bool:
    """True where the row is a run that has not ended, or one that a run must still bring to its end."""
    if row["kind"] == "message":
        return row["props"].get("role") != "user" and not is_terminal(row)
    return row["kind"] in _ENDING and not is_terminal(row)


def entity(row: Row) -> Entity:
    """The row as `/timeline` gives it, with its times in Unix milliseconds."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "createdAt": row["createdSeq"] // 1000,
        "updatedAt": row["version"] // 1000,
        "createdSeq": row["createdSeq"],
        "version": row["version"],
        "props": row["props"],
    }
