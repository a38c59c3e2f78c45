"""A disk that fails at a chosen statement, under the real SQLite."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from msgspec import Struct

from webchat_widget.timeline.sqlite.connection import Database

__all__ = ["Disk", "Fault", "Faulty"]

T = TypeVar("T")

_WRITES = ("FULL", "READONLY", "BUSY")
"""What SQLite says to writes only."""
_DAMAGE = ("CORRUPT", "NOTADB")
_CODES = (*_WRITES, "FULL", "FULL", *_DAMAGE, "IOERR", "IOERR_FSYNC", "CANTOPEN")
_OPENING = ("IOERR", "CANTOPEN", "READONLY")
"""What may be in the way of opening a file. Damage has it set aside, and a lock has others wait, which have
tests of their own."""
_LONG = 1_000_000


class Fault(Struct, frozen=True):
    """What SQLite says (`SQLITE_<code>`), `skip` statements from now, and to how many.

    With `commit` only commits count. With `after` the statement is carried out first: one that is no commit
    is rolled back then, a commit took effect. Where that is said more than once, the disk is dead from then
    on.
    """

    code: str
    skip: int
    lasts: int
    commit: bool = False
    after: bool = False

    @classmethod
    def drawn(cls, random: random.Random) -> Fault:
        """Any of them."""
        return cls(
            random.choice(_CODES),
            random.choice((0, 0, 1, 2, 3, 5, 8, 13, 21)),
            random.choice((1, 1, 2, 5, _LONG)),
            random.random() < 0.4,
            random.random() < 0.4,
        )

    def __str__(self) -> str:
        what = "commits" if self.commit else "statements"
        many = "all" if self.lasts == _LONG else str(self.lasts)
        return f"{self.code} to {many} {what} {'after' if self.after else 'instead'}, {self.skip} later"


class Disk:
    """Where one file lies. A FULL is SQLite's own: no page may be added any more."""

    def __init__(self, file: Path) -> None:
        self.fault: Fault | None = None
        self.dead = False
        """It took a commit, said no, and says nothing else any more: the end of its host."""
        self.taken = 0
        """How many commits took effect to which it said no."""
        self.said = 0
        """How often it failed."""
        self._full = False
        Faulty.disks[str(file)] = self

    @property
    def spares_reads(self) -> bool:
        """Whether who only reads notices nothing."""
        return not self.dead and (self.fault is None or self.fault.code in _WRITES)

    def heal(self) -> None:
        """From now on all is well; what has died stays dead."""
        self.fault, self._full = None, False

    def carry_out(self, db: Faulty, sql: str, do: Callable[[], T]) -> T:
        """Do it, or not."""
        if db.limited != self._full:
            db.limit(self._full)
        commit = sql == "COMMIT" and db.writing
        fault = self._failing(db, sql, commit)
        if fault is None:
            return do()
        if fault.code == "FULL" and not fault.after:
            self._full = True
            db.limit(True)
            return do()
        if fault.after:
            with suppress(sqlite3.Error):
                do()
            if commit:
                self.taken += 1
                self.dead = self.dead or fault.lasts > 1
        self.said += 1
        raise _error(fault.code)

    def _failing(self, db: Faulty, sql: str, commit: bool) -> Fault | None:
        if self.dead:
            return Fault("IOERR", 0, _LONG)
        fault = self.fault
        if fault is None or not _concerns(fault, db, sql, commit):
            return None
        if fault.skip > 0:
            self.fault = Fault(fault.code, fault.skip - 1, fault.lasts, fault.commit, fault.after)
            return None
        left = fault.lasts if fault.lasts == _LONG else fault.lasts - 1
        self.fault = Fault(fault.code, 0, left, fault.commit, fault.after) if left else None
        return fault


class Faulty(Database):
    """A connection to a file on such a disk."""

    disks: ClassVar[dict[str, Disk]] = {}
    limited = False
    writing = False

    def __init__(self, file: Any, *args: Any, **options: Any) -> None:
        super().__init__(file, *args, **options)
        self._disk = self.disks[str(file)]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql.startswith("BEGIN"):
            self.writing = sql != "BEGIN"
        return self._disk.carry_out(self, sql, lambda: super(Faulty, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self._disk.carry_out(self, sql, lambda: super(Faulty, self).executemany(sql, parameters))

    def limit(self, full: bool) -> None:
        """Let no page be added, or as many as there are."""
        self.limited = full
        # What lies below the present size means the present size.
        super().execute(f"PRAGMA max_page_count = {1 if full else 1_000_000}")


def _concerns(fault: Fault, db: Faulty, sql: str, commit: bool) -> bool:
    if db.file is None:
        return fault.code in _OPENING and not fault.commit
    if fault.commit:
        return commit
    return db.writing and sql != "ROLLBACK" if fault.code in _WRITES else True


def _error(code: str) -> sqlite3.Error:
    """As the sqlite3 module raises it."""
    number = getattr(sqlite3, f"SQLITE_{code}")
    kind = sqlite3.DatabaseError if code in _DAMAGE else sqlite3.OperationalError
    error = kind(f"the disk says {code}")
    error.sqlite_errorcode, error.sqlite_errorname = number, f"SQLITE_{code}"
    return error
