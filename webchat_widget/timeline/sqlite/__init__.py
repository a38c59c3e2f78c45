"""The store in one SQLite file: WAL, fsync on commit, one connection on one thread.

Whatever waits when the thread comes round is committed in one transaction, so that a burst costs one fsync.
The file is locked for as long as it is open, and nothing is committed to one that has lost its name. A single
connection also keeps clear of the WAL-reset bug of SQLite 3.7.0 to 3.51.2, which needs two.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from webchat_widget.errors import StoreUnavailable, WebChatError
from webchat_widget.requests import TurnsQuery
from webchat_widget.timeline.store import Batch, KeyRecord, Loaded, Summary, TurnsPage
from webchat_widget.typing import JSONObject

from . import readonly, records, statements
from .connection import Database, Moved, advice, is_busy, remove, transaction
from .damage import is_damage
from .lock import Lock, owner_of
from .readonly import ReadOnly, connect_or_read
from .statements import KEY_LIFETIME_MS

__all__ = ["KEY_LIFETIME_MS", "SQLiteStore"]

_T = TypeVar("_T")


class _Job:
    """A piece of work for the thread, and who waits for it.

    `read`: it changes nothing, so it can be done where nothing may be written. `alone`: it makes its own
    transactions.
    """

    __slots__ = ("alone", "future", "loop", "read", "work")

    def __init__(self, work: Callable[[Database], Any], *, read: bool = False, alone: bool = False) -> None:
        self.work = work
        self.read = read
        self.alone = alone
        self.loop = loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = loop.create_future()


class SQLiteStore:
    """A `TimelineStore` in the file `path` (":memory:" for none).

    The file is made readable for its owner only. It is opened by the first call, on the thread; what is
    wrong with it is raised by that call as StoreUnavailable, and the next call tries again; so it is where
    the file is removed or replaced later. `kind` is what others are told who want it meanwhile.

    `in_use` makes the error for a file that somebody else has open, from words that name the owner ("" where
    that is not known), in place of one that speaks of another server. With `drop_empty` a file in which
    nothing was ever said is removed at the end.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        kind: str = "a Jupyter server",
        in_use: Callable[[str], WebChatError] | None = None,
        drop_empty: bool = False,
    ) -> None:
        self.path = str(path)
        self._kind = kind
        self._in_use = in_use or self._store_in_use
        self._drop_empty = drop_empty
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._db: Database | None = None
        """The thread's; others only look at it."""
        self._lock: Lock | None = None
        """The right to the file's name, where the file that was open has lost it: conversations are still in
        memory here, and nobody else is to have them."""
        self._kept: list[str] = []
        """What is to be said of damaged files that are kept aside."""
        self._closed = False

    # -- the promises of TimelineStore ---------------------------------------------------------------

    def write(self, batch: Batch) -> asyncio.Future[None]:
        """Commit a batch; done means on disk."""
        return self._submit(lambda db: statements.write(db, batch))

    async def load(self, conv_id: str) -> Loaded | None:
        """A conversation, or None where it is unknown."""
        return await self._submit(lambda db: readonly.load(db, conv_id), read=True)

    async def turns(self, query: TurnsQuery) -> TurnsPage:
        """What models were sent and gave in a conversation, the newest that `query` asks for."""
        return await self._submit(lambda db: records.read(db, query), read=True)

    async def unfinished(self) -> list[str]:
        """The conversations with runs that have not ended."""
        return await self._submit(readonly.unfinished, read=True)

    async def key(self, user: str, key: str) -> KeyRecord | None:
        """The record of an idempotency key; whether it is too old to count is the caller's to say."""
        return await self._submit(lambda db: statements.key(db, user, key), read=True)

    async def save_settings(self, conv_id: str, settings: JSONObject, now: int) -> None:
        """Replace a conversation's settings; `now` is Unix ms."""
        await self._submit(lambda db: statements.save_settings(db, conv_id, settings, now))

    async def conversations(self, query: str = "", limit: int = 500) -> list[Summary]:
        """Conversations with at least one row, newest first, whose title or id contains `query`."""
        return await self._submit(lambda db: statements.conversations(db, query, limit), read=True)

    @property
    def notices(self) -> list[str]:
        """What a person should know of the file, in sentences; nothing where all is well."""
        db = self._db
        return [*self._kept, db.refusal] if db is not None and db.refusal else list(self._kept)

    async def close(self) -> None:
        """Finish what was handed in, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            last = _Job(_end)
            self._jobs.put(last)
            await last.future  # not in an executor: there is none any more when an interpreter ends
            self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------

    def _submit(
        self, work: Callable[[Database], _T], *, read: bool = False, alone: bool = False
    ) -> asyncio.Future[_T]:
        job = _Job(work, read=read, alone=alone)
        if self._closed:
            job.future.set_exception(StoreUnavailable("The timeline database is closed."))
            return job.future
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="webchat-timeline", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return job.future

    def _serve(self) -> None:
        last: _Job | None = None
        while last is None:
            jobs = []
            for job in self._waiting():
                if job.work is _end:
                    last = job
                else:
                    jobs.append(job)
            if not jobs:
                continue
            try:
                db = self._opened()
            except (sqlite3.Error, OSError, WebChatError) as error:
                for each in jobs:
                    _settle(each, None, self._unavailable(error))
                continue
            for alone, group in itertools.groupby(jobs, lambda job: job.alone):
                if alone:
                    for each in group:
                        self._run_alone(db, each)
                else:
                    self._run(db, list(group))
            if db.moved:
                self._db, self._lock = None, db.leave()
        try:
            if self._db is not None:
                with contextlib.closing(self._db):
                    self._tidy(self._db)
        finally:
            self._let_go()
            _settle(last, None, None)

    def _opened(self) -> Database:
        """The database, opened where it is not, or where it could only be read and may be written by now."""
        open = self._db
        if open is not None and not (isinstance(open, ReadOnly) and open.is_due()):
            return open
        db = connect_or_read(self.path, open, kind=self._kind, notices=self._kept, lock=self._lock)
        if open is not None and db is not open:
            open.close()
        if self._lock is db.lock:
            self._lock = None
        self._let_go()
        self._db = db
        return db

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _tidy(self, db: Database) -> None:
        if self._drop_empty and self.path != ":memory:" and not db.refusal:
            # What can't be read or removed stays.
            with contextlib.suppress(sqlite3.Error, OSError, Moved):
                if statements.is_empty(db):
                    remove(db, Path(self.path))

    def _waiting(self) -> Iterator[_Job]:
        """The next job, when it comes, and all that wait behind it."""
        yield self._jobs.get()
        while not self._jobs.empty():
            yield self._jobs.get()

    def _run(self, db: Database, jobs: list[_Job], *, again: bool = False) -> None:
        """Run jobs in one transaction; where one of them fails, each in its own.

        SQLite does not say whether a commit that failed took effect. A job that is done twice is done once,
        so it is done again: the answer is then true.
        """
        try:
            with transaction(db, write=not all(job.read for job in jobs)):
                results = [job.work(db) for job in jobs]
        except Exception as error:  # whatever a job does, the thread outlives it
            if len(jobs) > 1 or (db.unsure and not again):
                for job in jobs:
                    self._run(db, [job], again=len(jobs) == 1)
            else:
                _settle(jobs[0], None, self._said(db, error))
            return
        for job, result in zip(jobs, results, strict=True):
            _settle(job, result, None)

    def _run_alone(self, db: Database, job: _Job) -> None:
        try:
            db.take_back()
            result = job.work(db)
        except Exception as error:
            _settle(job, None, self._said(db, error))
        else:
            _settle(job, result, None)

    def _said(self, db: Database, error: Exception) -> Exception:
        if is_damage(error):
            db.refusal = (
                f"The timeline in {self.path} is damaged: what can be read of it is shown, and nothing is "
                "written to it any more. Move the file away to begin anew."
            )
        return self._unavailable(error) if isinstance(error, (sqlite3.Error, OSError)) else error

    def _unavailable(self, error: Exception) -> WebChatError:
        if isinstance(error, WebChatError):
            return error
        if is_busy(error):
            # Where the lock is ours, it is a program that knows no such lock.
            ours = self._lock is not None or (self._db is not None and self._db.lock is not None)
            return self._in_use("" if ours else owner_of(Path(self.path)))
        return StoreUnavailable(
            f"The timeline can't be read or written ({self.path}: {error}).{advice(error)}"
        )

    def _store_in_use(self, owner: str) -> WebChatError:
        return StoreUnavailable(
            f"The timeline in {self.path} is in use by {owner or 'another program'}. Stop that, or "
            "give this server a file of its own with --WebChat.timeline_db=FILE.",
            code="store_in_use",
        )


def _end(db: Database) -> None:
    """The work of the last job: it is never done, for the thread ends."""


def _settle(job: _Job, result: Any, error: Exception | None) -> None:
    def settle() -> None:
        if job.future.cancelled():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)

    if not job.loop.is_closed():  # a host that ended without waiting
        job.loop.call_soon_threadsafe(settle)
