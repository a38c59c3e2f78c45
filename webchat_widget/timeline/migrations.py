"""The schema, a step per version. A step that has shipped is never edited: add the next one."""

from __future__ import annotations

import sqlite3

from webchat_widget.errors import StoreUnavailable

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE conversations (
        conv_id  TEXT PRIMARY KEY,
        created  INTEGER NOT NULL,              -- Unix ms
        version  INTEGER NOT NULL,              -- highest seq that was written
        title    TEXT NOT NULL DEFAULT '',
        settings TEXT NOT NULL DEFAULT '{}'     -- JSON
    ) WITHOUT ROWID;

    CREATE TABLE entities (
        conv_id     TEXT NOT NULL,
        id          TEXT NOT NULL,
        kind        TEXT NOT NULL,
        created_seq INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        props       TEXT NOT NULL,              -- JSON
        PRIMARY KEY (conv_id, id)
    );
    CREATE INDEX entities_in_order ON entities (conv_id, created_seq);

    CREATE TABLE runs (                         -- accepted, not ended
        run_id  TEXT PRIMARY KEY,
        conv_id TEXT NOT NULL,
        seq     INTEGER NOT NULL,               -- place in the queue
        started INTEGER NOT NULL,
        request TEXT NOT NULL                   -- JSON
    ) WITHOUT ROWID;
    CREATE INDEX runs_of ON runs (conv_id, seq);

    CREATE TABLE turns (                        -- the model's memory
        conv_id  TEXT NOT NULL,
        run_id   TEXT NOT NULL,
        phase    TEXT NOT NULL,
        seq      INTEGER NOT NULL,
        messages TEXT NOT NULL,                 -- JSON
        PRIMARY KEY (conv_id, run_id, phase)
    );

    CREATE TABLE keys (                         -- idempotency
        user    TEXT NOT NULL,
        key     TEXT NOT NULL,
        digest  TEXT NOT NULL,
        status  INTEGER NOT NULL,
        body    TEXT NOT NULL,                  -- JSON
        created INTEGER NOT NULL,               -- Unix ms
        PRIMARY KEY (user, key)
    ) WITHOUT ROWID;
    CREATE INDEX keys_by_age ON keys (created);
    """,
    """
    ALTER TABLE runs ADD COLUMN checkpoint TEXT;    -- JSON: where a run stands that waits for a person

    CREATE TABLE grants (                       -- tools that need not ask any more
        conv_id TEXT NOT NULL,
        tool    TEXT NOT NULL,
        created INTEGER NOT NULL,               -- Unix ms
        PRIMARY KEY (conv_id, tool)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE blocks (                       -- messages and lists of tools, each once
        conv_id TEXT NOT NULL,
        hash    BLOB NOT NULL,                  -- of the body, 16 bytes
        body    TEXT NOT NULL,                  -- JSON
        PRIMARY KEY (conv_id, hash)
    );

    CREATE TABLE records (                      -- what models were sent, and what came of it
        conv_id  TEXT NOT NULL,
        run_id   TEXT NOT NULL,
        n        INTEGER NOT NULL,              -- which request of the run
        phase    TEXT NOT NULL,
        seq      INTEGER NOT NULL,
        model    TEXT,
        messages BLOB NOT NULL,                 -- hashes of blocks, one behind the other
        tools    BLOB,                          -- hash of a block
        finish   TEXT,                          -- JSON
        PRIMARY KEY (conv_id, run_id, n, phase)
    );
    CREATE INDEX records_in_order ON records (conv_id, seq);
    """,
    "CREATE INDEX keys_by_name ON keys (key);",
)


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database to the newest schema. A newer one than this version knows is refused."""
    (have,) = db.execute("PRAGMA user_version").fetchone()
    if have > len(MIGRATIONS):
        raise StoreUnavailable(
            "The timeline database was made by a newer version of webchat-widget: update the package, "
            "or point --WebChat.timeline_db at another file."
        )
    for version in range(have, len(MIGRATIONS)):
        db.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[version]}; PRAGMA user_version = {version + 1}; COMMIT;"
        )
