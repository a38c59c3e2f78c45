"""Calls that are put together from pieces, in either style."""

from __future__ import annotations

from webchat_widget.errors import EngineError

__all__ = ["MAX_ARGUMENTS", "Assembly", "OpenCall"]

MAX_ARGUMENTS = 1_000_000
"""Characters of the arguments of all calls of one answer."""


class OpenCall:
    """A call that is being put together."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        """What has come of its arguments."""
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class Assembly:
    """Adds to the arguments of one answer's calls, as long as there is room. Raises EngineError."""

    def __init__(self) -> None:
        self._room = MAX_ARGUMENTS

    def append(self, call: OpenCall, text: str) -> None:
        """More of a call's arguments."""
        self._room -= len(text)
        if self._room < 0:
            raise EngineError(
                f"The model's tool calls were stopped after {MAX_ARGUMENTS:,} characters of arguments. Ask "
                "for less at once.",
                code="text_limit",
                retryable=False,
            )
        call.pieces.append(text)

    def replace(self, call: OpenCall, text: str) -> None:
        """All of a call's arguments, whatever came before."""
        self._room += sum(map(len, call.pieces))
        call.pieces = []
        self.append(call, text)
