"""A database that may only be read: one on a disk that is mounted so, or in a folder that is not ours."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
import time
from pathlib import Path

from msgspec import structs

from webchat_widget.timeline.migrations import MIGRATIONS, migrate
from webchat_widget.timeline.store import Loaded

from . import statements
from .connection import Database, connect, identity
from .damage import check_length
from .lock import Lock
from .snapshot import copied

__all__ = ["ReadOnly", "connect_or_read", "load", "unfinished"]

_LOOK_AGAIN_SECONDS = 5.0
_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)


class ReadOnly(Database):
    """A connection that changes nothing, not even beside the file, and has no lock on it."""

    folder: tempfile.TemporaryDirectory[str] | None = None
    """Where the copy is that it reads, if it reads one."""
    looked = 0.0
    """On the monotonic clock: when it was known last that nothing may be written."""
    state: tuple[tuple[int, int] | None, ...] = ()

    def is_due(self) -> bool:
        """Whether it is time to look again if the file may be written."""
        return time.monotonic() - self.looked >= _LOOK_AGAIN_SECONDS

    def is_current(self) -> bool:
        """True, until the next look, where nobody else has written to the file meanwhile."""
        assert self.file is not None
        self.looked = time.monotonic()
        return self.state == _state(self.file)

    def close(self) -> None:
        """Close the database, and remove the copy."""
        super().close()
        if self.folder is not None:
            self.folder.cleanup()


def connect_or_read(
    path: str,
    open: Database | None = None,
    *,
    kind: str,
    notices: list[str] | None = None,
    timeout: float = 2,
    lock: Lock | None = None,
) -> Database:
    """`connect`, or a connection to read where nothing may be written: `open`, where that is one of what is
    there still. Raises what `connect` does."""
    try:
        return connect(path, kind=kind, notices=notices, timeout=timeout, lock=lock)
    except (sqlite3.Error, OSError) as error:
        if not _is_denied(error) or not Path(path).exists():
            raise
        if isinstance(open, ReadOnly) and open.is_current():
            return open
        return _read(Path(path))


def load(db: Database, conv_id: str) -> Loaded | None:
    """A conversation, or None where it is unknown; without its unfinished runs where nothing may be written,
    for they could not be brought to their ends."""
    loaded = statements.load(db, conv_id)
    if loaded is None or not db.refusal or not loaded.pending:
        return loaded
    return structs.replace(loaded, pending=[], complete=False)


def unfinished(db: Database) -> list[str]:
    """The conversations with runs that have not ended; none where they never will: the file is damaged."""
    return [] if db.refusal and not isinstance(db, ReadOnly) else statements.unfinished(db)


def _is_denied(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DENIED
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def _read(file: Path) -> ReadOnly:
    """Open a database of which only reads are asked.

    SQLite can read a file beside which it may make no others if it knows that nothing else is to be read and
    that nobody changes it. Where a crash left a -wal, or the schema is an older one, a copy is read.
    """
    check_length(file)
    state = _state(file)
    db = _open(file, immutable=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if _bytes(_beside(file, "-wal")) or version < len(MIGRATIONS):
            db.close()
            db = _copied(file)
        migrate(db)  # what is as new as we are is left as it is; a newer one is refused
        db.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    db.file, db.identity, db.state, db.looked = file, identity(file), state, time.monotonic()
    db.refusal = (
        f"The timeline can only be read at present: the file {file}, its folder or the disk lets nobody "
        "write. What was said before is shown; nothing new can be stored."
    )
    return db


def _copied(file: Path) -> ReadOnly:
    folder = tempfile.TemporaryDirectory(prefix="webchat-")
    try:
        db = _open(copied(file, Path(folder.name)))
    except BaseException:
        folder.cleanup()
        raise
    db.folder = folder
    return db


def _open(file: Path, *, immutable: bool = False) -> ReadOnly:
    how = "?mode=ro&immutable=1" if immutable else ""
    uri = f"{file.absolute().as_uri()}{how}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0, factory=ReadOnly)


def _state(file: Path) -> tuple[tuple[int, int] | None, ...]:
    return tuple(_stamp(_beside(file, suffix)) for suffix in ("", "-wal"))


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _bytes(file: Path) -> int:
    stamp = _stamp(file)
    return 0 if stamp is None else stamp[1]


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")
