"""What happens, in process: the values between an engine, the tool loop and the coordinator.

Two families. An **engine** yields the first one; it knows no ids, no `seq`, no conversation. The **run**
(conversation and tool loop) speaks the second one, in which each event names the one entity that it
changes. `sem.translator` turns the second family into frames.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .typing import JSONObject, Usage

__all__ = [
    "CallDelta",
    "CallDone",
    "CallOutput",
    "CallRequest",
    "CallResult",
    "CallStarted",
    "Carried",
    "EngineEvent",
    "ErrorRaised",
    "Finish",
    "LogWritten",
    "Retrying",
    "RunChanged",
    "RunEvent",
    "TextChunk",
    "TextDelta",
    "TextEnded",
    "TextStarted",
    "ThinkingChunk",
    "Upserted",
]


# -- what an engine yields ---------------------------------------------------------------------------


class TextChunk(Struct, frozen=True, gc=False):
    """A piece of the answer; never empty."""

    text: str


class ThinkingChunk(Struct, frozen=True, gc=False):
    """A piece of the model's reasoning; never empty."""

    text: str


class CallRequest(Struct, frozen=True):
    """The model asks for a tool.

    `call_id` is the provider's id and lives in the turn only. `arguments` is the raw JSON text: the loop
    parses it, for text that does not parse is an answer to the model and no fault of the engine.
    """

    call_id: str
    name: str
    arguments: str


class Finish(Struct, frozen=True):
    """The model is done; the last event of a successful turn.

    `reason` is `stop`, `tool_calls`, `length` or `content_filter`; `refused` says that the text is a refusal.
    """

    reason: str
    usage: Usage | None = None
    model: str | None = None
    refused: bool = False


class Carried(Struct, frozen=True):
    """Something of the provider's own that it wants back with this answer in the next turn, as it is."""

    item: JSONObject


class Retrying(Struct, frozen=True):
    """The model does not answer yet; it is asked again in `seconds`. `message` is a sentence for a person."""

    message: str
    seconds: float


EngineEvent = TextChunk | ThinkingChunk | CallRequest | Carried | Retrying | Finish


# -- what a run tells the coordinator ----------------------------------------------------------------


class RunChanged(Struct, frozen=True, kw_only=True):
    """A run was queued, started, or came to its one end; `status` is also the frame's suffix."""

    id: str
    status: str
    prompt: str | None = None
    queue_position: int | None = None
    idempotency_key: str | None = None
    model: str | None = None
    usage: Usage | None = None
    stop_reason: str | None = None
    error: str | None = None


class TextStarted(Struct, frozen=True, kw_only=True):
    """The first text of a message is about to come. `role` is `assistant` or `thinking`."""

    id: str
    role: str
    model: str | None = None


class TextDelta(Struct, frozen=True, gc=False):
    """More text for a message. Its frame may run ahead of the disk."""

    id: str
    role: str
    text: str


class TextEnded(Struct, frozen=True, kw_only=True):
    """A message is whole, or will never be. `text` is None where the streamed text stands."""

    id: str
    role: str
    status: str
    text: str | None = None
    model: str | None = None
    usage: Usage | None = None
    stop_reason: str | None = None
    duration_ms: int | None = None


class CallStarted(Struct, frozen=True, kw_only=True):
    """A tool is about to run. `input` is an object, or the raw text where it does not parse."""

    id: str
    name: str
    input: JSONObject | str


class CallDelta(Struct, frozen=True, kw_only=True):
    """A tool call changed: `patch` replaces props."""

    id: str
    patch: JSONObject


class CallOutput(Struct, frozen=True, gc=False):
    """A tool printed something. Like TextDelta, its frame may run ahead of the disk."""

    id: str
    text: str


class CallResult(Struct, frozen=True, kw_only=True):
    """What a tool gave: text for the model and the person, and a MIME bundle where it is more than text."""

    call_id: str
    result: str
    mime: JSONObject | None = None
    error: str | None = None


class CallDone(Struct, frozen=True, kw_only=True):
    """A tool call ended: `completed`, `failed`, `denied`, `cancelled` or `timed_out`."""

    id: str
    status: str
    duration_ms: int


class LogWritten(Struct, frozen=True, kw_only=True):
    """A line for the person who looks after the chat. `level` is a name of `logging`, in lower case."""

    id: str
    level: str
    message: str
    fields: JSONObject


class ErrorRaised(Struct, frozen=True, kw_only=True):
    """Something failed. `message` is a sentence for a person, `code` a word for a program."""

    id: str
    message: str
    code: str
    retryable: bool


class Upserted(Struct, frozen=True, kw_only=True):
    """A whole entity: user messages, and every custom kind."""

    id: str
    kind: str
    props: dict[str, Any]


RunEvent = (
    RunChanged
    | TextStarted
    | TextDelta
    | TextEnded
    | CallStarted
    | CallDelta
    | CallOutput
    | CallResult
    | CallDone
    | LogWritten
    | ErrorRaised
    | Upserted
)
