"""Events of users and middlewares, made fit for a timeline: clean, bounded, and with an id of the run's."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec.structs import asdict, replace

from webchat_widget.errors import EngineError
from webchat_widget.events import Aside, Event, Upserted
from webchat_widget.typing import JSONObject

from .arguments import cleaned, shown

__all__ = ["MAX_BYTES", "RESERVED", "cleaned_aside", "props_of", "upserted"]

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


def upserted(event: Event, run_id: str, new_id: Callable[[str], str]) -> Upserted:
    """The row of a user's event. Raises EngineError for one that can't have a row."""
    try:
        kind, id, props = props_of(event)
    except ValueError as error:
        raise EngineError(str(error), code="bad_event", retryable=False) from None
    return Upserted(id=f"{run_id}:{kind}:{id}" if id else new_id(kind), kind=kind, props=props)


def props_of(event: Event) -> tuple[str, str, JSONObject]:
    """Kind, id and props of an event. Raises ValueError, with a sentence, for what is no such event."""
    kind, name = event.kind_of(), type(event).__name__
    if not _KIND.fullmatch(kind) or kind in RESERVED:
        raise ValueError(
            f"{name} can't have rows of kind {kind!r}: a kind has lower-case letters, digits and '_', and is "
            "none of the chat's own. Set `kind: ClassVar[str]`."
        )
    if event.id and not _ID.fullmatch(event.id):
        raise ValueError(f"The id of {name} must have letters, digits, '.', '_' and '-' only, at most 128.")
    try:
        built = msgspec.to_builtins(event, str_keys=True)
        props: JSONObject = shown(cleaned({key: value for key, value in built.items() if key != "id"}))  # type: ignore[assignment]
        size = len(msgspec.json.encode(props))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"The fields of {name} are no JSON: {error}.") from None
    if size > MAX_BYTES:
        raise ValueError(f"{name} is too large: {size:,} bytes, and an event may have {MAX_BYTES:,}.")
    return kind, event.id, props


def cleaned_aside(event: Aside) -> Aside:
    """What a middleware says, with texts that every reader can take."""
    return replace(event, **cleaned(asdict(event)))
