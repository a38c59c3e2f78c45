"""What models were sent and gave, on disk: each message and each list of tools once in a conversation.

A history is sent again with every request. Its messages are blocks, known by a hash of their content, and a
record holds the hashes, so that a record costs what is new in it and 16 bytes for each message.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

import msgspec

from webchat_widget.errors import StoreUnavailable
from webchat_widget.requests import TurnsQuery
from webchat_widget.timeline.store import TurnRecord, TurnsPage
from webchat_widget.turns import Message
from webchat_widget.typing import JSONObject

__all__ = ["read", "write"]

_HASH_BYTES = 16
_MAX_BYTES = 32_000_000
"""Of the JSON of one answer: a conversation's history is in it as often as the model was sent it."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

_READ = """
    SELECT * FROM (
        SELECT run_id, n, phase, seq, model, messages, tools, finish FROM records WHERE conv_id = :conv
        UNION ALL
        SELECT
            run_id,
            (SELECT coalesce(max(n), 0) FROM records WHERE conv_id = :conv AND run_id = turns.run_id),
            phase, seq, NULL, messages, NULL, NULL
        FROM turns WHERE conv_id = :conv
    )
    WHERE (:run IS NULL OR run_id = :run) AND (:phase IS NULL OR phase = :phase)
    ORDER BY seq DESC LIMIT :limit
"""


def write(db: sqlite3.Connection, conv_id: str, record: TurnRecord) -> None:
    """Take a record in."""
    messages = [_body(message) for message in record.messages]
    tools = [_body(record.tools)] if record.tools else []
    hashed = {body: hashlib.sha256(body).digest()[:_HASH_BYTES] for body in (*messages, *tools)}
    db.executemany(
        "INSERT OR IGNORE INTO blocks VALUES (?, ?, ?)",
        [(conv_id, hash, body.decode()) for body, hash in hashed.items()],
    )
    db.execute(
        "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            conv_id,
            record.run_id,
            record.n,
            record.phase,
            record.seq,
            record.model,
            b"".join(hashed[body] for body in messages),
            hashed[tools[0]] if tools else None,
            _encode(record.finish).decode() if record.finish is not None else None,
        ),
    )


def read(db: sqlite3.Connection, query: TurnsQuery) -> TurnsPage:
    """The newest records that are asked for, in the order of their `seq`."""
    asked = {
        "conv": query.conv_id,
        "run": query.run_id,
        "phase": query.phase,
        "limit": query.limit + 1,
    }
    rows = db.execute(_READ, asked).fetchall()
    blocks = _Blocks(db, query.conv_id)
    turns: list[JSONObject] = []
    try:
        for row in rows[: query.limit]:
            turn = _turn(row, blocks)
            if turns and blocks.read > _MAX_BYTES:
                break
            turns.append(turn)
    except (msgspec.MsgspecError, KeyError) as error:
        raise StoreUnavailable(
            f"What the model was sent in the conversation {query.conv_id} can't be read: it is damaged.",
            code="conversation_unreadable",
        ) from error
    return TurnsPage(turns[::-1], more=len(turns) < len(rows))


class _Blocks:
    """The blocks of a conversation, each decoded once; `read` counts the bytes that were asked for."""

    def __init__(self, db: sqlite3.Connection, conv_id: str) -> None:
        self._db = db
        self._conv_id = conv_id
        self._known: dict[bytes, tuple[int, Any]] = {}
        self.read = 0

    def __getitem__(self, hash: bytes) -> Any:
        if hash not in self._known:
            found = self._db.execute(
                "SELECT body FROM blocks WHERE conv_id = ? AND hash = ?", (self._conv_id, hash)
            ).fetchone()
            if found is None:
                raise KeyError(hash)
            self._known[hash] = len(found[0]), _decode(found[0])
        size, value = self._known[hash]
        self.read += size
        return value


def _turn(row: tuple[Any, ...], blocks: _Blocks) -> JSONObject:
    run_id, n, phase, seq, model, messages, tools, finish = row
    turn: JSONObject = {"run_id": run_id, "n": n, "phase": phase, "seq": seq, "created_at": seq // 1000}
    turn["model"] = model
    if isinstance(messages, str):  # a run's own turn, which is stored as it is
        blocks.read += len(messages)
        turn["messages"] = _decode(messages)
    else:
        hashes = range(0, len(messages), _HASH_BYTES)
        turn["messages"] = [blocks[messages[at : at + _HASH_BYTES]] for at in hashes]
    if tools is not None:
        turn["tools"] = blocks[tools]
    if finish is not None:
        turn["finish"] = _decode(finish)
    return turn


def _body(part: Any) -> bytes:
    """Its JSON. What a middleware made up may have none: that must not cost the batch that it came with."""
    try:
        return _encode(part)
    except Exception as error:
        return _encode(Message("error", f"This could not be stored: {error}."))
