"""A lock on a database that holds whatever else its process does with the file.

SQLite's own lock does not, on POSIX: a process that closes any descriptor of a file, as a copy made in a cell
does, drops all its locks on that file. This one belongs to a descriptor that nobody else has. It lies on a
file beside the database, because on macOS and on NFS the two kinds of lock collide on one file. In it is
written who has it, for those who are refused.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import weakref
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["Lock", "owner_of"]

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Owner(Struct, frozen=True):
    """Who has a lock: what kind of program, where, and since when (Unix ms)."""

    kind: str
    pid: int
    host: str
    since: int

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since / 1000))
        return f"{self.kind}, process {self.pid} on {self.host}, since {since}"


def owner_of(file: Path) -> str:
    """Who has the database `file` open, as words in a sentence; "" where nobody has, or it is not known."""
    try:
        return str(msgspec.json.decode(_beside(file).read_bytes(), type=Owner))
    except (OSError, msgspec.MsgspecError, OverflowError):
        return ""


class Lock:
    """The right to open the database `file`, until `release` or the end of the process. `kind` says what the
    owner is, as "a kernel".

    Raises BlockingIOError at once where somebody else has it, in this process or another, and OSError where
    no file can be made there. It is nothing on Windows, where SQLite's own lock holds by itself, and on file
    systems without such locks.
    """

    def __init__(self, file: Path, kind: str) -> None:
        self._file = _beside(file)
        self._descriptor = _locked(self._file)
        if self._descriptor is not None:
            _held.add(self)
            _sign(self._descriptor, kind)

    def is_named(self) -> bool:
        """Whether it keeps others out still: its file may have been removed, or moved with its folder."""
        return self._descriptor is not None and _is_named(self._file, self._descriptor)

    def release(self) -> None:
        """Let the next one in, and leave no file behind."""
        # While it is locked: who has opened the same file finds, once it is theirs, that it lost its name.
        if self.is_named():
            self._file.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor. The lock ends with the last process that has it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _sign(descriptor: int, kind: str) -> None:
    owner = Owner(kind, os.getpid(), socket.gethostname(), time.time_ns() // 1_000_000)
    with contextlib.suppress(OSError):  # on a full disk it is a lock all the same
        os.ftruncate(descriptor, 0)  # of one that was killed
        os.write(descriptor, msgspec.json.encode(owner))


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}-lock")


def _is_named(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False


if sys.platform == "win32":

    def _locked(file: Path) -> int | None:
        return None

else:
    import fcntl

    def _locked(file: Path) -> int | None:
        """A descriptor of the locked file; None where there is no such lock."""
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise
            except OSError:  # some network file systems
                os.close(descriptor)
                file.unlink(missing_ok=True)
                return None
            if _is_named(file, descriptor):
                return descriptor
            os.close(descriptor)

    def _forget_all() -> None:
        for lock in list(_held):
            lock.forget()

    # A worker that is forked would keep the lock beyond the end of its parent.
    os.register_at_fork(after_in_child=_forget_all)
