"""A timeline as it was at one instant, whoever has it open: a copy of its file, which nothing is written to.

SQLite would not let us in, for a host keeps its file locked; nor need it. What a checkpoint writes into the
database while we copy it stands in the -wal as well, for as long as the salts in the head of the -wal are the
same: so the -wal is copied last, and both again where it was begun anew meanwhile.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.migrations import migrate

__all__ = ["copied", "snapshot"]

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05
_HEAD_BYTES = 32
"""Of a -wal: its salts are in there. A checkpoint with nothing behind it may leave one that is empty."""


@contextmanager
def snapshot(file: Path) -> Iterator[sqlite3.Connection]:
    """The timeline in `file`, in the newest schema; it is gone afterwards.

    Raises StoreUnavailable for what is no timeline, or can't be read, and sqlite3.DatabaseError for one that
    is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="webchat-"))
            copy = copied(file, Path(folder))
        except FileNotFoundError:
            raise StoreUnavailable(f"There is no file {file}.") from None
        except OSError as error:
            raise StoreUnavailable(f"{file} can't be read or copied: {error.strerror}.") from None
        db = stack.enter_context(closing(sqlite3.connect(copy, isolation_level=None)))
        _check(db, file)
        migrate(db)
        yield db


def copied(file: Path, folder: Path) -> Path:
    """A copy of a database in `folder`, with what belongs to it. Raises OSError and StoreUnavailable."""
    copy = folder / "timeline.sqlite"
    for _ in range(_ATTEMPTS):
        before = _state(file)
        shutil.copyfile(file, copy)
        for suffix in ("-journal", "-wal"):
            _beside(copy, suffix).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(_beside(file, suffix), _beside(copy, suffix))
        if _state(file) == before:
            if not copy.stat().st_size and _beside(copy, "-wal").exists():
                raise StoreUnavailable(f"{file} is damaged: it is empty, and {file.name}-wal is not.")
            return copy
        time.sleep(_PAUSE_SECONDS)
    raise StoreUnavailable(f"{file} changes too fast to be read. Try again, or stop who writes to it.")


def _state(file: Path) -> tuple[object, ...]:
    """What stays the same as long as a copy that was begun is whole."""
    status = file.stat()
    salts = b""
    with contextlib.suppress(FileNotFoundError), _beside(file, "-wal").open("rb") as wal:
        salts = wal.read(_HEAD_BYTES)
    # Without a -wal, changes are made in the database itself.
    return status.st_ino, salts or (status.st_size, status.st_mtime_ns)


def _check(db: sqlite3.Connection, file: Path) -> None:
    """Refuse somebody else's database: the schema would be laid over it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if ("conversations" in tables) != (version > 0) or (tables and not version):
        raise StoreUnavailable(f"{file} is no timeline.")


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")
