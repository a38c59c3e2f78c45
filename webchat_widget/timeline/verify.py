"""What must hold of all that a store keeps of a conversation, and which of its rows break it. Pure.

It judges what lies on disk, not what a reader makes of it, so the JSON in it is still text. A file of which a
host is in the middle of a run has no breach: whatever is open has a run that is listed as unfinished.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct

from webchat_widget.requests import ChatRequest, Overrides
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.turns import Message

from .entities import Row, is_open, is_terminal

__all__ = ["HASH_BYTES", "RULES", "Breach", "Kept", "breaches"]

Kept = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each table that belong to one conversation, by the names of their columns."""

RULES: dict[str, str] = {
    "json": "what is stored as JSON is JSON",
    "kind": "a kind of row is a word",
    "props": "a row of the chat's own kinds has the texts that others go by",
    "version": "0 < createdSeq <= version <= the conversation's version, which JavaScript holds exactly",
    "place": "no two rows of a conversation have the same place",
    "orphan": "everything belongs to a conversation, and a row of a run to its run",
    "open": "what is open belongs to a run that has not ended",
    "run": "a run has not ended if, and only if, it is listed as unfinished",
    "request": "what an unfinished run was asked can be asked again",
    "settings": "a conversation's settings can be read",
    "result": "a result belongs to a tool call",
    "call": "a tool call that is done has a result",
    "turn": "what is remembered of a run, or was sent for it, belongs to a run",
    "memory": "a turn begins with its prompt, roles take turns, and each call has its result",
    "block": "what a record was made of is there, and unchanged",
    "key": "an idempotency key has its answer, and the answer its run",
    "file": "the file itself is sound",
}
"""What each rule asks for, by its name."""

HASH_BYTES = 16
"""Of a block's name."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TABLES = ("entities", "runs", "turns", "records", "blocks", "grants")
_TEXTS = {"message": ("role", "content"), "run": ("status",), "tool_call": ("status",), "error": ("message",)}
_ENDING = ("tool_call", "planning", "thinking_mode", "debugger_pause")
_PHASES = ("pre_inference", "post_inference", "post_tools")
_SLACK_MS = 1000
"""Between the making of a conversation and of its first key."""

_decode = msgspec.json.decode
_messages = msgspec.json.Decoder(list[Message])


class Breach(Struct, frozen=True):
    """A rule that is broken: `id` names the row, run, block or key that breaks it; the sentence says how."""

    conv_id: str
    id: str
    rule: str
    sentence: str


def breaches(conv_id: str, kept: Kept) -> list[Breach]:
    """Every breach in what is kept of a conversation. Without a conversation `kept` may have its keys only:
    these outlive a conversation that was handed over."""
    inspection = _Inspection(conv_id, kept)
    inspection.heads()
    inspection.rows()
    inspection.runs()
    inspection.calls()
    inspection.turns()
    inspection.records()
    inspection.keys()
    return inspection.found


class _Inspection:
    def __init__(self, conv_id: str, kept: Kept) -> None:
        self._conv_id = conv_id
        self._kept = kept
        self._head = next(iter(kept["conversations"]), None)
        self._unfinished = {run["run_id"] for run in kept["runs"]}
        self._rows: dict[str, Row] = {}
        """Those that can be read."""
        self._kinds = {row["id"]: row["kind"] for row in kept["entities"]}
        self.found: list[Breach] = []

    def heads(self) -> None:
        if self._head is not None:
            if not _fits(self._head["settings"], Overrides):
                self._say("", "settings", "The settings of the conversation can't be read.")
            if not 0 <= _integer(self._head["version"]) <= MAX_SEQ:
                self._say("", "version", f"The conversation has the version {self._head['version']!r}.")
            return
        for table in _TABLES:
            if count := len(self._kept[table]):
                self._say("", "orphan", f"{count} in {table}, but the conversation is not there.")

    def rows(self) -> None:
        places: dict[int, str] = {}
        for kept in self._kept["entities"]:
            id, kind, created, version = (kept[name] for name in ("id", "kind", "created_seq", "version"))
            self._numbers(id, created, version)
            if (other := places.setdefault(created, id)) != id:
                self._say(id, "place", f"It has the place {created}, as {other} has.")
            if not isinstance(kind, str) or not _KIND.fullmatch(kind):
                self._say(id, "kind", f"{kind!r} is no kind of row.")
            run_id, below, _ = id.partition(":")
            if below and run_id != "event" and self._kinds.get(run_id) != "run":
                self._say(id, "orphan", "It belongs to a run that has no row.")
            if (props := _object(kept["props"])) is None:
                self._say(id, "json", "Its props are no JSON object.")
                continue
            row = self._rows[id] = {"id": id, "kind": kind, "props": props}
            for name in _TEXTS.get(kind, ()):
                if not isinstance(props.get(name), str):
                    self._say(
                        id, "props", f"A {kind} needs the text {name!r}, and it is {props.get(name)!r}."
                    )
            if kind != "run" and is_open(row) and run_id not in self._unfinished:
                self._say(id, "open", f"The {kind} never ended, and its run is not under way.")

    def runs(self) -> None:
        for run in self._kept["runs"]:
            id, row = run["run_id"], self._rows.get(run["run_id"])
            if not _fits(run["request"], ChatRequest):
                self._say(id, "request", "What was asked can't be read.")
            if run["checkpoint"] is not None and _object(run["checkpoint"]) is None:
                self._say(id, "json", "Its checkpoint is no JSON object.")
            if self._kinds.get(id) != "run":
                self._say(id, "run", "It is listed as unfinished, but has no row.")
            elif row is not None and is_terminal(row):
                self._say(id, "run", "It has ended, but is still listed as unfinished.")
            self._number(id, run["seq"])
        for id, row in self._rows.items():
            if row["kind"] == "run" and not is_terminal(row) and id not in self._unfinished:
                status = row["props"].get("status")
                self._say(id, "run", f"It is {status!r}, but not listed as unfinished: it would never end.")

    def calls(self) -> None:
        for id, row in self._rows.items():
            if row["kind"] == "tool_result":
                call = row["props"].get("toolCallId")
                if self._kinds.get(call) != "tool_call" or id != f"{call}:result":
                    self._say(id, "result", f"It is the result of {call!r}, and no such call has it.")
            if row["kind"] == "tool_call" and is_terminal(row) and f"{id}:result" not in self._kinds:
                self._say(id, "call", "The call is done, but has no result.")

    def turns(self) -> None:
        for turn in self._kept["turns"]:
            id = turn["run_id"]
            self._of_run(id, "turn", "Something is remembered of it")
            self._number(id, turn["seq"])
            try:
                messages = _messages.decode(turn["messages"])
            except (msgspec.MsgspecError, TypeError):
                self._say(id, "json", "What is remembered of it are no messages.")
                continue
            if (wrong := _misplaced(messages)) is not None:
                self._say(id, "memory", wrong)

    def records(self) -> None:
        blocks = {block["hash"] for block in self._kept["blocks"]}
        for block in self._kept["blocks"]:
            if (wrong := _damage(block)) is not None:
                self._say(_name(block["hash"]), "block", wrong)
        for record in self._kept["records"]:
            id = record["run_id"]
            where = f"Request {record['n']}, {record['phase']}"
            self._of_run(id, "turn", f"{where} was made for it")
            self._number(id, record["seq"])
            if record["phase"] not in _PHASES:
                self._say(id, "kind", f"{where}: no such phase.")
            if record["finish"] is not None and _object(record["finish"]) is None:
                self._say(id, "json", f"{where}: its end is no JSON object.")
            for hash in _hashes(record["messages"], record["tools"]):
                if hash not in blocks:
                    self._say(id, "block", f"{where}: the part {_name(hash)} is missing.")

    def keys(self) -> None:
        for key in self._kept["keys"]:
            id, body = key["key"], _object(key["body"])
            if body is None or not all(isinstance(body.get(name), str) for name in ("run_id", "conv_id")):
                self._say(id, "key", "The answer to the key names no run.")
                continue
            if key["status"] not in (200, 202) or not key["digest"]:
                self._say(id, "key", f"It has the status {key['status']!r} and the digest {key['digest']!r}.")
            # A key may be older than what is kept under its conversation's name by now.
            known = self._head is not None and key["created"] > self._head["created"] - _SLACK_MS
            if known and self._kinds.get(body["run_id"]) != "run":
                self._say(id, "key", f"It was answered with the run {body['run_id']}, which is not there.")

    # -- parts ---------------------------------------------------------------------------------------

    def _say(self, id: str, rule: str, sentence: str) -> None:
        self.found.append(Breach(self._conv_id, id, rule, sentence))

    def _numbers(self, id: str, created: Any, version: Any) -> None:
        if not 0 < _integer(created) <= _integer(version):
            self._say(id, "version", f"createdSeq is {created!r} and version {version!r}.")
        self._number(id, version)

    def _number(self, id: str, seq: Any) -> None:
        """Whether the conversation has come to this `seq`."""
        if self._head is not None and not 0 < _integer(seq) <= _integer(self._head["version"]):
            self._say(id, "version", f"It is at {seq!r}, the conversation at {self._head['version']!r}.")

    def _of_run(self, run_id: str, rule: str, what: str) -> None:
        if self._kinds.get(run_id) != "run":
            self._say(run_id, rule, f"{what}, but the run has no row.")


def _misplaced(messages: Sequence[Message]) -> str | None:
    """What a model would not take of a turn, as a sentence; None where all is well."""
    if not messages:
        return None
    if messages[0].role != "user":
        return f"It begins with a message of role {messages[0].role!r}."
    open_calls: list[str] = []
    for before, message in pairwise(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return f"There is a result of {message.tool_call_id!r}, which was not called."
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls:
            break
        if message.role != "assistant" or before.role == "assistant":
            return f"A message of role {message.role!r} follows one of role {before.role!r}."
        open_calls = [call.id for call in message.tool_calls]
    return f"The call {open_calls[0]!r} has no result." if open_calls else None


def _damage(block: Mapping[str, Any]) -> str | None:
    body = block["body"]
    try:
        _decode(body)
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        return "It is no JSON."
    if hashlib.sha256(body.encode()).digest()[:HASH_BYTES] != block["hash"]:
        return "It is not what was stored under its hash."
    return None


def _hashes(*parts: Any) -> list[bytes]:
    joined = [part for part in parts if isinstance(part, bytes)]
    return [part[at : at + HASH_BYTES] for part in joined for at in range(0, len(part), HASH_BYTES)]


def _name(hash: Any) -> str:
    return hash.hex() if isinstance(hash, bytes) else repr(hash)


def _integer(value: Any) -> int:
    """The number, or one that is out of every range."""
    return value if isinstance(value, int) and value <= MAX_SEQ else -1


def _object(text: Any) -> dict[str, Any] | None:
    """The JSON object that the text is, if it is one."""
    try:
        value = _decode(text)
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        return None
    return value if isinstance(value, dict) else None


def _fits(text: Any, type: type[Any]) -> bool:
    try:
        msgspec.json.decode(text, type=type)
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        return False
    return True
