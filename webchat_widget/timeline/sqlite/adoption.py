"""Conversations on their way between the server's database and a kernel's file (docs/contract.md, 8).

A conversation is copied and committed at its new place before it is removed from its old one, so that it is
complete in at least one place whenever the process ends; what is then in both is merged by the next call.
Both ways the kernel's file is locked from the first look to the last.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from webchat_widget.errors import ConversationHeld, StoreUnavailable, WebChatError
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.files import PROMISE_SECONDS, conversation_file
from webchat_widget.timeline.store import Loaded
from webchat_widget.typing import JSONObject

from . import SQLiteStore, readonly, statements
from .connection import Database, Moved, advice, connect, is_busy, remove, transaction
from .damage import Damaged
from .lock import owner_of
from .readonly import connect_or_read

__all__ = ["OF", "AdoptingStore"]

_KIND = "a Jupyter server"

_Content = dict[str, list[tuple[Any, ...]]]
"""Rows by table, whole and in the order of the schema's columns."""

OF = {
    "conversations": "conv_id = ?",
    "entities": "conv_id = ?",
    "runs": "conv_id = ?",
    "turns": "conv_id = ?",
    "blocks": "conv_id = ?",
    "records": "conv_id = ?",
    "grants": "conv_id = ?",
    "keys": f"{statements.KEY_CONVERSATION} = ?",
}
"""Each table, and which of its rows belong to a conversation."""

_MERGE = {
    # Of equal versions the file's settings count: a kernel may have changed them and nothing else.
    "conversations": """
        INSERT INTO conversations VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (conv_id) DO UPDATE SET
            created = min(created, excluded.created),
            version = max(version, excluded.version),
            title = CASE WHEN title = '' THEN excluded.title ELSE title END,
            settings = CASE WHEN excluded.version >= version THEN excluded.settings ELSE settings END
    """,
    "entities": statements.UPSERT_ROW,
    "runs": """
        INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (run_id) DO UPDATE SET
            started = max(started, excluded.started),
            checkpoint = coalesce(excluded.checkpoint, checkpoint)
    """,
    "turns": """
        INSERT INTO turns VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (conv_id, run_id, phase) DO UPDATE SET seq = excluded.seq, messages = excluded.messages
        WHERE excluded.seq >= seq
    """,
    "blocks": "INSERT OR IGNORE INTO blocks VALUES (?, ?, ?)",
    "records": """
        INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (conv_id, run_id, n, phase) DO UPDATE SET
            seq = excluded.seq, model = excluded.model, messages = excluded.messages,
            tools = excluded.tools, finish = excluded.finish
        WHERE excluded.seq >= seq
    """,
    "grants": "INSERT OR IGNORE INTO grants VALUES (?, ?, ?)",
    "keys": """
        INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (user, key) DO UPDATE SET
            digest = excluded.digest, status = excluded.status, body = excluded.body,
            created = excluded.created
        WHERE excluded.created >= created
    """,
}


class AdoptingStore(SQLiteStore):
    """The server's store: it takes in what a kernel left in `folder` as soon as it is asked for it.

    Calls for a conversation that a kernel has open raise ConversationHeld; so do those for one that was
    handed over less than `promise` seconds ago.
    """

    def __init__(self, path: str | Path, folder: Path, *, promise: float = PROMISE_SECONDS) -> None:
        super().__init__(path, kind=_KIND)
        self._folder = folder
        self._promise = promise
        self._promised: dict[str, float] = {}
        """Until when a conversation that was handed over is left to the kernel that is about to open it."""

    async def load(self, conv_id: str) -> Loaded | None:
        """A conversation, or None where neither we nor a kernel knew it."""

        def work(db: Database) -> Loaded | None:
            if db.refusal:
                return _look(db, self._file(conv_id), conv_id)
            self._adopt(db, conv_id)
            return statements.load(db, conv_id)

        return await self._submit(work, read=True, alone=True)

    async def save_settings(self, conv_id: str, settings: JSONObject, now: int) -> None:
        """Replace a conversation's settings; `now` is Unix ms."""

        def work(db: Database) -> None:
            self._adopt(db, conv_id)
            with transaction(db):
                statements.save_settings(db, conv_id, settings, now)

        await self._submit(work, alone=True)

    async def hand_over(self, conv_id: str) -> bool:
        """Move a conversation into the file where a kernel looks for it; False where it is unknown."""

        def work(db: Database) -> bool:
            known = _hand_over(db, self._file(conv_id), conv_id)
            if known:
                now = time.monotonic()
                self._promised = {id: until for id, until in self._promised.items() if until > now}
                self._promised[conv_id] = now + self._promise
            return known

        return await self._submit(work, alone=True)

    def _adopt(self, db: Database, conv_id: str) -> None:
        # A page that was just sent away comes back at once; the kernel must be first.
        if time.monotonic() < self._promised.get(conv_id, 0.0):
            raise _held()
        self._promised.pop(conv_id, None)
        _adopt(db, self._file(conv_id), conv_id)

    def _file(self, conv_id: str) -> Path:
        return conversation_file(self._folder, conv_id)


def _adopt(db: Database, path: Path, conv_id: str) -> None:
    """Take in what is in the kernel's file, if there is one, and remove it."""
    db.check_writable()
    if not _exists(path, conv_id):
        return
    with _opened(path, conv_id) as (kernel, content):
        _take_in(db, content)
        with _blaming(path, conv_id):
            remove(kernel, path)


def _look(db: Database, path: Path, conv_id: str) -> Loaded | None:
    """The conversation where we can take in nothing: that in the kernel's file, if there is one, is newer."""
    if not _exists(path, conv_id):
        return readonly.load(db, conv_id)
    with _blaming(path, conv_id), closing(connect_or_read(str(path), kind=_KIND, timeout=0)) as kernel:
        kernel.refusal = db.refusal
        return readonly.load(kernel, conv_id)


def _hand_over(db: Database, path: Path, conv_id: str) -> bool:
    """Write the conversation, and what a kernel left of it earlier, to the kernel's file; then forget it, but
    for its keys."""
    db.check_writable()
    if not _exists(path, conv_id) and not _knows(db, conv_id):
        return False
    with _opened(path, conv_id) as (kernel, content):
        _take_in(db, content)
        if not _knows(db, conv_id):
            return False
        ours = {
            table: db.execute(f"SELECT * FROM {table} WHERE {its}", (conv_id,)).fetchall()
            for table, its in OF.items()
        }
        with _blaming(path, conv_id), transaction(kernel):
            for table, rows in ours.items():
                kernel.execute(f"DELETE FROM {table}")
                kernel.executemany(_MERGE[table], rows)
        with transaction(db):
            for table, its in OF.items():
                if table != "keys":  # a prompt that comes again without a conv_id is known by its key only
                    db.execute(f"DELETE FROM {table} WHERE {its}", (conv_id,))
    return True


# -- the kernel's file -------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, conv_id: str) -> Iterator[tuple[Database, _Content]]:
    """The file, locked without waiting, and all that is in it."""
    with _blaming(path, conv_id):
        kernel = connect(str(path), kind=_KIND, timeout=0)
    with closing(kernel):
        with _blaming(path, conv_id):
            _check(kernel)
            content = {table: kernel.execute(f"SELECT * FROM {table}").fetchall() for table in OF}
        yield kernel, content


def _check(kernel: Database) -> None:
    """Find damage while the file is still there: it is removed once its content has been copied."""
    (found,) = kernel.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise Damaged(found)
    for (conv_id,) in kernel.execute("SELECT conv_id FROM conversations").fetchall():
        try:
            statements.load(kernel, conv_id)
        except StoreUnavailable:
            raise Damaged("what it says is no JSON") from None


def _exists(path: Path, conv_id: str) -> bool:
    with _blaming(path, conv_id):
        return path.exists()


@contextmanager
def _blaming(path: Path, conv_id: str) -> Iterator[None]:
    """What fails in here concerns this file's conversation, and no other."""
    try:
        yield
    except (sqlite3.Error, OSError, StoreUnavailable) as error:
        raise _fault(error, path, conv_id) from error


def _fault(error: Exception, path: Path, conv_id: str) -> WebChatError:
    if is_busy(error):
        return _held(owner_of(path))
    if isinstance(error, Moved):
        return error
    said, hint = str(error), advice(error)
    if isinstance(error, StoreUnavailable):
        said = "made by a newer version of webchat-widget"
        hint = " Update the package where the Jupyter server is installed."
    return StoreUnavailable(
        f"The conversation {conv_id} can't be opened ({path}: {said}).{hint} Others are not affected.",
        code="conversation_unreadable",
    )


def _held(owner: str = "") -> ConversationHeld:
    named = owner and f" ({owner})"
    return ConversationHeld(
        f"This conversation runs in a notebook's kernel{named}. Open it there, or shut that kernel down and "
        "retry."
    )


# -- the database ------------------------------------------------------------------------------------


def _take_in(db: Database, content: _Content) -> None:
    """Merge: of two versions of a row the higher one stays, and a run that ended in either has ended."""
    with transaction(db):
        for table, rows in content.items():
            db.executemany(_MERGE[table], rows)
        for conv_id, *_ in content["conversations"]:
            db.executemany("DELETE FROM runs WHERE run_id = ?", _ended(db, conv_id))


def _ended(db: Database, conv_id: str) -> list[tuple[str]]:
    """The runs that are listed as unfinished, but whose rows say that they have ended."""
    rows = db.execute(
        "SELECT id, kind, props FROM runs JOIN entities USING (conv_id) WHERE conv_id = ? AND id = run_id",
        (conv_id,),
    )
    try:
        return [
            (id,)
            for id, kind, props in rows
            if is_terminal({"kind": kind, "props": msgspec.json.decode(props)})
        ]
    except msgspec.MsgspecError as error:
        raise statements.unreadable(conv_id) from error


def _knows(db: Database, conv_id: str) -> bool:
    return db.execute("SELECT 1 FROM conversations WHERE conv_id = ?", (conv_id,)).fetchone() is not None
