"""The projection: a fold of SEM events into rows. No clock, no ids, no I/O, no await.

Adding a kind of frame is one entry in `FOLDS`. The TypeScript twin is js/src/sem/handlers.ts;
tests/contract/frames.json holds both to the same cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from msgspec import Struct

from webchat_widget.sem.frames import APPENDED
from webchat_widget.sem.text import Rope
from webchat_widget.typing import Entity, JSONObject, SemEvent

from .entities import Row, entity
from .merge import merge

__all__ = ["FOLDS", "Applied", "Fold", "Projector", "makes_and_changes"]


class Applied(Enum):
    """What an event did to the rows."""

    CHANGED = "changed"
    STALE = "stale"
    """Older than the row, or a start of what exists: nothing changed, and nothing is wrong."""
    GAP = "gap"
    """Something before it is missing: hydrate, then apply it again."""
    UNKNOWN = "unknown"
    """A type that this version does not know."""


class Fold(Struct, frozen=True):
    """How one type of frame becomes props.

    `kind` is the kind of row that the frame makes, None where the row must exist already. `once` says that
    the frame only ever makes a row, and changes nothing of one that is there.
    `props` is given the frame's data and metadata, and the props of the row that is there.
    """

    props: Callable[[JSONObject, JSONObject, JSONObject], JSONObject]
    kind: str | None = None
    once: bool = False


def _start(data: JSONObject, metadata: JSONObject, _: JSONObject) -> JSONObject:
    props = {"role": data.get("role", "assistant"), "content": "", "streaming": True, "status": "streaming"}
    return props | _from(metadata, "model")


def _final(data: JSONObject, metadata: JSONObject, _: JSONObject) -> JSONObject:
    props = {"streaming": False, "status": data.get("status", "complete")}
    if data.get("text"):  # an end never blanks what was streamed
        props["content"] = data["text"]
    return props | _from(metadata, "model", "usage")


def _tool_start(data: JSONObject, *_: JSONObject) -> JSONObject:
    return {"name": data.get("name"), "input": data.get("input"), "status": "running", "done": False}


def _thinking_mode(data: JSONObject, *_: JSONObject) -> JSONObject:
    return {**_from(data, "mode", "phase"), "reasoning": data.get("reasoning", ""), "status": "active"}


def _thinking_mode_end(data: JSONObject, *_: JSONObject) -> JSONObject:
    status = "error" if data.get("success") is False else "completed"
    return {**_from(data, "mode", "phase", "reasoning", "success", "error"), "status": status}


def _plan(data: JSONObject, *_: JSONObject) -> JSONObject:
    return {**(data.get("run") or {}), "iterations": [], "status": "planning"}


def _plan_end(data: JSONObject, *_: JSONObject) -> JSONObject:
    completed = {"completed": dict(data)}
    return completed if data.get("finalDecision") == "execute" else {**completed, "status": "error"}


def _execution(data: JSONObject, _: JSONObject, old: JSONObject) -> JSONObject:
    status = {"completed": "completed", None: "executing"}.get(data.get("status"), "error")
    return {"execution": {**old.get("execution", {}), **data}, "status": status}


def _plan_step(data: JSONObject, _: JSONObject, old: JSONObject) -> JSONObject:
    """The steps with one more, or with more of one."""
    index = data.get("iterationIndex", 0)
    steps = {step["iterationIndex"]: step for step in old.get("iterations", ())}
    steps[index] = {**steps.get(index, {}), **data, "iterationIndex": index}
    return {"iterations": [steps[index] for index in sorted(steps)]}


def _from(source: JSONObject, *names: str) -> JSONObject:
    return {name: source[name] for name in names if name in source}


def _all_but(name: str) -> Callable[[JSONObject, JSONObject, JSONObject], JSONObject]:
    return lambda data, *_: {key: value for key, value in data.items() if key != name}


_RUN = Fold(_all_but("runId"), kind="run")

FOLDS: dict[str, Fold] = {
    "llm.start": Fold(_start, kind="message", once=True),
    "llm.final": Fold(_final),
    "llm.thinking.start": Fold(_start, kind="message", once=True),
    "llm.thinking.final": Fold(_final),
    "tool.start": Fold(_tool_start, kind="tool_call", once=True),
    "tool.delta": Fold(lambda data, *_: data.get("patch") or {}),
    "tool.result": Fold(
        lambda data, *_: _from(data, "toolCallId", "result", "mime", "customKind", "error"),
        kind="tool_result",
    ),
    "tool.done": Fold(lambda data, *_: {"status": data.get("status", "completed"), "done": True}),
    "run.queued": _RUN,
    "run.started": _RUN,
    "run.finished": _RUN,
    "run.stopped": _RUN,
    "run.failed": _RUN,
    "log": Fold(lambda data, *_: _from(data, "level", "message", "fields"), kind="log"),
    "error": Fold(
        lambda data, *_: {"message": data.get("error"), **_from(data, "code", "retryable")}, kind="error"
    ),
    "agent.mode": Fold(lambda data, *_: _from(data, "title", "data"), kind="agent_mode"),
    "thinking.mode.started": Fold(_thinking_mode, kind="thinking_mode", once=True),
    "thinking.mode.update": Fold(lambda data, *_: _from(data, "mode", "phase", "reasoning")),
    "thinking.mode.completed": Fold(_thinking_mode_end),
    "planning.start": Fold(_plan, kind="planning", once=True),
    "planning.iteration": Fold(_plan_step),
    "planning.reflection": Fold(_plan_step),
    "planning.complete": Fold(_plan_end),
    "execution.start": Fold(_execution),
    "execution.complete": Fold(_execution),
    "debugger.pause": Fold(lambda data, *_: dict(data), kind="debugger_pause"),
}

_DELTAS = frozenset({"llm.delta", "llm.thinking.delta"})


def makes_and_changes(type: str) -> bool:
    """Whether a frame of this type makes its row where there is none, and changes the one that is there."""
    fold = FOLDS.get(type)
    return type == "timeline.upsert" or (fold is not None and fold.kind is not None and not fold.once)


class Projector:
    """The rows of one conversation, in memory."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows: dict[str, Row] = {row["id"]: row for row in rows}
        self._ropes: dict[str, dict[str, Rope]] = {}
        """Text that is being streamed, by row and prop: joined when someone reads it."""
        self.ignored = 0
        """How many events of unknown types came by."""

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def apply(self, event: SemEvent) -> Applied:
        """Fold one event in."""
        type_ = event["type"]
        if type_ in _DELTAS:
            return self._grow(event["id"], event["seq"], {"content": event["data"]})
        if type_ == "timeline.upsert":
            row = event["data"]["entity"]
            made_at = row.get("createdSeq", event.get("createdSeq"))
            return self._lay(row["id"], row["kind"], event["seq"], row["props"], made_at)
        fold = FOLDS.get(type_)
        if fold is None:
            self.ignored += 1
            return Applied.UNKNOWN
        data = event["data"]
        if type_ in APPENDED and "append" in data:
            return self._grow(event["id"], event["seq"], data["append"])
        exists = event["id"] in self._rows
        if exists and fold.once:
            return Applied.STALE
        if not exists and fold.kind is None:
            return Applied.GAP
        old = self.row(event["id"]) if exists else None
        props = fold.props(data, event.get("metadata") or {}, old["props"] if old is not None else {})
        return self._lay(event["id"], fold.kind, event["seq"], props, event.get("createdSeq"))

    def made_at(self, id: str) -> int | None:
        """The `createdSeq` of a row; None where there is none."""
        row = self._rows.get(id)
        return None if row is None else int(row["createdSeq"])

    def offset(self, id: str, name: str = "content") -> int:
        """Where the next text of a row belongs, in UTF-16 code units."""
        return self._rope(id, name).units

    def append(self, id: str, seq: int, text: str, name: str = "content") -> None:
        """Fold a delta that is known to fit: the coordinator's own, at `offset(id, name)`."""
        self._rope(id, name).append(text)
        self._rows[id]["version"] = seq

    def row(self, id: str) -> Row | None:
        """One row, with all text that has come."""
        row = self._rows.get(id)
        for name, rope in self._ropes.get(id, {}).items():
            if row is not None and rope.units:
                row["props"][name] = rope.text()
        return row

    def last(self, kind: str) -> Row | None:
        """The row of a kind that was made last."""
        rows = [row for row in self._rows.values() if row["kind"] == kind]
        return self.row(max(rows, key=lambda row: row["createdSeq"])["id"]) if rows else None

    def rows(self) -> Iterator[Row]:
        """All rows in the order in which they were made."""
        for row in sorted(self._rows.values(), key=lambda row: row["createdSeq"]):
            settled = self.row(row["id"])
            assert settled is not None
            yield settled

    def entities(self) -> list[Entity]:
        """All rows as `/timeline` gives them."""
        return [entity(row) for row in self.rows()]

    def restore(self, id: str, row: Row | None) -> None:
        """Take back what could not be stored: the row is as it was before, or not there."""
        self._ropes.pop(id, None)
        if row is None:
            self._rows.pop(id, None)
        else:
            self._rows[id] = row

    def _lay(
        self, id: str, kind: str | None, seq: int, props: JSONObject, created_seq: int | None
    ) -> Applied:
        old = self.row(id)
        if old is not None and seq < old["version"]:
            return Applied.STALE
        made_at = seq if created_seq is None else created_seq
        new: Row = {"id": id, "kind": kind, "createdSeq": made_at, "version": seq, "props": dict(props)}
        self._rows[id] = merge(old, new)
        self._ropes.pop(id, None)
        return Applied.CHANGED

    def _grow(self, id: str, seq: int, pieces: dict[str, Any]) -> Applied:
        """Append text to one or more props of a row."""
        row = self._rows.get(id)
        if row is None:
            return Applied.GAP
        if seq <= row["version"]:
            return Applied.STALE
        for name, piece in pieces.items():
            rope = self._rope(id, name)
            if "cumulative" in piece:
                longer = Rope(piece["cumulative"])
                if longer.units > rope.units:
                    rope.replace(piece["cumulative"])
            elif not rope.splice(piece["offset"], piece["delta"]):
                return Applied.GAP
        row["version"] = seq
        return Applied.CHANGED

    def _rope(self, id: str, name: str) -> Rope:
        ropes = self._ropes.setdefault(id, {})
        rope = ropes.get(name)
        if rope is None:
            rope = ropes[name] = Rope(self._rows[id]["props"].get(name, ""))
        return rope
