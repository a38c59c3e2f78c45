"""The tool loop: ask the model, run the tools that it asks for, ask again, until it is content.

Engine events go in, run events with our own ids come out; what strangers say is clean when it comes here
(`heard.py`). Whatever ends the loop (the model, a fault, a limit, a cancel), `close` ends what is open, so
that each call has its result, each message its status, and the turn that is kept is one that the next turn
can build on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import msgspec
from msgspec import Struct

from webchat_widget.engines.base import Engine
from webchat_widget.errors import EngineError
from webchat_widget.events import (
    Aside,
    CallRequest,
    Carried,
    Event,
    Finish,
    LogWritten,
    Retrying,
    RunEvent,
    TextChunk,
    TextDelta,
    TextEnded,
    TextStarted,
    ThinkingChunk,
    ThinkingModeDelta,
    Upserted,
)
from webchat_widget.middlewares.base import Middleware
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Message, ToolCall, Turn
from webchat_widget.typing import JSONObject, Usage

from .approvals import Approvals
from .calls import CALLING_RUN, Calls, Workshop, new, restored
from .checkpoint import Checkpoint
from .deadline import Deadline
from .inference import Inference, Pauses
from .own_events import upserted
from .registry import ToolRegistry
from .reports import Sink
from .row_queue import MAX_ROWS, RowRoom

__all__ = ["CALLING_RUN", "Limits", "Sink", "ToolLoop", "status_of"]

_MAX_BAD = 3
"""Calls in a row whose arguments don't fit, after which the model is not asked again."""


class Limits(Struct, frozen=True):
    """What a run may use up.

    `rounds`: requests to the model; `calls`: of tools, in one answer; `output`: characters of one tool
    result, and of what a tool prints; `tool_seconds`: run time of one tool; `text`: characters of all answers
    of the run, its thoughts, and what the provider wants back.
    """

    rounds: int = 20
    output: int = 50_000
    calls: int = 128
    tool_seconds: float = 120.0
    text: int = 4_000_000


class _Open(Struct):
    """The message that is being streamed, and its text so far."""

    id: str
    role: str
    since: float
    text: list[str]


class ToolLoop:
    """One run of a prompt. `history` ends with the user's message; `produced` holds what follows it.

    `tools` is asked for the tools whenever they are needed. `run_time` is the limit that stands still while
    a person is waited for; whoever runs the loop enters it.
    """

    def __init__(
        self,
        run_id: str,
        engine: Engine,
        history: Sequence[Message],
        tools: Callable[[], ToolRegistry],
        sink: Sink,
        approvals: Approvals,
        *,
        timeline: Projector,
        pauses: Pauses,
        middlewares: Sequence[Middleware] = (),
        model: str | None = None,
        limits: Limits | None = None,
        run_time: Deadline | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        log: logging.Logger | None = None,
    ) -> None:
        self._run_id = run_id
        self.history = tuple(history)
        self._tools = tools
        self._sink = sink
        self._approvals = approvals
        self._model = model
        self._limits = limits or Limits()
        self._run_time = run_time or Deadline()
        self._clock = clock
        self._now_ms = now_ms
        self._timeline = timeline
        self._log = log or logging.getLogger("webchat_widget")
        self._open: _Open | None = None
        self._counts: dict[str, int] = {}
        self._inference = Inference(
            run_id, engine, middlewares, timeline, pauses, self._next_id, self._settle, sink.record, self._log
        )
        self._text: list[str] = []
        """The messages of this answer, whole: a row and the model's memory share them."""
        self._carried: list[JSONObject] = []
        self._chars = 0
        self._rows = RowRoom()
        self._told_full = False
        self._bad = 0
        self._finish: Finish | None = None
        """How the last request ended."""
        self._calls: Calls | None = None
        """Those of the last answer, as long as it is not followed by their results."""
        self.produced: list[Message] = []
        self.has_text = False

    async def run(self) -> Finish:
        """Work until the model is done. Raises EngineError; then, as after a cancel, call `close`."""
        if self._calls is not None:
            await self._make_calls(self._calls)
        while self._inference.round < self._limits.rounds:
            self._inference.round += 1
            finish = await self._ask()
            if self._calls is None:
                return finish
            await self._make_calls(self._calls)
        raise EngineError(
            f"The model asked for tools {self._limits.rounds} times in one run and was stopped at that limit "
            "(c.WebChat.max_rounds).",
            code="tool_limit",
            retryable=False,
        )

    @property
    def usage(self) -> Usage | None:
        """What all requests of the run have cost."""
        return self._inference.usage

    @property
    def waits(self) -> bool:
        """Whether a call waits for a person: then the run can go on from its checkpoint."""
        return self._calls is not None and self._calls.asks

    def checkpoint(self) -> Checkpoint:
        """Where the run stands while its calls are open."""
        assert self._calls is not None
        return Checkpoint(
            said=self.history[-1].content,
            produced=tuple(self.produced),
            calls=self._calls.ids,
            counts=dict(self._counts),
            rounds=self._inference.round,
            requests=self._inference.records.count,
            chars=self._chars,
            has_text=self.has_text,
            bad=self._bad,
            left=self._run_time.left,
            usage=self.usage,
            decisions=dict(self._approvals.decisions),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Stand where a run stood, before `run`: how far its calls are, their rows say."""
        self.produced = list(checkpoint.produced)
        self._counts |= checkpoint.counts
        self._inference.records.go_on(checkpoint.requests)
        self._chars = checkpoint.chars
        self._bad = checkpoint.bad
        self.has_text = checkpoint.has_text
        self._inference.resume(checkpoint)
        self._calls = Calls(self._workshop(), restored(checkpoint, self._timeline))

    def suspend(self) -> list[RunEvent]:
        """End the calls that run, and leave those that wait for a person as they are."""
        return self._calls.suspend() if self._calls is not None else []

    def close(self, status: str, finish: Finish | None = None) -> list[RunEvent]:
        """End whatever is open; `status` is that of the message (`complete`, `stopped` …)."""
        events: list[RunEvent] = [*self._end_message(status, finish)]
        if self._text:
            # What the provider wants back belongs to an answer that is whole.
            carried = tuple(self._carried) if finish is not None else ()
            self.produced.append(Message("assistant", "".join(self._text), carried=carried))
            self._text = []
        events += self._inference.close(status)
        if self._calls is not None:
            calls, self._calls = self._calls, None
            events += calls.close()
            self.produced += calls.results()
        return events

    # -- the model -----------------------------------------------------------------------------------

    async def _ask(self) -> Finish:
        """One request: stream its text, keep the calls that it asks for."""
        turn = Turn((*self.history, *self.produced), self._tools().schemas(), self._model)
        requests: list[CallRequest] = []
        self._finish = None
        self._carried = []
        async with aclosing(self._inference.stream(turn)) as events:
            async for event in events:
                match event:
                    case TextChunk():
                        await self._write("assistant", event.text)
                    case ThinkingChunk():
                        await self._write("thinking", event.text)
                    case CallRequest():
                        requests.append(event)
                        self._check_count(requests)
                    case Carried():
                        self._carried.append(event.item)
                        self._chars += len(msgspec.json.encode(event.item))
                        self._check_length()
                    case Retrying():
                        await self._tell_of(event)
                    case Finish():
                        self._finish = event
                    case Event():
                        await self._say(upserted(event, self._run_id, self._next_id))
                    case ThinkingModeDelta() if not self._inference.has(event.id):
                        pass  # its row was left out, or never begun
                    case ThinkingModeDelta():
                        self._chars += len(event.text)
                        self._sink.delta(event)
                        self._check_length()
                    case _:
                        await self._say(event)
        finish: Finish | None = self._finish
        if finish is None:
            raise EngineError(
                "The model's answer ended before it was finished.", code="interrupted", retryable=True
            )
        if finish.reason == "tool_calls" and not requests:
            finish = Finish("stop", finish.usage, finish.model, finish.refused)
        if finish.reason != "tool_calls":
            return finish  # calls that were cut off by the length limit are dropped
        await self._hand_over(requests, finish)
        return finish

    def _check_count(self, requests: list[CallRequest]) -> None:
        if len(requests) > self._limits.calls:
            raise EngineError(
                f"The model asked for more than {self._limits.calls} tool calls in one answer, so none "
                "of them was made. Ask again for less at once.",
                code="tool_limit",
                retryable=False,
            )

    async def _hand_over(self, requests: list[CallRequest], finish: Finish) -> None:
        """The model waits for its tools: keep its message, number the calls, and note where we stand."""
        calls = tuple(ToolCall(r.call_id, r.name, r.arguments) for r in requests)
        carried = tuple(self._carried)
        ended = self._end_message("complete", finish)
        self.produced.append(Message("assistant", "".join(self._text), calls, carried=carried))
        self._text = []
        ids = [self._next_id("call") for _ in calls]
        offered = [self._inference.offered(call.id) for call in calls]
        self._calls = Calls(self._workshop(), new(ids, calls, offered))
        await self._sink.emit(*ended, checkpoints=((self._run_id, self.checkpoint().stored()),))

    async def _tell_of(self, event: Retrying) -> None:
        at = self._now_ms() + int(event.seconds * 1000)
        await self._say(
            LogWritten(
                id=self._next_id("log"),
                level="warning",
                message=event.message,
                fields={"retryAt": at},
            )
        )

    async def _write(self, role: str, text: str) -> None:
        """Stream a piece of text; a change between answer and thinking begins a new message."""
        if not text:
            return
        self._chars += len(text)
        if role == "assistant":
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
        self._check_length()

    async def _say(self, event: Aside | Upserted) -> None:
        """Give a row of its own to what is no text; text that follows stands below it."""
        if not self._inference.admits(event.id):
            if self._told_full:
                return
            self._told_full = True
            event = LogWritten(
                id=self._next_id("log"),
                level="warning",
                message=f"A run shows at most {MAX_ROWS:,} rows that its engine and its middlewares make. "
                "They made more, which were left out.",
                fields={},
            )
        await self._sink.emit(*self._settled(), event)

    async def _settle(self) -> None:
        if events := self._settled():
            await self._sink.emit(*events)

    def _settled(self) -> list[RunEvent]:
        """The end of the message that is being streamed: it is as whole as it will be."""
        return self._end_message(status_of(self._finish) if self._finish else "complete", self._finish)

    def _check_length(self) -> None:
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
        text = "".join(opened.text)
        if said:
            self._text.append(text)
        return [
            TextEnded(
                id=opened.id,
                role=opened.role,
                status=status,
                text=text,
                model=finish.model if finish else None,
                usage=finish.usage if finish and said else None,
                stop_reason=finish.reason if finish and said else None,
                duration_ms=int((self._clock() - opened.since) * 1000),
            )
        ]

    # -- the tools -----------------------------------------------------------------------------------

    async def _make_calls(self, calls: Calls) -> None:
        """Make the calls of the last answer, and put their results behind it."""
        await calls.make()
        self._calls = None
        results = calls.results()
        self.produced += results
        self._inference.records.results(results)
        for bad in calls.bad:
            self._bad = self._bad + 1 if bad else 0
            if self._bad == _MAX_BAD:
                raise EngineError(
                    f"The model called tools with arguments that don't fit {_MAX_BAD} times in a row and was "
                    "stopped. Ask again in other words, or choose a model that is better with tools.",
                    code="bad_tool_arguments",
                    retryable=True,
                )

    def _workshop(self) -> Workshop:
        return Workshop(
            run_id=self._run_id,
            tools=self._tools,
            sink=self._sink,
            approvals=self._approvals,
            run_time=self._run_time,
            output=self._limits.output,
            rows=self._rows,
            tool_seconds=self._limits.tool_seconds,
            clock=self._clock,
            log=self._log,
        )

    # -- small parts ---------------------------------------------------------------------------------

    def _next_id(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{self._run_id}:{kind}:{self._counts[kind]}"


def status_of(finish: Finish) -> str:
    """The status of the message that a request ended with."""
    if finish.refused or finish.reason == "content_filter":
        return "refused"
    return "truncated" if finish.reason == "length" else "complete"
