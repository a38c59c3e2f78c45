"""The conversations that kernels have left in files of their own."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from webchat_widget.timeline.store import Summary

from . import statements

__all__ = ["left_in"]


def left_in(folder: Path, limit: int = 500) -> list[Summary]:
    """The conversations in the files of a folder, in no order; without those that somebody has open.

    It reads the newest files only, changes nothing, and passes over what it can't read.
    """
    found = []
    files = sorted(folder.glob("*.sqlite"), key=_changed, reverse=True)
    for file in files[:limit]:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(file)) as db:
            found += statements.conversations(db, "", limit)
    return found


def _opened(file: Path) -> sqlite3.Connection:
    """The database, if it is there. One that is opened read-only would leave a -wal and a -shm behind."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=0)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # it went
        return 0.0
