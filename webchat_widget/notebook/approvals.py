"""Tool calls that wait for a person's yes, and Python that gives it."""

from __future__ import annotations

import time

from webchat_widget.errors import WebChatError
from webchat_widget.typing import Entity, JSONObject

from .chat import Chat
from .main_thread import pause

__all__ = ["Approvals"]

_POLL_SECONDS = 0.05
_GONE = ("unknown_call", "stale_approval", "decided")


class Approvals:
    """Those of one conversation."""

    def __init__(self, chat: Chat, conv_id: str) -> None:
        self._chat = chat
        self._conv_id = conv_id

    def waiting(self) -> list[JSONObject]:
        """What asks now, in the order of the rows."""
        return [_call(row) for row in self._chat.timeline(self._conv_id) if _asks(row)]

    def decide(self, decision: str, tool: str | None, timeout: float, reason: str = "") -> list[JSONObject]:
        """Wait until a call asks, of that tool if one is named; decide on all that do, and return them.

        Exactly what was read is decided on: a call that has changed meanwhile asks again. On a kernel's main
        thread, tools run while this waits. Raises TimeoutError.
        """
        patience = time.monotonic() + timeout
        while True:
            asked = [call for call in self.waiting() if tool in (None, call["name"])]
            if decided := [call for call in asked if self._says(decision, call, reason)]:
                return decided
            if time.monotonic() >= patience:
                what = "No tool call" if tool is None else f"No call of {tool}"
                raise TimeoutError(f"{what} has asked within {timeout:g} s.")
            pause(_POLL_SECONDS)

    def _says(self, decision: str, call: JSONObject, reason: str) -> bool:
        """Whether the call was still there to decide on."""
        try:
            self._chat.approve(self._conv_id, call["id"], decision, call["digest"], reason)
        except WebChatError as error:
            if error.code in _GONE:  # somebody else was faster, or the run has ended
                return False
            raise
        return True


def _asks(row: Entity) -> bool:
    approval = row["props"].get("approval") or {}
    return row["kind"] == "tool_call" and approval.get("state") == "pending"


def _call(row: Entity) -> JSONObject:
    props = row["props"]
    asked = {key: props["approval"][key] for key in ("digest", "expiresAt")}
    return {"id": row["id"], "name": props["name"], "input": props["input"], **asked}
