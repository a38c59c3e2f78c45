"""What is in a timeline: its conversations, how much of everything, and what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from webchat_widget.timeline.entities import entity
from webchat_widget.timeline.verify import Breach, Kept, breaches
from webchat_widget.typing import Entity

from . import statements
from .snapshot import snapshot

__all__ = ["Listed", "Verdict", "counts", "entities", "listed", "verify"]

_TABLES = ("conversations", "entities", "runs", "turns", "records", "blocks", "grants")


class Listed(Struct, frozen=True):
    """A conversation in a list. Times are Unix ms; `unfinished` counts its runs that have not ended."""

    conv_id: str
    title: str
    updated_at: int
    rows: int
    unfinished: int


class Verdict(Struct, frozen=True):
    """What was looked at, and what was wrong with it."""

    conversations: int
    rows: int
    breaches: list[Breach]


def listed(db: sqlite3.Connection) -> list[Listed]:
    """All conversations, also those with settings only, the one that changed last first."""
    return [
        Listed(conv_id, title, (version or created * 1000) // 1000, rows, unfinished)
        for conv_id, title, created, version, rows, unfinished in db.execute("""
            SELECT conv_id, title, created, version,
                (SELECT count(*) FROM entities WHERE entities.conv_id = c.conv_id),
                (SELECT count(*) FROM runs WHERE runs.conv_id = c.conv_id)
            FROM conversations c ORDER BY max(version, created * 1000) DESC
        """)
    ]


def entities(db: sqlite3.Connection, conv_id: str) -> list[Entity] | None:
    """The rows of a conversation as GET /timeline gives them; None where it is unknown.

    Raises StoreUnavailable where they can't be read.
    """
    loaded = statements.load(db, conv_id)
    return None if loaded is None else [entity(row) for row in loaded.rows]


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How much there is of everything, by its name; rows by their kind."""

    def one(sql: str) -> int:
        (value,) = db.execute(sql).fetchone()
        return int(value)

    kinds = db.execute("SELECT kind, count(*) FROM entities GROUP BY kind ORDER BY 2 DESC").fetchall()
    return {
        "conversations": one("SELECT count(*) FROM conversations"),
        "rows": one("SELECT count(*) FROM entities"),
        **{f"rows of kind {kind}": count for kind, count in kinds},
        "unfinished runs": one("SELECT count(*) FROM runs"),
        "requests to models": one("SELECT count(*) FROM records WHERE phase = 'pre_inference'"),
        "stored messages": one("SELECT count(*) FROM blocks"),
        "bytes of rows": one("SELECT coalesce(sum(length(CAST(props AS BLOB))), 0) FROM entities"),
        "bytes of messages": one("SELECT coalesce(sum(length(CAST(body AS BLOB))), 0) FROM blocks"),
        "idempotency keys": one("SELECT count(*) FROM keys"),
    }


def verify(file: Path) -> Verdict:
    """Look for every breach of the store's rules in a file; who has it open is not disturbed.

    Raises StoreUnavailable where there is no timeline to look at. Damage is a breach.
    """
    found: list[Breach] = []
    conversations = rows = 0
    try:
        with snapshot(file) as db:
            said = [text for (text,) in db.execute("PRAGMA integrity_check")]
            found += [_damage(text) for text in said if text != "ok"]
            for conv_id, kept in _kept(db):
                found += breaches(conv_id, kept)
                conversations += len(kept["conversations"])
                rows += len(kept["entities"])
    except sqlite3.DatabaseError as error:
        found.append(_damage(str(error)))
    return Verdict(conversations, rows, found)


def _damage(said: str) -> Breach:
    return Breach("", "", "file", f"SQLite says: {said}.")


def _kept(db: sqlite3.Connection) -> Iterator[tuple[str, Kept]]:
    """All that is kept, a conversation at a time; under "" what belongs to none."""
    cursor = db.cursor()
    cursor.row_factory = _named
    keys: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for key in cursor.execute(f"SELECT *, {statements.KEY_CONVERSATION} AS conv_id FROM keys"):
        keys[str(key["conv_id"] or "")].append(key)
    ids = {id for table in _TABLES for (id,) in db.execute(f"SELECT DISTINCT conv_id FROM {table}")}
    for conv_id in sorted(ids | keys.keys()):
        kept: dict[str, list[Mapping[str, Any]]] = {
            table: cursor.execute(f"SELECT * FROM {table} WHERE conv_id = ?", (conv_id,)).fetchall()
            for table in _TABLES
        }
        yield conv_id, {**kept, "keys": keys.get(conv_id, [])}


def _named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {name: value for (name, *_), value in zip(cursor.description, row, strict=True)}
