"""A database with one owner: open it, lock it, change it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from webchat_widget.timeline.migrations import migrate

__all__ = ["connect", "is_busy", "transaction"]


def connect(path: str, *, timeout: float = 2) -> sqlite3.Connection:
    """Open a database (":memory:" for one without a file), made where there is none, in the newest schema.

    The file is readable for its owner only, and locked for as long as it is open: a second process would
    close the first one's runs as interrupted. The lock ends with the process that holds it, however that
    ends. Raises sqlite3.Error (`is_busy` tells a lock that somebody else holds for `timeout` seconds),
    OSError, and StoreUnavailable for a newer schema.
    """
    if path == ":memory:":
        db = sqlite3.connect(path, isolation_level=None)
        migrate(db)
        return db
    file = Path(path)
    while True:
        _make(file)
        named = _identity(file)
        db = sqlite3.connect(path, isolation_level=None, timeout=timeout)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")
            # A server removes the file that it has taken in, and who waited for the lock then has one without
            # a name. Nothing is read before this is known: a -wal of that name would be another file's.
            if named is not None and _identity(file) == named:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                migrate(db)
                return db
        except BaseException:
            db.close()
            raise
        db.close()


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; done means on disk."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def is_busy(error: BaseException) -> bool:
    """True where somebody else has the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _make(file: Path) -> None:
    """SQLite gives its -wal and -shm files the mode of the database itself."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file that exists is not opened here: to close it again would drop the lock of another store of this
    # process (POSIX).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.suppress(FileNotFoundError):  # it went; the next round makes another
        file.chmod(0o600)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
