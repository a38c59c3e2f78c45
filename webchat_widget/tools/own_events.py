"""Events of users and middlewares, made fit for a timeline: clean, bounded, and with an id of the run's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from webchat_widget.errors import EngineError
from webchat_widget.events import Event, Upserted
from webchat_widget.requests import MAX_DEPTH
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.sem.text import clean
from webchat_widget.typing import JSONObject

__all__ = [
    "MAX_BYTES",
    "RESERVED",
    "BadEvent",
    "OwnRow",
    "built",
    "fit",
    "is_own_kind",
    "named",
    "own_row",
    "row_of",
    "upserted",
]

MAX_BYTES = 262_144
"""Of the JSON of one event's props."""
RESERVED = frozenset(
    {
        "agent_mode",
        "debugger_pause",
        "error",
        "log",
        "message",
        "planning",
        "run",
        "thinking_mode",
        "tool_call",
        "tool_result",
    }
)
"""Kinds with frames of their own: an event can't make a row that looks like one of them."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class BadEvent(ValueError):
    """An event that can't have a row: the message says why, `field` is its part `kind`, `id` or `props`."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class OwnRow(Struct, frozen=True):
    """What an event says of its row: `props` replace those of the same name. `id` is the event's own, empty
    for a row that no other event changes; `size` the bytes of the props as JSON."""

    kind: str
    id: str
    props: JSONObject
    size: int


def upserted(event: Event, run_id: str, new_id: Callable[[str], str]) -> Upserted:
    """The row of an event that an engine or a middleware says. Raises EngineError where it can't have one."""
    try:
        row = row_of(event)
    except BadEvent as error:
        raise EngineError(str(error), code="bad_event", retryable=False) from None
    return Upserted(id=named(row, run_id) or new_id("event"), kind=row.kind, props=row.props)


def named(row: OwnRow, run_id: str) -> str:
    """The id in the timeline that an event's own id means in a run; empty where it has none. No other row
    of the run is called so, whatever its kind and id."""
    return f"{run_id}:event:{row.kind}:{row.id}" if row.id else ""


def row_of(event: Event) -> OwnRow:
    """What an event says of its row. Raises BadEvent, and TypeError for what is no event."""
    if not isinstance(event, Event):
        given = f"the class {event.__name__}" if isinstance(event, type) else type(event).__name__
        raise TypeError(
            f"An event is an object of a class that inherits from webchat_widget.Event; {given} is none."
        )
    name, kind = type(event).__name__, event.kind_of()
    if not isinstance(kind, str):  # a member of the class, for `kind: str = …` makes a field
        raise BadEvent(f"{name} has a field `kind`. Write `kind: ClassVar[str] = …`.", "kind")
    props = built(event, name)
    return own_row(kind, props.pop("id", ""), props, name)


def own_row(kind: str, id: str, props: JSONObject, name: str = "The event") -> OwnRow:
    """The same for one that came as JSON; `name` is how a sentence speaks of it."""
    if not is_own_kind(kind):
        raise BadEvent(
            f"{name} can't have rows of kind {kind[:100]!r}: a kind begins with a lower-case letter, goes on "
            "with these, digits and '_', and is none of the chat's own.",
            "kind",
        )
    if not isinstance(id, str) or (id and not _ID.fullmatch(id)):
        raise BadEvent(
            f"{name} can't have the id {str(id)[:100]!r}: an id has letters, digits, '.', '_' and '-' only, "
            "at most 128, and begins with a letter or a digit.",
            "id",
        )
    try:
        fitted: JSONObject = fit(props)
    except ValueError as error:
        raise _no_json(name, error) from None
    size = len(msgspec.json.encode(fitted))
    if size > MAX_BYTES:
        raise BadEvent(f"{name} is too large: {size:,} bytes, and an event may have {MAX_BYTES:,}.", "props")
    return OwnRow(kind, id, fitted, size)


def is_own_kind(kind: str) -> bool:
    """Whether rows of a person's own may be of this kind."""
    return _KIND.fullmatch(kind) is not None and kind not in RESERVED


def built(event: Struct, name: str) -> JSONObject:
    """The fields of an event as JSON; `name` is how a sentence speaks of it. Raises BadEvent."""
    try:
        fields: JSONObject = msgspec.to_builtins(event, str_keys=True, enc_hook=_plain)
    except RecursionError:
        raise _no_json(name, "they are too deep") from None
    except (TypeError, ValueError) as error:
        raise _no_json(name, error) from None
    return fields


def _no_json(name: str, why: object) -> BadEvent:
    return BadEvent(f"{name} has fields that are no JSON: {why}.", "props")


def _plain(value: Any) -> Any:
    """A value that JSON does not know, as one that it does: numbers and arrays of numpy, and of its like."""
    if isinstance(value, str | int | float):  # of a class of its own
        return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))
    name = type(value).__name__
    if hasattr(value, "to_dict"):
        raise TypeError(f"make dicts and lists of the {name} first, as its to_dict() does")
    if not hasattr(value, "tolist"):
        raise TypeError(f"make numbers, texts, lists or dicts of the {name} first")
    size = getattr(value, "size", 0)
    if isinstance(size, int) and size > MAX_BYTES:  # before each number becomes an object
        raise ValueError(f"the {size:,} numbers of the {name} are too many")
    return value.tolist()


def fit(value: Any, levels: int = MAX_DEPTH) -> Any:
    """What every reader can take: clean texts, null where a number is none, text where JavaScript could not
    hold it exactly. ValueError where it is deeper than `levels`."""
    match value:
        case dict() | list() | tuple() if not levels:
            raise ValueError("they are too deep")
        case dict():
            return {clean(key): fit(item, levels - 1) for key, item in value.items()}
        case list() | tuple():
            return [fit(item, levels - 1) for item in value]
        case str():
            return clean(value)
        case float() if not math.isfinite(value):
            return None
        case int() if abs(value) > MAX_SEQ:
            return str(value)
    return value
