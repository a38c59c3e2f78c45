"""What happens, in process: the values between an engine, the tool loop and the coordinator.

Two families. An **engine** yields the first one; it knows no ids, no `seq`, no conversation. The **run**
(conversation, tool loop and middlewares) speaks the second one, in which each event names the one entity that
it changes. `sem.translator` turns the second family into frames. An `Event` is what you add of your own.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from msgspec import Struct

from .typing import JSONObject, Usage

__all__ = [
    "AgentModeChanged",
    "Aside",
    "CallDelta",
    "CallDone",
    "CallOutput",
    "CallRequest",
    "CallResult",
    "CallStarted",
    "Carried",
    "EngineEvent",
    "ErrorRaised",
    "Event",
    "ExecutionEnded",
    "ExecutionStarted",
    "Finish",
    "LogWritten",
    "Paused",
    "PlanReflected",
    "PlanStepped",
    "PlanningEnded",
    "PlanningStarted",
    "Retrying",
    "RunChanged",
    "RunEvent",
    "Said",
    "TextChunk",
    "TextDelta",
    "TextEnded",
    "TextStarted",
    "ThinkingChunk",
    "ThinkingModeDelta",
    "ThinkingModeEnded",
    "ThinkingModeStarted",
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


class Event(Struct, frozen=True, kw_only=True):
    """The base of your own kinds of rows: an engine, a middleware and a tool may say one.

    ::

        class Weather(Event):
            city: str
            celsius: float

    Its fields are the props of a row of kind `weather`, the class's name in snake_case unless `kind` says
    otherwise. Events of one run with the same `id` are the same row, of which the later one replaces the
    props that it has; without an `id` each is a row of its own.
    """

    kind: ClassVar[str] = ""
    id: str = ""

    @classmethod
    def kind_of(cls) -> str:
        """The kind of its rows."""
        return cls.kind or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


EngineEvent = TextChunk | ThinkingChunk | CallRequest | Carried | Retrying | Finish | Event


# -- what a run tells the coordinator ----------------------------------------------------------------


class RunChanged(Struct, frozen=True, kw_only=True):
    """A run was queued, started, or came to its one end; `status` is also the frame's suffix.

    `profile` is None for the default one.
    """

    id: str
    status: str
    prompt: str | None = None
    queue_position: int | None = None
    idempotency_key: str | None = None
    profile: str | None = None
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


class AgentModeChanged(Struct, frozen=True, kw_only=True):
    """The agent works in another mode from here on. `data` is `{from, to, reason}`, as far as known."""

    id: str
    title: str
    data: JSONObject


class ThinkingModeStarted(Struct, frozen=True, kw_only=True):
    """A phase of a mode of thinking begins."""

    id: str
    mode: str
    phase: str


class ThinkingModeDelta(Struct, frozen=True, gc=False):
    """More reasoning of a phase. Like TextDelta, its frame may run ahead of the disk."""

    id: str
    text: str


class ThinkingModeEnded(Struct, frozen=True, kw_only=True):
    """A phase has ended; `error` says why where it was cut."""

    id: str
    success: bool
    error: str | None = None


class PlanningStarted(Struct, frozen=True, kw_only=True):
    """A plan is about to be made, in at most `max_iterations` steps."""

    id: str
    run_id: str
    provider: str
    planner_model: str | None
    max_iterations: int


class PlanStepped(Struct, frozen=True, kw_only=True):
    """A step of the plan; `index` counts from 1. What is None is not known, or not named again."""

    id: str
    index: int
    action: str | None = None
    reasoning: str | None = None
    strategy: str | None = None
    progress: str | None = None
    tool_name: str | None = None


class PlanReflected(Struct, frozen=True, kw_only=True):
    """The planner looks back at a step; `progress_score` is from 0 to 1."""

    id: str
    index: int
    text: str
    progress_score: float | None = None


class PlanningEnded(Struct, frozen=True, kw_only=True):
    """The plan is made. `final_decision` is `execute`, or `error`, `stopped` or `interrupted` where nothing
    follows from it."""

    id: str
    total_iterations: int
    final_decision: str
    status_reason: str = ""
    final_directive: str = ""


class ExecutionStarted(Struct, frozen=True, kw_only=True):
    """The answer to a plan begins."""

    id: str
    executor_model: str | None
    directive: str


class ExecutionEnded(Struct, frozen=True, kw_only=True):
    """It has ended; `status` is `completed` or `error`, the length in characters."""

    id: str
    status: str
    error_message: str | None = None
    tokens_used: int | None = None
    response_length: int | None = None


class Paused(Struct, frozen=True, kw_only=True):
    """The run waits for a person to look at it, or does so no longer.

    `phase` is `after_inference` or `after_tools`, `status` `paused`, `continued`, `expired` or `cancelled`.
    At `deadline_ms` (Unix ms) it goes on by itself.
    """

    id: str
    phase: str
    summary: str
    deadline_ms: int
    status: str


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
    | AgentModeChanged
    | ThinkingModeStarted
    | ThinkingModeDelta
    | ThinkingModeEnded
    | PlanningStarted
    | PlanStepped
    | PlanReflected
    | PlanningEnded
    | ExecutionStarted
    | ExecutionEnded
    | Paused
    | Upserted
)

Aside = (
    LogWritten
    | AgentModeChanged
    | ThinkingModeStarted
    | ThinkingModeDelta
    | ThinkingModeEnded
    | PlanningStarted
    | PlanStepped
    | PlanReflected
    | PlanningEnded
    | ExecutionStarted
    | ExecutionEnded
    | Paused
)
"""The events of a run that a middleware may say."""

Said = EngineEvent | Aside
"""What comes to the tool loop: an engine's events, and what middlewares say beside them."""
