"""A folder of a disk, as its files would be found if the power failed."""

from __future__ import annotations

import random
from pathlib import Path

from msgspec import Struct

from tests.support.strace import Moment

__all__ = ["Disk"]

_UNKNOWN = ("write", "writev", "pwritev")


class _Change(Struct):
    """A write that the system was asked for, or a new length."""

    id: int
    offset: int
    data: bytes | None
    """None: the file is cut, or grows, to `offset`."""
    done: bool = False


class _File:
    """`durable` is what is on the disk for certain, `waiting` what may be."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.waiting: list[_Change] = []
        self.syncs: dict[int, list[_Change]] = {}
        """By the id of a sync that has begun: what was done before."""


class Disk:
    """What a folder's files hold for certain, followed through the calls of a process.

    Names are taken for durable as soon as they are there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self.syncs = 0
        """How often something became certain."""

    def take(self, moment: Moment) -> None:
        """A call began, or ended."""
        path = Path(moment.file)
        if path.parent != self._folder:
            return
        file = self._files.setdefault(path.name, _File())
        began = moment.what == "began"
        if moment.call in ("pwrite64", "ftruncate"):
            if began:
                data = moment.data if moment.call == "pwrite64" else None
                file.waiting.append(_Change(moment.id, moment.offset, data))
            else:
                self._end(file, moment)
        elif moment.call in ("fsync", "fdatasync"):
            if began:
                file.syncs[moment.id] = [change for change in file.waiting if change.done]
            elif moment.result == 0:
                self.syncs += 1
                _apply(file.durable, synced := file.syncs.pop(moment.id))
                file.waiting = [change for change in file.waiting if change not in synced]

    def leave(self, folder: Path, rng: random.Random, keeps: float) -> None:
        """Put the files into another folder, with each change that was not synced as likely as `keeps`."""
        for name, file in self._files.items():
            found = bytearray(file.durable)
            _apply(found, [change for change in file.waiting if rng.random() < keeps])
            (folder / name).write_bytes(found)

    def _end(self, file: _File, moment: Moment) -> None:
        change = next(change for change in file.waiting if change.id == moment.id)
        whole = moment.result == (0 if change.data is None else len(change.data))
        assert whole, f"{moment.call} of {moment.file} gave {moment.result}: that can't be followed"
        change.done = True


def _apply(content: bytearray, changes: list[_Change]) -> None:
    for change in changes:
        grown = change.offset + len(change.data or b"") - len(content)
        content.extend(bytes(max(0, grown)))
        if change.data is None:
            del content[change.offset :]
        else:
            content[change.offset : change.offset + len(change.data)] = change.data
