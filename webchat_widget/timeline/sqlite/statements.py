"""What the store asks of a database: one function for each call, inside a transaction of the caller."""

from __future__ import annotations

import sqlite3

import msgspec

from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.store import Batch, KeyRecord, Loaded, PendingRun, Summary
from webchat_widget.turns import Message
from webchat_widget.typing import JSONObject

from . import records

__all__ = [
    "KEY_CONVERSATION",
    "KEY_LIFETIME_MS",
    "UPSERT_ROW",
    "conversations",
    "is_empty",
    "key",
    "load",
    "save_settings",
    "unfinished",
    "unreadable",
    "write",
]

KEY_LIFETIME_MS = 7 * 24 * 3600 * 1000
KEY_CONVERSATION = "CASE WHEN json_valid(body) THEN json_extract(body, '$.conv_id') END"
"""The conversation of a row of `keys`, in SQL; NULL where it names none."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_messages = msgspec.json.Decoder(list[Message])

UPSERT_ROW = """
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


def write(db: sqlite3.Connection, batch: Batch) -> None:
    """Take a batch in."""
    conv = batch.conv_id
    db.execute(_UPSERT_CONVERSATION, (conv, batch.version // 1000, batch.version, batch.title or ""))
    db.executemany(
        UPSERT_ROW,
        [
            (conv, r["id"], r["kind"], r["createdSeq"], r["version"], _encode(r["props"]).decode())
            for r in batch.rows
        ],
    )
    db.executemany(
        "INSERT INTO runs (run_id, conv_id, seq, started, request) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (run_id) DO UPDATE SET started = excluded.started",
        [(p.run_id, conv, p.seq, p.started, _encode(p.request).decode()) for p in batch.pending],
    )
    db.executemany(
        "UPDATE runs SET checkpoint = ? WHERE run_id = ?",
        [(_encode(checkpoint).decode(), run_id) for run_id, checkpoint in batch.checkpoints],
    )
    db.executemany("DELETE FROM runs WHERE run_id = ?", [(run_id,) for run_id in batch.ended])
    db.executemany(
        "INSERT OR REPLACE INTO turns VALUES (?, ?, 'final', ?, ?)",
        [(conv, run_id, batch.version, _encode(messages).decode()) for run_id, messages in batch.turns],
    )
    for record in batch.records:
        records.write(db, conv, record)
    db.executemany(
        "INSERT OR IGNORE INTO grants VALUES (?, ?, ?)",
        [(conv, tool, batch.version // 1000) for tool in batch.grants],
    )
    if batch.key is not None:
        k = batch.key
        db.execute("DELETE FROM keys WHERE created < ?", (k.created - KEY_LIFETIME_MS,))
        db.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (k.user, k.key, k.digest, k.status, _encode(k.body).decode(), k.created),
        )


def unfinished(db: sqlite3.Connection) -> list[str]:
    """The conversations with runs that have not ended."""
    return [conv_id for (conv_id,) in db.execute("SELECT DISTINCT conv_id FROM runs")]


def load(db: sqlite3.Connection, conv_id: str) -> Loaded | None:
    """A conversation, or None where it is unknown."""
    try:
        return _load(db, conv_id)
    except (msgspec.MsgspecError, sqlite3.OperationalError) as error:
        if isinstance(error, sqlite3.OperationalError) and "UTF-8" not in str(error):
            raise
        raise unreadable(conv_id) from error


def unreadable(conv_id: str) -> StoreUnavailable:
    """The error for a conversation whose data is damaged."""
    return StoreUnavailable(
        f"The conversation {conv_id} can't be read: its data is damaged. Others are not affected.",
        code="conversation_unreadable",
    )


def _load(db: sqlite3.Connection, conv_id: str) -> Loaded | None:
    head = db.execute("SELECT version, settings FROM conversations WHERE conv_id = ?", (conv_id,)).fetchone()
    if head is None:
        return None
    # All is fetched before any of it is decoded: the traceback of an error would keep an open statement, and
    # that the connection and its lock on the file, for as long as somebody has the error.
    entities = db.execute(
        "SELECT id, kind, created_seq, version, props FROM entities WHERE conv_id = ? ORDER BY created_seq",
        (conv_id,),
    ).fetchall()
    runs = db.execute(
        "SELECT run_id, seq, started, request, checkpoint FROM runs WHERE conv_id = ? ORDER BY seq",
        (conv_id,),
    ).fetchall()
    turns = db.execute(
        "SELECT messages FROM turns WHERE conv_id = ? AND phase = 'final' ORDER BY seq", (conv_id,)
    ).fetchall()
    grants = db.execute("SELECT tool FROM grants WHERE conv_id = ?", (conv_id,)).fetchall()
    rows: list[Row] = [
        {"id": id, "kind": kind, "createdSeq": created, "version": version, "props": _decode(props)}
        for id, kind, created, version, props in entities
    ]
    pending = [
        PendingRun(run_id, seq, bool(started), _decode(request), checkpoint and _decode(checkpoint))
        for run_id, seq, started, request, checkpoint in runs
    ]
    memory: list[Message] = []
    for (messages,) in turns:
        memory += _messages.decode(messages)
    return Loaded(head[0], rows, pending, memory, _decode(head[1]), tuple(tool for (tool,) in grants))


def key(db: sqlite3.Connection, user: str, key: str) -> KeyRecord | None:
    """The record of an idempotency key, however old; the user's own before one of nobody in particular."""
    row = db.execute(
        "SELECT user, digest, status, body, created FROM keys "
        "WHERE key = ?2 AND (user IN (?1, '') OR ?1 = '') ORDER BY user = ?1 DESC, created DESC LIMIT 1",
        (user, key),
    ).fetchone()
    return None if row is None else KeyRecord(row[0], key, row[1], row[2], _decode(row[3]), row[4])


def save_settings(db: sqlite3.Connection, conv_id: str, settings: JSONObject, now: int) -> None:
    """Replace a conversation's settings."""
    db.execute(
        "INSERT INTO conversations (conv_id, created, version, settings) VALUES (?, ?, 0, ?) "
        "ON CONFLICT (conv_id) DO UPDATE SET settings = excluded.settings",
        (conv_id, now, _encode(settings).decode()),
    )


def conversations(db: sqlite3.Connection, query: str, limit: int) -> list[Summary]:
    """Conversations with at least one row, newest first, whose title or id contains `query`."""
    return [
        Summary(conv_id, title, created, version // 1000)
        for conv_id, title, created, version in db.execute(
            "SELECT conv_id, title, created, version FROM conversations c "
            "WHERE version > 0 AND (instr(lower(title), lower(?1)) OR instr(conv_id, ?1)) "
            "ORDER BY version DESC LIMIT ?2",
            (query, limit),
        )
    ]


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether no conversation holds anything."""
    (something,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM conversations WHERE version > 0 OR settings != '{}')"
    ).fetchone()
    return not something
