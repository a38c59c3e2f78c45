"""Speaks in the place of runs: events such as the tool loop and middlewares make, in an order that can be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from webchat_widget import events as ev
from webchat_widget.requests import ChatRequest
from webchat_widget.runtime.conversation import Conversation
from webchat_widget.runtime.coordinator import StreamCoordinator
from webchat_widget.timeline.entities import is_open
from webchat_widget.timeline.store import PendingRun, TurnRecord
from webchat_widget.tools.endings import ending
from webchat_widget.tools.own_events import OwnRow
from webchat_widget.turns import Message
from webchat_widget.typing import JSONObject

__all__ = ["Speaker"]

_TEXTS = (
    "a",
    "one two ",
    "\N{GRINNING FACE}",
    "é\n",
    "x\N{MATHEMATICAL FRAKTUR SMALL Y}",
    "\N{FAMILY}\N{MAN}!",
)
_END = {"complete": "finished", "truncated": "finished", "stopped": "stopped", "error": "failed"}
_AT_ONCE = 3
"""More runs are not under way: in truth it is one, but what they say is in each other's way here."""
_OWN = 3


class _Run:
    def __init__(self, id: str, request: ChatRequest) -> None:
        self.id = id
        self.request = request
        self.counts: dict[str, int] = {}
        self.requests = 0

    def new(self, what: str) -> str:
        self.counts[what] = n = self.counts.get(what, 0) + 1
        return f"{self.id}:{what}:{n}"


class Speaker:
    """Each method is a step; its numbers choose, from whatever there is, what it is about.

    `emit` waits for what is handed in, and says whether it is on disk.
    """

    def __init__(self, emit: Callable[[Awaitable[Any]], asyncio.Task[bool]]) -> None:
        self._emit = emit
        self._runs: list[_Run] = []
        self._queue: list[_Run] = []
        self._made = 0
        self._conversation: Conversation | None = None

    def begin(self, conversation: Conversation) -> None:
        """Speak in this conversation from now on; what was under way has ended, or is the host's own."""
        self._conversation = conversation
        self._runs, self._queue = [], []

    # -- runs ----------------------------------------------------------------------------------------

    def prompt(self, a: int, b: int) -> None:
        """A prompt is accepted: it runs at once, or waits."""
        self._made += 1
        run = _Run(f"r{self._made}", ChatRequest(prompt=_text(b), conv_id="c", key=f"k{self._made}"))
        at_once = a % 2 == 0 and len(self._runs) < _AT_ONCE
        place = 0 if at_once else len(self._queue) + 1
        events = self._announced(run) if at_once else [self._placed(run, "queued", place)]
        saved = self._emit(
            self._stream.emit(*events, undo=True, pending=(self._pending(run, at_once),), title="x")
        )
        self._then(
            saved, lambda stored: (self._runs if at_once else self._queue).append(run) if stored else None
        )

    def start(self, a: int, b: int) -> None:
        """The next one that waits begins."""
        if not self._queue or len(self._runs) >= _AT_ONCE:
            return self.prompt(a, b)
        run = self._queue.pop(0)
        moved = [self._placed(each, "queued", place) for place, each in enumerate(self._queue, 1)]
        saved = self._emit(
            self._stream.emit(*self._announced(run), *moved, pending=(self._pending(run, True),))
        )
        self._then(saved, lambda stored: self._runs.append(run) if stored else self._end(run, "error", b))

    def finish(self, a: int, b: int) -> None:
        """A run comes to its end, with all that is open of it."""
        if (run := self._run(a)) is None:
            return
        self._runs.remove(run)
        self._end(run, list(_END)[b % len(_END)], b)

    def finish_all(self) -> None:
        """All runs come to their ends."""
        while self._runs:
            self.finish(0, 0)

    # -- what a run says -----------------------------------------------------------------------------

    def text(self, a: int, b: int) -> None:
        """It says or thinks a little more."""
        if (run := self._run(a)) is None:
            return
        role = "thinking" if a % 5 == 4 else "assistant"
        row = next((each for each in self._open(run, "message") if each["props"]["role"] == role), None)
        if row is None:
            id = run.new("thinking" if role == "thinking" else "text")
            self._say(ev.TextStarted(id=id, role=role, model="m" if b % 2 else None))
        else:
            id = row["id"]
        for more in range(1 + b % 3):
            self._stream.delta(ev.TextDelta(id=id, role=role, text=_text(b + more)))

    def end_text(self, a: int, b: int) -> None:
        """A message is whole; with its text, or without."""
        if (row := self._opened(a, "message")) is not None:
            self._say(self._ended_text(row, "complete", whole=b % 2 == 0))

    def call(self, a: int, b: int) -> None:
        """A tool is called, asks, tells how far it is, prints, or is done."""
        if (run := self._run(a)) is None:
            return
        row = self._opened(a, "tool_call")
        what = b % 6
        if row is None or what == 0:
            given: JSONObject | str = {"n": b} if b % 2 else "{half"
            return self._say(ev.CallStarted(id=run.new("call"), name="area", input=given))
        id = row["id"]
        if what == 1:
            approval = {
                "digest": "d",
                "expiresAt": 9_007_199_254_740_991,
                "state": ("pending", "once")[a % 2],
            }
            status = ("asking", "running")[a % 2]
            self._say(ev.CallDelta(id=id, patch={"status": status, "approval": approval}))
        elif what == 2:
            self._say(ev.CallDelta(id=id, patch={"progress": {"value": 0.5, "text": _text(a)}}))
        elif what < 5:
            self._stream.delta(ev.CallOutput(id=id, text=_text(a)))
        else:
            self._say(*self._ended_call(id, "completed"))

    def log(self, a: int, b: int) -> None:
        """A line for the log, or the same one again."""
        if (run := self._run(a)) is not None:
            id = run.new("log") if b % 3 else f"{run.id}:log"
            self._say(
                ev.LogWritten(id=id, level="info", message=_text(b), fields={"retryAt": b, "half": 0.5})
            )

    def mode(self, a: int, b: int) -> None:
        """The agent works in another mode."""
        if (run := self._run(a)) is not None:
            data = {"from": None, "to": _text(b)}
            self._say(ev.AgentModeChanged(id=f"{run.id}:agent_mode", title=_text(a), data=data))

    def phase(self, a: int, b: int) -> None:
        """It thinks in a phase."""
        if (run := self._run(a)) is None:
            return
        row = self._opened(a, "thinking_mode")
        if row is None:
            self._say(ev.ThinkingModeStarted(id=run.new("thinking_mode"), mode="deep", phase=_text(b)))
        elif b % 4:
            self._stream.delta(ev.ThinkingModeDelta(id=row["id"], text=_text(b)))
        else:
            self._say(
                ev.ThinkingModeEnded(id=row["id"], success=a % 2 == 0, error=None if a % 2 == 0 else "cut")
            )

    def plan(self, a: int, b: int) -> None:
        """It plans: a step, a look back, the end of planning, the start and end of what was planned."""
        if (run := self._run(a)) is None:
            return
        row = self._opened(a, "planning")
        if row is None:
            id, what = run.new("planning"), -1
        else:
            id, what = row["id"], b % 6
        event: ev.RunEvent
        if what < 0:
            event = ev.PlanningStarted(
                id=id, run_id=run.id, provider="p", planner_model="m" if b % 2 else None, max_iterations=3
            )
        elif what < 2:
            event = ev.PlanStepped(
                id=id, index=1 + a % 3, action=_text(b), progress=_text(a) if b % 2 else None
            )
        elif what == 2:
            event = ev.PlanReflected(id=id, index=1 + a % 3, text=_text(b), progress_score=0.25)
        elif what == 3:
            event = ev.PlanningEnded(
                id=id, total_iterations=2, final_decision="execute", final_directive=_text(b)
            )
        elif what == 4:
            event = ev.ExecutionStarted(id=id, executor_model=None, directive=_text(b))
        else:
            event = ev.ExecutionEnded(id=id, status="completed", tokens_used=b, response_length=a)
        self._say(event)

    def pause(self, a: int, b: int) -> None:
        """It waits for a look of a person, or goes on."""
        if (run := self._run(a)) is None:
            return
        row = self._opened(a, "debugger_pause")
        id, status = (run.new("pause"), "paused") if row is None else (row["id"], "continued")
        self._say(ev.Paused(id=id, phase="after_tools", summary=_text(b), deadline_ms=b, status=status))

    def row(self, a: int, b: int) -> None:
        """A row of an own kind."""
        if (run := self._run(a)) is not None:
            id = f"{run.id}:event:note:{a % _OWN}"
            self._say(ev.Upserted(id=id, kind="note", props={f"p{b % 3}": _text(b), "n": b}))

    def own(self, a: int, b: int) -> None:
        """A row of an own kind outside of any run: it is there when it is on disk, or not at all."""
        assert self._conversation is not None
        row = OwnRow("note", str(a % _OWN), {f"p{b % 3}": _text(b), "n": b}, 0)
        self._emit(self._conversation.emit(row))

    def record(self, a: int, b: int) -> None:
        """What the model is sent is kept, under a number that no frame has."""
        if (run := self._run(a)) is not None:
            run.requests += 1
            said = (Message("user", _text(b)),)
            self._stream.record(
                TurnRecord(run_id=run.id, n=run.requests, phase="pre_inference", messages=said)
            )

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def _stream(self) -> StreamCoordinator:
        assert self._conversation is not None
        return self._conversation.stream

    def _say(self, *events: ev.RunEvent, **parts: Any) -> None:
        self._emit(self._stream.emit(*events, **parts))

    def _then(self, saved: asyncio.Task[bool], go_on: Callable[[bool], None]) -> None:
        """Go on when it is known whether something is on disk, unless the host is another by then."""
        conversation = self._conversation

        def known(done: asyncio.Task[bool]) -> None:
            if not done.cancelled() and self._conversation is conversation:
                go_on(done.result())

        saved.add_done_callback(known)

    def _end(self, run: _Run, status: str, b: int) -> None:
        events = self._closing(run, status)
        if status == "error":
            events.append(
                ev.ErrorRaised(id=f"{run.id}:error", message="It broke.", code="broken", retryable=True)
            )
        events.append(
            ev.RunChanged(
                id=run.id, status=_END[status], stop_reason=status, model="m", usage={"inputTokens": b}
            )
        )
        turn = (Message("user", run.request.prompt), Message("assistant", "Well."))
        self._say(*events, ended=(run.id,), turns=((run.id, turn if b % 2 else ()),))

    def _run(self, a: int) -> _Run | None:
        """One that is under way; None where there is none yet, but there will be."""
        if not self._runs:
            self.start(0, a)
            return None
        return self._runs[a % len(self._runs)]

    def _open(self, run: _Run, kind: str = "") -> list[JSONObject]:
        """The rows of a run that have not ended, of one kind or of all that end."""
        return [
            row
            for row in self._stream.timeline.rows()
            if row["id"].startswith(f"{run.id}:") and is_open(row) and kind in ("", row["kind"])
        ]

    def _opened(self, a: int, kind: str) -> JSONObject | None:
        run = self._run(a)
        rows = self._open(run, kind) if run is not None else []
        return rows[a % len(rows)] if rows else None

    def _closing(self, run: _Run, status: str) -> list[ev.RunEvent]:
        events: list[ev.RunEvent] = []
        for row in self._open(run):
            if row["kind"] == "message":
                events.append(self._ended_text(row, status, whole=False))
            elif row["kind"] == "tool_call":
                events += self._ended_call(row["id"], "cancelled")
            elif (end := ending(row, status)) is not None:
                events.append(end)
        return events

    def _ended_text(self, row: JSONObject, status: str, *, whole: bool) -> ev.RunEvent:
        props = row["props"]
        text = props["content"] + "." if whole else None
        return ev.TextEnded(
            id=row["id"], role=props["role"], status=status, text=text, usage={"outputTokens": 1}
        )

    def _ended_call(self, id: str, status: str) -> list[ev.RunEvent]:
        result = ev.CallResult(call_id=id, result="316", mime={"text/html": "<b>316</b>"})
        return [result, ev.CallDone(id=id, status=status, duration_ms=5)]

    def _announced(self, run: _Run) -> list[ev.RunEvent]:
        props = {"role": "user", "content": run.request.prompt, "idempotencyKey": run.request.key}
        return [
            self._placed(run, "started", 0),
            ev.Upserted(id=f"{run.id}:user", kind="message", props=props),
        ]

    def _placed(self, run: _Run, status: str, place: int) -> ev.RunChanged:
        request = run.request
        return ev.RunChanged(
            id=run.id, status=status, prompt=request.prompt, queue_position=place, idempotency_key=request.key
        )

    def _pending(self, run: _Run, started: bool) -> PendingRun:
        request: JSONObject = msgspec.to_builtins(run.request)
        return PendingRun(run.id, self._stream.version + 1, started, request)


def _text(choice: int) -> str:
    return _TEXTS[choice % len(_TEXTS)]
