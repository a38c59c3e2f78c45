"""A disk that fails at any statement: no false yes, nothing lost, nothing stuck, and what can be read is."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webchat_widget.runtime import coordinator, service
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline import sqlite
from webchat_widget.timeline.projector import Projector
from webchat_widget.timeline.sqlite import SQLiteStore, connection, readonly
from webchat_widget.timeline.store import Batch

from .disk_dialogue import Dialogue
from .disk_faults import Faulty
from .plants import planted

__all__ = ["HARNESS"]

_AT_ONCE = 8
"""Dialogues, each with a disk of its own."""


class DiskHarness:
    """Dialogues with a real SQLite file; each is of its own seed."""

    name = "disk"
    unit = "dialogues"
    quick = 150
    long = 20_000
    plants: Mapping[str, int] = {
        "answer_before_commit": 40,
        "full_swallowed": 300,
        "undo_forgotten": 40,
        "run_again_under_the_same_key": 40,
        "commit_not_tried_again": 300,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """Return what broke."""
        failures: list[str] = []
        cases = iter(range(n))

        async def work() -> None:
            for case in cases:
                if plant and failures:
                    return
                name = f"{seed}:{case}"
                dialogue = Dialogue(name, folder / str(case))
                try:
                    await dialogue.run()
                except Exception as broken:
                    failures.append(f"dialogue {name}: {broken!r}\n    " + "; ".join(dialogue.steps))
                else:
                    shutil.rmtree(folder / str(case))

        with contextlib.ExitStack() as stack:
            for owner, name, value in (
                (connection, "Database", Faulty),
                (coordinator, "_WRITE_SECONDS", 0.005),
                (coordinator, "_RETRY_SECONDS", 0.05),
                (readonly, "_LOOK_AGAIN_SECONDS", 0.02),
                (service, "_LOOK_AGAIN_SECONDS", 0.02),
            ):
                stack.enter_context(planted(owner, name, value))
            if plant is not None:
                stack.enter_context(globals()[plant]())
            await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return failures


HARNESS = DiskHarness()


# -- plants ------------------------------------------------------------------------------------------


def answer_before_commit() -> contextlib.AbstractContextManager[None]:
    """What is handed in counts as done."""
    write = SQLiteStore.write

    def hasty(store: SQLiteStore, batch: Batch) -> asyncio.Future[None]:
        write(store, batch).add_done_callback(lambda done: done.cancelled() or done.exception())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    return planted(SQLiteStore, "write", hasty)


def full_swallowed() -> contextlib.AbstractContextManager[None]:
    """A full disk is no error."""
    settle = sqlite._settle

    def quiet(job: Any, result: Any, error: Exception | None) -> None:
        settle(job, result, None if error is not None and "full" in str(error) else error)

    return planted(sqlite, "_settle", quiet)


def undo_forgotten() -> contextlib.AbstractContextManager[None]:
    """The row of what was refused stays."""
    return planted(Projector, "restore", lambda projector, id, row: None)


def run_again_under_the_same_key() -> contextlib.AbstractContextManager[None]:
    """Who asks again is taken again."""
    return planted(ChatService, "_take_once", lambda service, request, user: service._take(request, user))


def commit_not_tried_again() -> contextlib.AbstractContextManager[None]:
    """A commit that failed is taken for one that did not happen."""
    return planted(Faulty, "unsure", property(lambda db: False, lambda db, unsure: None))
