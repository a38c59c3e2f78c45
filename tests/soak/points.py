"""What is sown into every server that is killed: the points at which it may die, and tools to call.

A point is armed by the file `armed` in the folder of the server, a line "CASE POINT N": at the Nth passing
the process kills itself, and says in `killed` when (monotonic seconds).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webchat_widget.tools.decorator import tool

__all__ = ["EFFECTS", "POINTS", "arm", "disarm", "points", "replace", "tools"]

POINTS = (
    "before_commit",
    "after_commit",
    "before_reply",
    "mid_delta",
    "mid_tool",
    "mid_stop",
    "mid_accept_key",
    "mid_recovery",
)
EFFECTS = "effects"
"""The file in which the tools leave a line for each time that they were called."""

_ARMED, _KILLED = "armed", "killed"
_passed: Counter[str] = Counter()


def arm(work: Path, case: int, point: str, n: int) -> None:
    """From now on the server in this folder dies when it comes by *point* for the *n*th time."""
    disarm(work)
    (work / "new").write_text(f"{case} {point} {n}")
    (work / "new").rename(work / _ARMED)


def disarm(work: Path) -> float | None:
    """No point kills any more; the monotonic time at which one did."""
    (work / _ARMED).unlink(missing_ok=True)
    killed = work / _KILLED
    if not killed.exists():
        return None
    at = float(killed.read_text() or "nan")
    killed.unlink()
    return at


def passing(point: str) -> None:
    """The process is at *point*."""
    try:
        armed = Path(_ARMED).read_text()
    except FileNotFoundError:
        return
    _, wanted, n = armed.split()
    if wanted != point:
        return
    _passed[armed] += 1
    if _passed[armed] == int(n):
        Path(_KILLED).write_text(str(time.monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)


def replace(owner: object, name: str, value: object) -> None:
    """Another value in the place of an attribute, for as long as the process lives."""
    setattr(owner, name, value)


def points() -> None:
    """Let the server come by each point."""
    from jupyter_server_webchat.base import WebChatHandler
    from webchat_widget.runtime.conversation import Conversation
    from webchat_widget.runtime.coordinator import StreamCoordinator
    from webchat_widget.runtime.run import Run
    from webchat_widget.timeline import sqlite
    from webchat_widget.timeline.sqlite.connection import transaction

    key = sqlite.SQLiteStore.key
    answer, delta = WebChatHandler.answer, StreamCoordinator.delta
    cancel, recover = Run.cancel, Conversation.recover

    @contextlib.contextmanager
    def committing(db: Any, *, write: bool = True) -> Iterator[None]:
        with transaction(db, write=write):
            yield
            if write:
                passing("before_commit")
        if write:
            passing("after_commit")

    async def looking_up(self: Any, *args: Any) -> Any:
        found = await key(self, *args)
        passing("mid_accept_key")
        return found

    def answering(self: Any, *args: Any, **more: Any) -> None:
        if self.request.method == "POST":
            passing("before_reply")
        answer(self, *args, **more)

    def streaming(self: Any, event: Any) -> None:
        delta(self, event)
        passing("mid_delta")

    def cancelling(self: Any, end: str) -> None:
        cancel(self, end)
        passing("mid_stop")

    async def recovering(self: Any) -> None:
        passing("mid_recovery")
        await recover(self)
        passing("mid_recovery")

    replace(sqlite, "transaction", committing)
    replace(sqlite.SQLiteStore, "key", looking_up)
    replace(WebChatHandler, "answer", answering)
    replace(StreamCoordinator, "delta", streaming)
    replace(Run, "cancel", cancelling)
    replace(Conversation, "recover", recovering)


@tool(approval="never")
def note(line: str) -> str:
    """Write a line."""
    with open(EFFECTS, "a") as effects:
        effects.write(f"{line}\n")
    passing("mid_tool")
    time.sleep(0.05)
    return f"wrote {line}"


@tool(approval="ask")
def note_if_allowed(line: str) -> str:
    """Write a line, if a person allows it."""
    return note(f"{line}?")


def tools() -> None:
    """Give the server two tools of its own, beside those that it has."""
    from jupyter_server_webchat import app
    from webchat_widget.tools.function import function_tool
    from webchat_widget.tools.registry import ToolRegistry

    def more(own: Any) -> Any:
        return ToolRegistry([*own, function_tool(note), function_tool(note_if_allowed)])

    replace(app, "ToolRegistry", more)
