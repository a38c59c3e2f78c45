"""Runs that wait in step mode, and Python that lets them go on."""

from __future__ import annotations

import time

from webchat_widget.errors import WebChatError
from webchat_widget.typing import JSONObject

from .chat import Chat
from .main_thread import pause

__all__ = ["Pauses"]

_POLL_SECONDS = 0.05
_GONE = ("unknown_pause", "run_ended")


class Pauses:
    """Those of one conversation."""

    def __init__(self, chat: Chat, conv_id: str) -> None:
        self._chat = chat
        self._conv_id = conv_id

    def waiting(self) -> list[JSONObject]:
        """What waits now, in the order of the rows."""
        rows = [row for row in self._chat.timeline(self._conv_id) if row["kind"] == "debugger_pause"]
        return [
            {"id": row["id"], **{name: row["props"].get(name) for name in ("phase", "summary", "deadlineMs")}}
            for row in rows
            if row["props"].get("status") == "paused"
        ]

    def go_on(self, pause_id: str | None, timeout: float) -> list[JSONObject]:
        """Wait until a run pauses, or that pause is there; let all that wait go on, and return them.

        On a kernel's main thread, tools run while this waits. Raises TimeoutError.
        """
        patience = time.monotonic() + timeout
        while True:
            waiting = [each for each in self.waiting() if pause_id in (None, each["id"])]
            if continued := [each for each in waiting if self._resumes(each["id"])]:
                return continued
            if time.monotonic() >= patience:
                raise TimeoutError(f"No run has paused within {timeout:g} s.")
            pause(_POLL_SECONDS)

    def _resumes(self, pause_id: str) -> bool:
        """Whether the run was still there to go on."""
        try:
            self._chat.resume(self._conv_id, pause_id)
        except WebChatError as error:
            if error.code in _GONE:  # it has ended meanwhile
                return False
            raise
        return True
