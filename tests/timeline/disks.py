"""Disks that fail, and files as a crash leaves them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.timeline.kernels import Holder
from webchat_widget.timeline.sqlite import lock

__all__ = ["Disk", "cut"]


def cut(path: Path) -> None:
    """Leave a file as a crash does: with what was said in its -wal."""
    with Holder(path):
        copies = [shutil.copy(f"{path}{suffix}", f"{path}{suffix}.copy") for suffix in ("", "-wal")]
    for copy in copies:
        os.replace(copy, copy.removesuffix(".copy"))
    Path(f"{path}-lock").unlink()


class Disk:
    """A folder that lets nobody write, as long as it is told to: by the rights on it, or where those do not
    count (root), by the answer that a disk gives which is mounted so, at the one place where files are made
    before a database is opened."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch

    def protect(self) -> None:
        locked = lock._locked

        def refused(file: Path) -> int | None:
            if self._folder in file.parents:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
            return locked(file)

        for each in (self._folder, *self._folder.rglob("*")):
            each.chmod(0o500 if each.is_dir() else 0o400)
        if os.geteuid() == 0:
            self._monkeypatch.setattr(lock, "_locked", refused)

    def release(self) -> None:
        self._monkeypatch.undo()
        for each in (self._folder, *self._folder.rglob("*")):
            each.chmod(0o700 if each.is_dir() else 0o600)
