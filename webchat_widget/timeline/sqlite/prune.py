"""Conversations that nobody needs any more, deleted for good."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from webchat_widget.errors import ConversationHeld, StoreUnavailable, WebChatError

from . import statements
from .adoption import OF
from .connection import Database, advice, connect, is_busy, remove, transaction
from .inspection import Listed, listed
from .lock import owner_of
from .snapshot import snapshot
from .statements import KEY_CONVERSATION

__all__ = ["chosen", "prune"]

_KEPT_KEYS = f"""
    FROM keys WHERE {KEY_CONVERSATION} = ?1 AND (?2 IS NULL OR created < ?2)
    AND ?1 NOT IN (SELECT conv_id FROM conversations)
"""
"""The keys that a conversation has left here when it moved. Age alone is no reason: it lives elsewhere, and
keys don't grow old."""


def chosen(db: sqlite3.Connection, *, before: int | None, conv_id: str | None) -> list[Listed]:
    """The conversations that last changed before a time (Unix ms), or the one of that id, or both.

    By age alone, none goes in which a run has not ended: a prompt that was taken is still to be answered.
    """
    return [
        each
        for each in listed(db)
        if (conv_id is None or each.conv_id == conv_id)
        and (before is None or each.updated_at < before)
        and (conv_id is not None or not each.unfinished)
    ]


def prune(
    file: Path, *, before: int | None = None, conv_id: str | None = None, drop_empty: bool = False
) -> list[Listed]:
    """Delete the chosen conversations with all that belongs to them; those that went.

    The file is then made smaller, and nothing of them is left in it. With `drop_empty` one that holds nothing
    any more is removed. Raises ConversationHeld where somebody has it open, StoreUnavailable, and
    sqlite3.DatabaseError where it is damaged.
    """
    with snapshot(file) as seen:  # most files need not be opened: that waits for nobody, and changes none
        if not chosen(seen, before=before, conv_id=conv_id) and not _keeps_keys(seen, before, conv_id):
            return []
    try:
        with closing(connect(str(file), kind="jupyter webchat timeline prune")) as db:
            gone = chosen(db, before=before, conv_id=conv_id)
            keys = _keeps_keys(db, before, conv_id)
            if gone or keys:
                with transaction(db):
                    _delete(db, gone)
                    db.execute(f"DELETE {_KEPT_KEYS}", (conv_id, before))
                if drop_empty and statements.is_empty(db):
                    remove(db, file)
                else:
                    db.execute("VACUUM")
    except (sqlite3.Error, OSError) as error:
        raise _refused(file, error) from error
    return gone


def _keeps_keys(db: sqlite3.Connection, before: int | None, conv_id: str | None) -> bool:
    return db.execute(f"SELECT 1 {_KEPT_KEYS}", (conv_id, before)).fetchone() is not None


def _delete(db: Database, gone: list[Listed]) -> None:
    for each in gone:
        for table, its in OF.items():
            db.execute(f"DELETE FROM {table} WHERE {its}", (each.conv_id,))


def _refused(file: Path, error: Exception) -> WebChatError:
    if is_busy(error):
        owner = owner_of(file) or "somebody else"
        return ConversationHeld(f"{file} is in use by {owner}. Nothing in it was deleted: stop that first.")
    return StoreUnavailable(f"Not all could be done in {file}: {error}.{advice(error)}")
