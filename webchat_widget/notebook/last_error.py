"""The exception that a cell ended with, as a prompt that asks for the reason."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType
from typing import Any, TypeGuard

from IPython.core.error import UsageError
from msgspec import Struct

from webchat_widget.timeline.transcript import fenced

from .masking import masked

__all__ = ["Failure", "LastError"]

_FRAMES = 20
"""Of a traceback, counted from where it was raised."""
_LINKS = 3
"""Of a chain of exceptions, counted from the last."""
_CELL = _STEPS = 8_000
_MESSAGE = 2_000
"""Characters; of what is longer the middle is left out."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Failure(Struct, frozen=True):
    """A cell and what it raised; the cell is empty where nobody knows it."""

    cell: str
    error: BaseException


class LastError:
    """Remembers how cells of a shell end. `watch` is for its event `post_run_cell`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._seen: Failure | None = None

    def watch(self, result: Any) -> None:
        """A cell has ended."""
        error = result.error_before_exec or result.error_in_exec
        if _counts(error):
            self._seen = Failure(result.info.raw_cell, error)

    @property
    def failure(self) -> Failure | None:
        """What was shown last as an exception; None where nothing was.

        It may be older than the extension, or come from within a magic, so what the interpreter keeps counts
        as well. A magic that was called wrongly does not, nor does an interrupt.
        """
        shown = getattr(sys, "last_value", None)
        if not _counts(shown) or (self._seen is not None and shown is self._seen.error):
            return self._seen
        return Failure(self._cell_of(shown), shown)

    def prompt(self, failure: Failure) -> str:
        """What a model is asked: the cell and the end of the traceback, bounded.

        What looks like a secret is left out of it; what does not look like one stays.
        """
        what = type(failure.error).__name__
        parts = [f"{what} in a cell of my notebook: explain briefly why, and show how to mend it."]
        if failure.cell.strip():
            parts += ["The cell:", fenced(_cut(masked(failure.cell.strip("\n")), _CELL))]
        parts += ["What it raised:", fenced(self._told(failure.error))]
        return "\n\n".join(parts)

    def _cell_of(self, error: BaseException) -> str:
        """The source of the cell in which it was raised, by the number that the shell gave that cell."""
        files = [error.filename] if isinstance(error, SyntaxError) else []
        files += [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        cells = (self._number(file) for file in files if file)
        number = next((number for number in cells if number is not None), None)
        history = self._shell.history_manager.input_hist_raw
        return str(history[number]) if number is not None and number < len(history) else ""

    def _number(self, file: str) -> int | None:
        name = self._name(file)
        return int(name[3:-1]) if name else None

    def _name(self, file: str) -> str:
        """`In[3]` for the file that stands for a cell; else empty."""
        named = self._shell.compile.format_code_name(file)
        return str(named[1]) if named and re.fullmatch(r"In\[\d+\]", named[1]) else ""

    def _told(self, error: BaseException) -> str:
        """The tracebacks of an exception and of those that led to it, the last one last."""
        parts = [self._traceback(error)]
        for _ in range(_LINKS - 1):
            cause, handled = error.__cause__, error.__context__
            if cause is None and (handled is None or error.__suppress_context__):
                break
            word = "which led to:" if cause is not None else "and while that was handled:"
            error = cause or handled  # type: ignore[assignment]
            parts[:0] = self._traceback(error), word
        return "\n\n".join(parts)

    def _traceback(self, error: BaseException) -> str:
        said = traceback.TracebackException.from_exception(error, limit=0, compact=True)
        frames = ""
        if isinstance(error, SyntaxError) and (cell := self._name(error.filename or "")):
            said.filename = cell  # and its frames are the shell's own
        else:
            steps = traceback.walk_tb(self._from_the_cell(error.__traceback__))
            summary = traceback.StackSummary.extract(steps, limit=-_FRAMES)
            for frame in summary:
                frame.filename = self._name(frame.filename) or frame.filename
            frames = "".join(map(masked, summary.format()))  # a line of one may begin what it does not end
        message = masked(_ANSI.sub("", "".join(said.format_exception_only()).rstrip()))
        return _cut(_ANSI.sub("", frames), _STEPS) + _cut(message, _MESSAGE)

    def _from_the_cell(self, at: TracebackType | None) -> TracebackType | None:
        """The traceback without the shell's own way to the cell; whole where there is no cell in it."""
        whole = at
        while at is not None:
            if self._name(at.tb_frame.f_code.co_filename):
                return at
            at = at.tb_next
        return whole


def _counts(error: object) -> TypeGuard[Exception]:
    return isinstance(error, Exception) and not isinstance(error, UsageError)


def _cut(text: str, size: int) -> str:
    """The beginning and the end of a long text."""
    half = size // 2
    return text if len(text) <= size else f"{text[:half]}\n[…]\n{text[-half:]}"
