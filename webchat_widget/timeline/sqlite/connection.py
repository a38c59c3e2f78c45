"""A database with one owner: open it, lock it, change it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.migrations import migrate

from . import damage
from .damage import is_damage
from .lock import Lock

__all__ = ["Database", "Moved", "advice", "connect", "identity", "is_busy", "remove", "transaction"]

_PAUSE_SECONDS = (0.005, 0.03)
"""Between two attempts to lock a file: as long as luck has it, or two might always meet."""


class Moved(StoreUnavailable):
    """The file that is open has lost its name: what would be written to it, nobody would find."""


class Database(sqlite3.Connection):
    """A connection that knows the file it was opened for, and lets go of its lock when it is closed."""

    file: Path | None = None
    identity: tuple[int, int] | None = None
    lock: Lock | None = None
    moved = False
    """True once the file was found to be gone from its place: nothing is committed any more."""
    unsure = False
    """True where the last commit failed, and may have taken effect all the same."""
    refusal = ""
    """Why nothing may be written to it, in sentences for a person; "" where it may."""

    def check_writable(self) -> None:
        """Raise StoreUnavailable where nothing may be written, and Moved where that can be tried anew."""
        if self.refusal:
            self.check()
            raise StoreUnavailable(self.refusal)

    def check(self) -> None:
        """Raise Moved where another file has the name by now, or none."""
        if self.file is not None and identity(self.file) != self.identity:
            self.moved = True
            raise Moved(
                f"The file {self.file} was removed or replaced while it was in use, so nothing was stored. "
                "Put it back if you miss what was in it, and try again."
            )

    def take_back(self) -> None:
        """Undo what was begun, if anything was. Raises sqlite3.Error; to call again is to try again."""
        if self.in_transaction:
            self.execute("ROLLBACK")

    def leave(self) -> Lock | None:
        """Close the database, and keep the lock for the file that has its name by now."""
        lock, self.lock = self.lock, None
        self.close()
        return lock

    def close(self) -> None:
        """Close the database, then its lock."""
        try:
            super().close()
        finally:
            if self.lock is not None:
                self.lock.release()


def connect(
    path: str,
    *,
    kind: str = "a program",
    notices: list[str] | None = None,
    timeout: float = 2,
    lock: Lock | None = None,
) -> Database:
    """Open a database (":memory:" for one without a file), made where there is none, in the newest schema.

    The file is readable for its owner only, and locked for as long as it is open: a second process would
    close the first one's runs as interrupted. The lock says what `kind` of program has it, and ends with the
    process that holds it, however that ends. A `lock` that is held already stays so where this raises.

    Raises sqlite3.Error (`is_busy` tells a lock that somebody else holds for `timeout` seconds), OSError
    (`is_busy` as well), and StoreUnavailable for a newer schema. With `notices` a damaged file is kept aside
    and a new one made, which is said there; without, it raises.
    """
    if path == ":memory:":
        db = sqlite3.connect(path, isolation_level=None, factory=Database)
        migrate(db)
        return db
    deadline = time.monotonic() + timeout
    while True:
        try:
            if (opened := _open(Path(path), kind, notices, lock)) is not None:
                return opened
        except (sqlite3.Error, BlockingIOError) as error:
            # SQLite's own wait would keep a shared lock, so that two who open a file both wait for nothing.
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(*_PAUSE_SECONDS))


@contextlib.contextmanager
def transaction(db: Database, *, write: bool = True) -> Iterator[None]:
    """All or nothing; done means on disk, in the file of that name. Raises Moved where it is another one, and
    StoreUnavailable for a `write` where nothing may be written."""
    if write:
        db.check_writable()
    db.unsure = False
    try:
        db.take_back()
        db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        yield
        db.check()
        try:
            db.execute("COMMIT")
        except sqlite3.Error:
            db.unsure = not db.in_transaction
            raise
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # then the next one does it
            db.take_back()
        raise


def is_busy(error: BaseException) -> bool:
    """True where somebody else has the file."""
    return isinstance(error, BlockingIOError) or _primary(error) == sqlite3.SQLITE_BUSY


def identity(file: Path) -> tuple[int, int] | None:
    """What tells this file from another one of its name; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def advice(error: BaseException) -> str:
    """What a person can do about it, as a sentence after a space; "" where we don't know."""
    full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    if full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return " Free some space on the disk, then try again."
    if is_damage(error):
        return " Its data is damaged: move the file away to begin anew."
    if _primary(error) == sqlite3.SQLITE_IOERR or (isinstance(error, OSError) and error.errno == errno.EIO):
        return " Look whether the disk is full or was taken away, then try again."
    return ""


def remove(db: Database, file: Path) -> None:
    """Remove the file while it is locked: who waits for the lock finds that the name is gone.

    Raises Moved where the name is another file's by now, which stays.
    """
    db.check()
    # First out of WAL, or who waits would take the -wal of the next file of this name for its own. Then OFF,
    # or the connection would remove the next file's journal, by its name, when it is closed.
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA journal_mode = OFF")
    try:
        _unlink(file)
    except PermissionError:  # Windows removes no file that is open; nor can a kernel's be removed then
        db.close()
        _unlink(file)


def _primary(error: BaseException) -> int:
    """SQLite's code without its finer points; 0 for what is none of its errors."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _unlink(file: Path) -> None:
    for suffix in ("-journal", "-shm", ""):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _open(file: Path, kind: str, notices: list[str] | None, held: Lock | None) -> Database | None:
    """The database with its lock; None where the file of this name is another one by now."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock, db = held if held is not None and held.is_named() else Lock(file, kind), None
    try:
        try:
            db = _connect(file)
        except sqlite3.DatabaseError as error:
            if notices is None or not is_damage(error):
                raise
            notices.append(damage.keep_aside(file))
            db = _connect(file)
    finally:
        if db is not None:
            db.lock = lock
        elif lock is not held:
            lock.release()
    return db


def _connect(file: Path) -> Database | None:
    """The database, locked by SQLite's own means; None where the file of this name is another one by now.

    A server removes the file that it has taken in, and who came for its lock then has one without a name.
    Nothing is read before this is known: a -wal of that name would be another file's. SQLite itself looks
    when it writes for the first time, which catches a new file that was given the old one's number.
    """
    _make(file)
    damage.check_length(file)
    named = identity(file)
    db = sqlite3.connect(file, isolation_level=None, timeout=0, factory=Database)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
        if named is None or identity(file) != named:
            db.close()
            return None
        # On macOS an fsync leaves it in the disk's cache. Elsewhere these say nothing.
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        damage.check(db, file)
        migrate(db)
    except BaseException as error:
        db.close()
        moved = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED
        if moved or (isinstance(error, sqlite3.Error) and identity(file) != named):
            return None
        raise
    db.file, db.identity = file, named
    return db


def _make(file: Path) -> None:
    """SQLite gives its -wal and -shm files the mode of the database itself."""
    # A file that exists is not opened here: to close it again would drop the lock of another store of this
    # process (POSIX).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.suppress(FileNotFoundError):  # it went; the next round makes another
        file.chmod(0o600)
