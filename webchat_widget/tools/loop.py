"""The tool loop: ask the model, run the tools that it asks for, ask again, until it is content.

Engine events go in, run events with our own ids come out; here is where the text of strangers is cleaned of
what no reader can take. Whatever ends the loop (the model, a fault, a limit, a cancel), `close` ends what is
open, so that each call has its result, each message its status, and the turn that is kept is one that the
next turn can build on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Protocol

from msgspec import Struct

from webchat_widget.engines.base import Engine
from webchat_widget.errors import EngineError
from webchat_widget.events import (
    CallDone,
    CallRequest,
    CallResult,
    CallStarted,
    Finish,
    RunEvent,
    TextChunk,
    TextDelta,
    TextEnded,
    TextStarted,
    ThinkingChunk,
)
from webchat_widget.requests import MAX_DEPTH
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.sem.text import clean
from webchat_widget.turns import Message, ToolCall, Turn
from webchat_widget.typing import JSONObject, Usage

from .output import bounded
from .registry import ToolRegistry

__all__ = ["CALLING_RUN", "Limits", "Sink", "ToolLoop"]

CALLING_RUN: ContextVar[str] = ContextVar("webchat_calling_run", default="")
"""The id of the run whose tool this code is, also on the tool's thread; empty outside of tools."""


class Limits(Struct, frozen=True):
    """What a run may use up.

    `rounds`: requests to the model; `output`: characters of one tool result; `tool_seconds`: run time of one
    tool; `text`: characters of the answer.
    """

    rounds: int = 20
    output: int = 50_000
    tool_seconds: float = 120.0
    text: int = 4_000_000


class Sink(Protocol):
    """Where run events go: the coordinator."""

    def emit(self, *events: RunEvent) -> Awaitable[None]:
        """Number events at once, store and send them; done when they are on disk."""
        ...

    def delta(self, event: TextDelta) -> None:
        """Send more text."""
        ...


class _Open(Struct):
    """The message that is being streamed, and its text so far."""

    id: str
    role: str
    since: float
    text: list[str]


class ToolLoop:
    """One run of a prompt. `history` ends with the user's message; `produced` holds what follows it."""

    def __init__(
        self,
        run_id: str,
        engine: Engine,
        history: Sequence[Message],
        tools: ToolRegistry,
        sink: Sink,
        *,
        model: str | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_id = run_id
        self._engine = engine
        self._history = tuple(history)
        self._tools = tools
        self._sink = sink
        self._model = model
        self._limits = limits or Limits()
        self._clock = clock
        self._open: _Open | None = None
        self._counts = {"text": 0, "thinking": 0, "call": 0}
        self._text: list[str] = []
        self._chars = 0
        self._waiting: list[tuple[str, ToolCall]] = []
        """Calls of the last assistant message that have no result yet; the first may be running."""
        self._running_since: float | None = None
        self.produced: list[Message] = []
        self.usage: Usage | None = None
        self.has_text = False

    async def run(self) -> Finish:
        """Work until the model is done. Raises EngineError; then, as after a cancel, call `close`."""
        for _ in range(self._limits.rounds):
            finish = await self._ask()
            if finish.reason != "tool_calls":
                return finish
            while self._waiting:
                await self._call(*self._waiting[0])
        raise EngineError(
            f"The model asked for tools {self._limits.rounds} times in one run and was stopped at that limit "
            "(c.WebChat.max_rounds).",
            code="tool_limit",
            retryable=False,
        )

    def close(self, status: str, finish: Finish | None = None) -> list[RunEvent]:
        """End whatever is open; `status` is that of the message (`complete`, `stopped` …)."""
        events: list[RunEvent] = []
        if self._text:
            self.produced.append(Message("assistant", "".join(self._text)))
            self._text = []
        events += self._end_message(status, finish)
        for entity_id, call in self._waiting:
            started, self._running_since = self._running_since, None
            if started is None:  # it never began: give it its row, so that the result has a call
                events.append(
                    CallStarted(id=entity_id, name=call.name, input=_shown(_parsed(call.arguments)))
                )
            said = "This tool call was cancelled."
            self.produced.append(Message("tool", said, tool_call_id=call.id))
            spent = 0.0 if started is None else self._clock() - started
            events += [
                CallResult(call_id=entity_id, result=said, error="cancelled"),
                CallDone(id=entity_id, status="cancelled", duration_ms=int(spent * 1000)),
            ]
        self._waiting = []
        return events

    # -- the model -----------------------------------------------------------------------------------

    async def _ask(self) -> Finish:
        """One request: stream its text, keep the calls that it asks for."""
        turn = Turn((*self._history, *self.produced), self._tools.schemas(), self._model)
        requests: list[CallRequest] = []
        finish: Finish | None = None
        async with aclosing(self._engine.stream(turn)) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case TextChunk():
                        await self._write("assistant", event.text)
                    case ThinkingChunk():
                        await self._write("thinking", event.text)
                    case CallRequest():
                        requests.append(event)
                    case Finish():
                        finish = _clean_finish(event)
        if finish is None:
            raise EngineError(
                "The model's answer ended before it was finished.", code="interrupted", retryable=True
            )
        self._add_usage(finish.usage)
        if finish.reason == "tool_calls" and not requests:
            finish = Finish("stop", finish.usage, finish.model, finish.refused)
        if finish.reason != "tool_calls":
            return finish  # calls that were cut off by the length limit are dropped
        await self._hand_over(requests, finish)
        return finish

    async def _hand_over(self, requests: list[CallRequest], finish: Finish) -> None:
        """The model waits for its tools: keep its message and number the calls."""
        calls = tuple(ToolCall(clean(r.call_id), clean(r.name), clean(r.arguments)) for r in requests)
        self.produced.append(Message("assistant", "".join(self._text), calls))
        self._text = []
        for call in calls:
            self._waiting.append((self._next_id("call"), call))
        if ended := self._end_message("complete", finish):
            await self._sink.emit(*ended)

    async def _write(self, role: str, text: str) -> None:
        """Stream a piece of text; a change between answer and thinking begins a new message."""
        text = clean(text)
        self._chars += len(text)
        if role == "assistant":
            self._text.append(text)
            self.has_text = True
        opened = self._open
        if opened is not None and opened.role == role:
            opened.text.append(text)
            self._sink.delta(TextDelta(opened.id, role, text))
        else:
            ended = self._end_message("complete", None)
            kind = "text" if role == "assistant" else "thinking"
            self._open = opened = _Open(self._next_id(kind), role, self._clock(), [text])
            saved = self._sink.emit(*ended, TextStarted(id=opened.id, role=role, model=self._model))
            # Before the wait: a cancel in it must not leave a message without text.
            self._sink.delta(TextDelta(opened.id, role, text))
            await saved
        if self._chars > self._limits.text:
            raise EngineError(
                f"The answer was stopped after {self._limits.text:,} characters (c.WebChat.max_text).",
                code="text_limit",
                retryable=False,
            )

    def _end_message(self, status: str, finish: Finish | None) -> list[RunEvent]:
        opened, self._open = self._open, None
        if opened is None:
            return []
        said = opened.role == "assistant"
        return [
            TextEnded(
                id=opened.id,
                role=opened.role,
                status=status,
                text="".join(opened.text),
                model=finish.model if finish else None,
                usage=finish.usage if finish and said else None,
                stop_reason=finish.reason if finish and said else None,
                duration_ms=int((self._clock() - opened.since) * 1000),
            )
        ]

    # -- the tools -----------------------------------------------------------------------------------

    async def _call(self, entity_id: str, call: ToolCall) -> None:
        """Run the first call that waits. What goes wrong in it is an answer to the model."""
        arguments = _parsed(call.arguments)
        # Before the wait: a cancel in it must not tell of the start again.
        self._running_since = started = self._clock()
        await self._sink.emit(CallStarted(id=entity_id, name=call.name, input=_shown(arguments)))
        status, result = await self._result(call.name, arguments)
        error = None if status == "completed" else result
        self._waiting.pop(0)
        self._running_since = None
        self.produced.append(Message("tool", result, tool_call_id=call.id))
        await self._sink.emit(
            CallResult(call_id=entity_id, result=result, error=error),
            CallDone(id=entity_id, status=status, duration_ms=int((self._clock() - started) * 1000)),
        )

    async def _result(self, name: str, arguments: JSONObject | str) -> tuple[str, str]:
        """Status and text of one call."""
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(t.name for t in self._tools) or "none"
            return "failed", f"There is no tool named {name[:100]!r}. Tools: {known}."
        if isinstance(arguments, str):
            return "failed", "The arguments were no JSON object. Send them again as one."
        deadline = asyncio.timeout(self._limits.tool_seconds)
        outside = CALLING_RUN.set(self._run_id)
        try:
            async with deadline:
                output = await tool.call(arguments, _Unheard())
        except Exception as error:  # a tool is a stranger's code: all it raises goes to the model, bounded
            if deadline.expired():  # a TimeoutError may be the tool's own
                return "timed_out", f"The tool took longer than {self._limits.tool_seconds:g} s."
            return "failed", clean(f"{type(error).__name__}: {error}"[:2000])
        finally:
            CALLING_RUN.reset(outside)
        return "completed", bounded(output, self._limits.output).text

    # -- small parts ---------------------------------------------------------------------------------

    def _next_id(self, kind: str) -> str:
        self._counts[kind] += 1
        return f"{self._run_id}:{kind}:{self._counts[kind]}"

    def _add_usage(self, usage: Usage | None) -> None:
        if usage is None:
            return
        had = self.usage or Usage(inputTokens=0, outputTokens=0, cachedTokens=0)
        self.usage = Usage(
            inputTokens=had["inputTokens"] + usage["inputTokens"],
            outputTokens=had["outputTokens"] + usage["outputTokens"],
            cachedTokens=had["cachedTokens"] + usage["cachedTokens"],
        )


def _clean_finish(finish: Finish) -> Finish:
    model = finish.model and clean(finish.model)
    return Finish(clean(finish.reason), finish.usage, model, finish.refused)


def _parsed(arguments: str) -> JSONObject | str:
    """The arguments as an object; the raw text where they are none, or lie too deep for a reader."""
    try:
        value = _each(
            json.loads(arguments or "{}"), lambda leaf: clean(leaf) if isinstance(leaf, str) else leaf
        )
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _shown(arguments: JSONObject | str) -> JSONObject | str:
    """The arguments for a reader: integers that JavaScript can't hold exactly become text."""
    shown: JSONObject | str = _each(
        arguments, lambda leaf: str(leaf) if isinstance(leaf, int) and abs(leaf) > MAX_SEQ else leaf
    )
    return shown


def _each(value: Any, change: Callable[[Any], Any], levels: int = MAX_DEPTH) -> Any:
    """A JSON value with every leaf and key changed. ValueError where it is deeper than `levels`."""
    if not isinstance(value, dict | list):
        return change(value)
    if levels == 0:
        raise ValueError("too deep")
    if isinstance(value, list):
        return [_each(item, change, levels - 1) for item in value]
    return {change(key): _each(item, change, levels - 1) for key, item in value.items()}


class _Unheard:
    def progress(self, value: float | None, text: str = "") -> None: ...
    def stdout(self, text: str) -> None: ...
    def status(self, status: str) -> None: ...
