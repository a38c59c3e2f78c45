"""Kernels as the store sees them: other processes that have a conversation's file open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

__all__ = ["Holder", "lock_of"]

_HOLD = """
import asyncio, sys
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch

async def write(store, conv_id, id):
    loaded = await store.load(conv_id)
    version = 1 if loaded is None else loaded.version + 1
    row = {"id": id, "kind": "note", "createdSeq": version, "version": version, "props": {}}
    await store.write(Batch(conv_id=conv_id, version=version, rows=(row,)))

async def hold(path, conv_id, cell):
    store = SQLiteStore(path)
    await write(store, conv_id, "held")
    exec(cell)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    if cell:
        await write(store, conv_id, "later")
    await store.close()

asyncio.run(hold(*sys.argv[1:]))
"""

_LOOK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
    print("free")
except sqlite3.OperationalError as error:
    print(error)
"""


class Holder:
    """A process that holds the file, into which it has written a row `held`, until it is ended or killed.

    `cell` is what its user runs meanwhile, with the file's `path`; such a process writes a row `later` at its
    end.
    """

    def __init__(self, path: Path, conv_id: str = "c", cell: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(path), conv_id, cell],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "open\n"

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def end(self) -> None:
        """Let it close its store and end."""
        assert self._process.communicate(timeout=30) == ("", None)
        assert self._process.returncode == 0

    def kill(self) -> None:
        """KILL: it has no time to tidy up."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self.kill()


def lock_of(path: Path) -> str:
    """What another process hears that wants to write to the file: "free", or why not."""
    command = [sys.executable, "-c", _LOOK, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
