"""A damaged database: it is noticed, and kept under another name; nothing is ever written over it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Damaged", "check", "check_length", "is_damage", "keep_aside"]

_CHECKED_BYTES = 64_000_000
"""What is larger is not read through when it is opened, which takes some 2 ms a megabyte."""
_PARTS = ("", "-journal", "-wal")


class Damaged(sqlite3.DatabaseError):
    """What we have found ourselves."""


def is_damage(error: BaseException) -> bool:
    """True where the file is no database, or one that contradicts itself."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def check_length(file: Path) -> None:
    """Raise Damaged for a file that is empty beside a -wal that is not: SQLite would take it for a new one,
    and write over the -wal."""
    wal = _beside(file, "-wal")
    with contextlib.suppress(FileNotFoundError):
        if wal.stat().st_size > 0 and file.stat().st_size == 0:
            raise Damaged(f"it is empty, and {wal.name} is not")


def check(db: sqlite3.Connection, file: Path) -> None:
    """Raise Damaged, or what SQLite raises, where the file contradicts itself."""
    if file.stat().st_size <= _CHECKED_BYTES:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(found)


def keep_aside(file: Path) -> str:
    """Give the file, which nobody has open, and what belongs to it another name; says so in a sentence."""
    kept = next(name for name in _names(file) if not any(_beside(name, part).exists() for part in _PARTS))
    # The -wal last: what a crash leaves alone of the two is kept by the next one who opens the file.
    for part in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            _beside(file, part).rename(_beside(kept, part))
    return f"The timeline in {file} was damaged. It is kept as {kept.name}, and a new one was begun."


def _names(file: Path) -> Iterator[Path]:
    name = f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    yield file.with_name(name)
    yield from (file.with_name(f"{name}-{n}") for n in itertools.count(2))


def _beside(file: Path, part: str) -> Path:
    return file.with_name(f"{file.name}{part}")
