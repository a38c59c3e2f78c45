"""A person's yes or no to a call: what the loop asks, and what it is told."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from webchat_widget.requests import Decision
from webchat_widget.typing import JSONObject

__all__ = ["Approvals", "Question", "Verdict"]


class Question(Struct, frozen=True):
    """May this call be made? `expires_at` is Unix ms; `digest` names the tool and the arguments; `grantable`:
    a yes may hold for the tool's later calls too."""

    call_id: str
    tool: str
    digest: str
    expires_at: int
    grantable: bool = True

    def approval(self, state: str, reason: str = "") -> JSONObject:
        """The prop `approval` of the call's row."""
        said = {"digest": self.digest, "expiresAt": self.expires_at, "state": state}
        if not self.grantable:
            said["always"] = False
        return said | {"reason": reason} if reason else said


class Verdict(Struct, frozen=True):
    """`state` is `once`, `always`, `denied` or `expired`."""

    state: str
    reason: str = ""

    @property
    def yes(self) -> bool:
        """Whether the call may be made."""
        return self.state in ("once", "always")


class Approvals(Protocol):
    """Who asks the person: the conversation."""

    @property
    def decisions(self) -> dict[str, Decision]:
        """What was decided about calls of this run, by their ids; part of its checkpoint."""
        ...

    def granted(self, tool: str) -> bool:
        """Whether this tool needs no yes in this conversation any more."""
        ...

    def expires_at(self) -> int:
        """When a question that is asked now expires."""
        ...

    def open(self, question: Question) -> None:
        """From now on it can be answered: before anybody sees it."""
        ...

    async def answer(self, question: Question) -> Verdict:
        """Wait for the answer to an open question. A yes is on disk before it is told, and told once."""
        ...

    def close(self, question: Question) -> None:
        """From now on it can't be answered."""
        ...
