"""A program that dies in the middle of a move: at its first step, at its second, and so on to the end.

`python -m tests.timeline.crash (load|hand_over) TEMPLATE OUT` leaves a folder `OUT/<n>` for each death, made
from TEMPLATE, and prints how many there are. A step is a statement of SQLite, or the removal of a file.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from webchat_widget.timeline.sqlite.adoption import AdoptingStore


def die_at(step: int) -> None:
    """Have this process killed when it comes to a step."""
    steps = itertools.count(1)

    def count(*_: object) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    connect, unlink = sqlite3.connect, Path.unlink

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **options)
        db.set_trace_callback(count)
        return db

    def counted(path: Path, missing_ok: bool = False) -> None:
        count()
        unlink(path, missing_ok)
        count()

    sqlite3.connect = traced  # type: ignore[assignment]
    Path.unlink = counted  # type: ignore[method-assign]


async def move(operation: str, folder: Path) -> None:
    store = AdoptingStore(folder / "timeline.sqlite", folder / "conversations")
    await getattr(store, operation)("c")
    await store.close()


def main(operation: str, template: str, out: str) -> int:
    for step in itertools.count(1):
        folder = Path(out, str(step))
        shutil.copytree(template, folder)
        child = os.fork()
        if child == 0:
            die_at(step)
            asyncio.run(move(operation, folder))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            shutil.rmtree(folder)
            print(step - 1)
            return 0
        if not os.WIFSIGNALED(status):
            return 1
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
