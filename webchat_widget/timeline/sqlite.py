"""The store in one SQLite file: WAL, fsync on commit, one connection on one thread.

Whatever waits when the thread comes round is committed in one transaction, so that a burst costs one fsync.
The file is locked for as long as it is open. A single connection also keeps clear of the WAL-reset bug of
SQLite 3.7.0 to 3.51.2, which needs two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from webchat_widget.errors import StoreUnavailable, WebChatError
from webchat_widget.turns import Message
from webchat_widget.typing import JSONObject

from .entities import Row
from .migrations import migrate
from .store import Batch, KeyRecord, Loaded, PendingRun, Summary

__all__ = ["KEY_LIFETIME_MS", "SQLiteStore"]

KEY_LIFETIME_MS = 7 * 24 * 3600 * 1000

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_messages = msgspec.json.Decoder(list[Message])

_UPSERT_ROW = """
    INSERT INTO entities (conv_id, id, kind, created_seq, version, props) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (conv_id, id) DO UPDATE SET version = excluded.version, props = excluded.props
    WHERE excluded.version >= version
"""
_UPSERT_CONVERSATION = """
    INSERT INTO conversations (conv_id, created, version, title) VALUES (?, ?, ?, ?)
    ON CONFLICT (conv_id) DO UPDATE SET
        version = max(version, excluded.version),
        title = CASE WHEN title = '' THEN excluded.title ELSE title END
"""


class _Job:
    """A piece of work for the thread, and who waits for it."""

    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.loop = loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = loop.create_future()


class SQLiteStore:
    """A `TimelineStore` in the file `path` (":memory:" for none).

    The file is made readable for its owner only. It is opened by the first call, on the thread; what is
    wrong with it is raised by that call as StoreUnavailable, and the next call tries again. `in_use` makes
    the error for a file that somebody else has open, in place of one that speaks of another server.
    """

    def __init__(self, path: str | Path, *, in_use: Callable[[], WebChatError] | None = None) -> None:
        self.path = str(path)
        self._in_use = in_use or self._store_in_use
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    # -- the promises of TimelineStore ---------------------------------------------------------------

    def write(self, batch: Batch) -> asyncio.Future[None]:
        """Commit a batch; done means on disk."""
        return self._submit(lambda db: _write(db, batch))

    async def load(self, conv_id: str) -> Loaded | None:
        """A conversation, or None where it is unknown."""
        try:
            return await self._submit(lambda db: _load(db, conv_id))
        except msgspec.MsgspecError as error:
            raise _unreadable(conv_id) from error

    async def unfinished(self) -> list[str]:
        """The conversations with runs that have not ended."""
        return await self._submit(
            lambda db: [conv_id for (conv_id,) in db.execute("SELECT DISTINCT conv_id FROM runs")]
        )

    async def key(self, user: str, key: str) -> KeyRecord | None:
        """The record of an idempotency key; whether it is too old to count is the caller's to say."""
        return await self._submit(lambda db: _key(db, user, key))

    async def save_settings(self, conv_id: str, settings: JSONObject, now: int) -> None:
        """Replace a conversation's settings; `now` is Unix ms."""
        await self._submit(lambda db: _save_settings(db, conv_id, settings, now))

    async def conversations(self, query: str = "", limit: int = 500) -> list[Summary]:
        """Conversations with at least one row, newest first, whose title or id contains `query`."""
        return await self._submit(lambda db: _conversations(db, query, limit))

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

    def _submit(self, work: Callable[[sqlite3.Connection], _T]) -> asyncio.Future[_T]:
        job = _Job(work)
        if self._closed:
            job.future.set_exception(StoreUnavailable("The timeline database is closed."))
            return job.future
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="webchat-timeline", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return job.future

    def _serve(self) -> None:
        db: sqlite3.Connection | None = None
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
                db = db or self._open()
            except (sqlite3.Error, OSError, WebChatError) as error:
                for each in jobs:
                    _settle(each, None, self._unavailable(error))
                continue
            self._run(db, jobs)
        try:
            if db is not None:
                db.close()
        finally:
            _settle(last, None, None)

    def _waiting(self) -> Iterator[_Job]:
        """The next job, when it comes, and all that wait behind it."""
        yield self._jobs.get()
        while not self._jobs.empty():
            yield self._jobs.get()

    def _open(self) -> sqlite3.Connection:
        if self.path != ":memory:":
            path = Path(self.path)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the mode of the database itself. A file that exists is not
            # opened here: to close it again would drop the lock of another store of this process (POSIX).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            path.chmod(0o600)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=2)
        try:
            # One owner per file: a second process would close the first one's runs as interrupted. The lock
            # ends with the process that holds it, however that ends.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _run(self, db: sqlite3.Connection, jobs: list[_Job]) -> None:
        """Run jobs in one transaction; where one of them fails, each in its own."""
        results = []
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [job.work(db) for job in jobs]
            db.execute("COMMIT")
        except Exception as error:  # whatever a job does, the thread outlives it
            if db.in_transaction:
                db.execute("ROLLBACK")
            if len(jobs) == 1:
                _settle(
                    jobs[0], None, self._unavailable(error) if isinstance(error, sqlite3.Error) else error
                )
            else:
                for job in jobs:
                    self._run(db, [job])
            return
        for job, result in zip(jobs, results, strict=True):
            _settle(job, result, None)

    def _unavailable(self, error: Exception) -> WebChatError:
        if isinstance(error, WebChatError):
            return error
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return self._in_use()
        return StoreUnavailable(f"The timeline can't be read or written ({self.path}: {error}).")

    def _store_in_use(self) -> WebChatError:
        return StoreUnavailable(
            f"Another Jupyter server uses the timeline in {self.path}. Stop it, or give this one a file "
            "of its own with --timeline-db.",
            code="store_in_use",
        )


def _end(db: sqlite3.Connection) -> None:
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


def _unreadable(conv_id: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The conversation {conv_id} can't be read: its data is damaged. Others are not affected.",
        code="conversation_unreadable",
    )


# -- statements --------------------------------------------------------------------------------------


def _write(db: sqlite3.Connection, batch: Batch) -> None:
    conv = batch.conv_id
    db.execute(_UPSERT_CONVERSATION, (conv, batch.version // 1000, batch.version, batch.title or ""))
    db.executemany(
        _UPSERT_ROW,
        [
            (conv, r["id"], r["kind"], r["createdSeq"], r["version"], _encode(r["props"]).decode())
            for r in batch.rows
        ],
    )
    db.executemany(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (run_id) DO UPDATE SET started = excluded.started",
        [(p.run_id, conv, p.seq, p.started, _encode(p.request).decode()) for p in batch.pending],
    )
    db.executemany("DELETE FROM runs WHERE run_id = ?", [(run_id,) for run_id in batch.ended])
    db.executemany(
        "INSERT OR REPLACE INTO turns VALUES (?, ?, 'final', ?, ?)",
        [(conv, run_id, batch.version, _encode(messages).decode()) for run_id, messages in batch.turns],
    )
    if batch.key is not None:
        k = batch.key
        db.execute("DELETE FROM keys WHERE created < ?", (k.created - KEY_LIFETIME_MS,))
        db.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (k.user, k.key, k.digest, k.status, _encode(k.body).decode(), k.created),
        )


def _load(db: sqlite3.Connection, conv_id: str) -> Loaded | None:
    head = db.execute("SELECT version, settings FROM conversations WHERE conv_id = ?", (conv_id,)).fetchone()
    if head is None:
        return None
    rows: list[Row] = [
        {"id": id, "kind": kind, "createdSeq": created, "version": version, "props": _decode(props)}
        for id, kind, created, version, props in db.execute(
            "SELECT id, kind, created_seq, version, props FROM entities "
            "WHERE conv_id = ? ORDER BY created_seq",
            (conv_id,),
        )
    ]
    pending = [
        PendingRun(run_id, seq, bool(started), _decode(request))
        for run_id, seq, started, request in db.execute(
            "SELECT run_id, seq, started, request FROM runs WHERE conv_id = ? ORDER BY seq", (conv_id,)
        )
    ]
    memory: list[Message] = []
    for (messages,) in db.execute(
        "SELECT messages FROM turns WHERE conv_id = ? AND phase = 'final' ORDER BY seq", (conv_id,)
    ):
        memory += _messages.decode(messages)
    return Loaded(head[0], rows, pending, memory, _decode(head[1]))


def _key(db: sqlite3.Connection, user: str, key: str) -> KeyRecord | None:
    row = db.execute(
        "SELECT digest, status, body, created FROM keys WHERE user = ? AND key = ?", (user, key)
    ).fetchone()
    return None if row is None else KeyRecord(user, key, row[0], row[1], _decode(row[2]), row[3])


def _save_settings(db: sqlite3.Connection, conv_id: str, settings: JSONObject, now: int) -> None:
    db.execute(
        "INSERT INTO conversations (conv_id, created, version, settings) VALUES (?, ?, 0, ?) "
        "ON CONFLICT (conv_id) DO UPDATE SET settings = excluded.settings",
        (conv_id, now, _encode(settings).decode()),
    )


def _conversations(db: sqlite3.Connection, query: str, limit: int) -> list[Summary]:
    return [
        Summary(conv_id, title, created, version // 1000)
        for conv_id, title, created, version in db.execute(
            "SELECT conv_id, title, created, version FROM conversations c "
            "WHERE version > 0 AND (instr(lower(title), lower(?1)) OR instr(conv_id, ?1)) "
            "ORDER BY version DESC LIMIT ?2",
            (query, limit),
        )
    ]
