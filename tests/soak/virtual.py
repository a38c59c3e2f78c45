"""Time and a disk that a schedule has in its hand: the same seed does the same, and no test waits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import selectors
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.sqlite import _Job, statements
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.sqlite.connection import Database, connect
from webchat_widget.timeline.store import Batch

__all__ = ["SteppedStore", "VirtualLoop"]

_T = TypeVar("_T")
_RETRY_SECONDS = 2.1
"""What could not be written is tried again after two seconds."""


class _Leaping(selectors.SelectSelector):
    """Never waits: where there is nothing to do before a timer, the clock leaps to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of one thread and no I/O, whose seconds pass as fast as the work allows."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._leaping.now

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake us."""


class SteppedStore(AdoptingStore):
    """The store with its own statements, transactions and file, but without its thread: the disk works as
    soon as the loop comes round, and not at all while it is `held`."""

    def __init__(self, path: str | Path, folder: Path, *, heir_of: SteppedStore | None = None) -> None:
        """`heir_of`: a store without a file that has died, and whose database goes on here."""
        super().__init__(path, folder, promise=0.0)
        if heir_of is not None:
            self._db, heir_of._db = heir_of._db, None
        self._waiting_jobs: deque[_Job] = deque()
        self._dead = False
        self.held = False
        self.well_since = 0.0
        """On the loop's clock: since when the disk has done all that it was asked, and its retries."""
        self.faults = 0
        """So many of the next batches the disk refuses."""
        self.durable: dict[str, int] = {}
        """The version of each row that was said to be on disk."""
        self.refused: dict[str, int] = {}
        """The version of each row that was said not to be."""

    def write(self, batch: Batch) -> asyncio.Future[None]:
        """Commit a batch, or fail at its end where a fault is due."""
        fails = self.faults > 0
        self.faults -= fails

        def work(db: Database) -> None:
            statements.write(db, batch)
            if fails:
                raise sqlite3.OperationalError("disk I/O error")

        written = self._submit(work)
        written.add_done_callback(lambda done: self._note(batch, done))
        return written

    def release(self) -> None:
        """The disk works again."""
        if self.held:
            self._trouble()
        self.held = False
        asyncio.get_running_loop().call_soon(self._work)

    def die(self) -> None:
        """Nothing more comes to the disk: as when the process is killed."""
        self._dead = True
        for job in self._waiting_jobs:
            job.future.set_exception(StoreUnavailable("The process is dead."))
        self._waiting_jobs.clear()

    def drop(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            db, self._db = self._db, None
            db.close()

    async def close(self) -> None:
        """Finish what was handed in, and let go of the file."""
        self._work()
        self._closed = True
        self.drop()

    def _submit(
        self, work: Callable[[Database], _T], *, read: bool = False, alone: bool = False
    ) -> asyncio.Future[_T]:
        job = _Job(work, read=read, alone=alone)
        if self._dead or self._closed:
            job.future.set_exception(StoreUnavailable("The process is dead."))
            return job.future
        self._waiting_jobs.append(job)
        if not self.held:
            asyncio.get_running_loop().call_soon(self._work)
        return job.future

    def _opened(self) -> Database:
        if self.path == ":memory:" and self._db is None:
            self._db = sqlite3.connect(self.path, isolation_level=None, factory=Database)
            self._db.deserialize(_empty())
        return super()._opened()

    def _work(self) -> None:
        jobs = list(self._waiting_jobs)
        if self.held or not jobs:
            return
        self._waiting_jobs.clear()
        db = self._opened()
        for alone, group in itertools.groupby(jobs, lambda job: job.alone):
            if alone:
                for each in group:
                    self._run_alone(db, each)
            else:
                self._run(db, list(group))

    def _note(self, batch: Batch, done: asyncio.Future[Any]) -> None:
        refused = done.cancelled() or done.exception() is not None
        known = self.refused if refused else self.durable
        known.update((row["id"], row["version"]) for row in batch.rows)
        if refused:
            self._trouble()

    def _trouble(self) -> None:
        self.well_since = asyncio.get_running_loop().time() + _RETRY_SECONDS


@functools.cache
def _empty() -> bytes:
    """A database in which nothing has been said. To make the schema anew each time would take longer."""
    with contextlib.closing(connect(":memory:")) as db:
        return db.serialize()
