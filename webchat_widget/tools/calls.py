"""The calls of one answer: made at the same time, each asked for where it must be, and each with a result.

A call is `new` (it has no row), `asking` (a person), `running`, or `ended`. What changes is noted before it
is stored: whoever is cancelled while something is being stored leaves things as they are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from msgspec import Struct

from webchat_widget.events import CallDelta, CallDone, CallResult, CallStarted, RunEvent
from webchat_widget.sem.text import clean
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Message, ToolCall
from webchat_widget.typing import JSONObject

from .approvals import Approvals, Question
from .arguments import digest_of, parsed, shown
from .checkpoint import INTERRUPTED, Checkpoint, result_of
from .deadline import Deadline
from .output import Output, bounded
from .registry import BadArguments, Tool, ToolCancelled, ToolRegistry
from .reports import CallReport, Sink
from .row_queue import RowRoom
from .threads import said_by

__all__ = ["CALLING_RUN", "Call", "Calls", "Workshop", "new", "restored"]

CALLING_RUN: ContextVar[str] = ContextVar("webchat_calling_run", default="")
"""The id of the run whose tool this code is, also on the tool's thread; empty outside of tools."""

_AT_ONCE = 8
_END_SECONDS = 5.0
"""For so long a call that was cancelled may take to end what it began."""
_MAX_MESSAGE = 2000
_CANCELLED = "This tool call was cancelled."


class Workshop(Struct, frozen=True):
    """What calls are made with. `run_time` stands still while a person is waited for."""

    run_id: str
    tools: Callable[[], ToolRegistry]
    sink: Sink
    approvals: Approvals
    run_time: Deadline
    output: int
    rows: RowRoom
    tool_seconds: float
    clock: Callable[[], float]
    log: logging.Logger


class Call:
    """One call of an answer."""

    def __init__(self, id: str, made: ToolCall, offered: tuple[str, ...] | None = None) -> None:
        self.id = id
        self.made = made
        self.offered = offered
        """The tools that the model was told of when it asked; None where a restart has forgotten it."""
        self.stage = "new"
        self.question: Question | None = None
        self.since: float | None = None
        self.report: CallReport | None = None
        self.result = ""
        self.bad = False
        """Its arguments did not fit."""


class _Ended(Exception):
    """The end of a call before its tool gave anything: status, and text for the model."""

    def __init__(self, status: str, text: str, *, bad: bool = False) -> None:
        self.status = status
        self.text = text
        self.bad = bad


class Calls:
    """Makes the calls of one answer."""

    def __init__(self, shop: Workshop, calls: Sequence[Call]) -> None:
        self._shop = shop
        self._calls = calls
        self._slots = asyncio.Semaphore(_AT_ONCE)
        for call in calls:
            if call.question is not None:
                shop.approvals.open(call.question)

    @property
    def ids(self) -> tuple[str, ...]:
        """Our ids of the calls, in their order."""
        return tuple(call.id for call in self._calls)

    @property
    def bad(self) -> list[bool]:
        """Of each call, whether its arguments did not fit."""
        return [call.bad for call in self._calls]

    @property
    def asks(self) -> bool:
        """Whether a person has yet to say something."""
        return any(call.stage == "asking" for call in self._calls)

    async def make(self) -> None:
        """Make all that have not ended. What goes wrong in one is an answer to the model."""
        tasks = [
            asyncio.create_task(self._make(call), name=f"webchat-call-{call.id}")
            for call in self._calls
            if call.stage != "ended"
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_END_SECONDS)

    def results(self) -> list[Message]:
        """What all gave, in the order in which they were asked for."""
        return [Message("tool", call.result, tool_call_id=call.made.id) for call in self._calls]

    def close(self) -> list[RunEvent]:
        """End those that have not ended."""
        self._close_questions()
        return [event for call in self._calls if call.stage != "ended" for event in self._cancelled(call)]

    def suspend(self) -> list[RunEvent]:
        """End those that run; those that wait for a person go on doing so when they are restored."""
        self._close_questions()
        running = [call for call in self._calls if call.stage == "running"]
        return [event for call in running for event in self._cancelled(call)]

    def _close_questions(self) -> None:
        for call in self._calls:
            if call.question is not None:
                self._shop.approvals.close(call.question)

    # -- one call ------------------------------------------------------------------------------------

    async def _make(self, call: Call) -> None:
        CALLING_RUN.set(self._shop.run_id)
        try:
            output = await self._output(call)
        except _Ended as end:
            call.bad = end.bad
            await self._end(call, end.status, Output(end.text))
        else:
            await self._end(call, "completed", output)

    async def _output(self, call: Call) -> Output:
        if call.stage == "running":  # it was when the host died, and is not made twice
            raise _Ended("cancelled", INTERRUPTED)
        arguments = parsed(call.made.arguments)
        if call.stage == "new":
            async with self._slots:  # a predicate has a thread of its own
                call.question = await self._question(call, arguments)
            if call.question is not None:
                call.stage = "asking"
                self._shop.approvals.open(call.question)
                asking = {"status": "asking", "approval": call.question.approval("pending")}
                await self._shop.sink.emit(
                    self._started(call, arguments), CallDelta(id=call.id, patch=asking)
                )
        if call.question is not None:  # who waits for a person holds no slot
            await self._wait_for_yes(call.question)
        async with self._slots:
            return await self._run(call, arguments)

    async def _question(self, call: Call, arguments: JSONObject | str) -> Question | None:
        """What a person is to be asked first; None where nobody need be."""
        if isinstance(arguments, str):
            raise _Ended("failed", "The arguments were no JSON object. Send them again as one.", bad=True)
        tool, name, approvals = self._tool(call), call.made.name, self._shop.approvals
        try:
            # The arguments anew, here and when it is called: what a tool is given, it may change.
            asks = await tool.asks(_again(call))
        except BadArguments as error:
            raise _Ended("failed", str(error)[:_MAX_MESSAGE], bad=True) from None
        except Exception:  # who can't tell has to ask
            self._shop.log.exception("webchat: whether %s must be asked for is not known", name)
            asks = True
        grantable = tool.approval != "each"
        if not asks or (grantable and approvals.granted(name)):
            return None
        return Question(call.id, name, digest_of(name, arguments), approvals.expires_at(), grantable)

    async def _wait_for_yes(self, question: Question) -> None:
        self._shop.run_time.pause()
        try:
            verdict = await self._shop.approvals.answer(question)
        finally:
            self._shop.run_time.resume()
        if verdict.state == "expired":
            raise _Ended("denied", "Nobody allowed this call in time, so it was not made.")
        if not verdict.yes:
            reason = f" They say: {verdict.reason}" if verdict.reason else ""
            raise _Ended("denied", f"The person did not allow this call.{reason}")

    async def _run(self, call: Call, arguments: JSONObject | str) -> Output:
        shop = self._shop
        tool = self._tool(call)
        asked = call.stage == "asking"
        call.stage, call.since = "running", shop.clock()
        # On disk before the tool is called: after a crash it is not called again.
        await shop.sink.emit(
            CallDelta(id=call.id, patch={"status": "running"}) if asked else self._started(call, arguments)
        )
        limit = Deadline(shop.tool_seconds)
        call.report = CallReport(shop.run_id, call.id, shop.sink, shop.output, _pausing(limit), shop.rows)
        try:
            async with limit:
                return await tool.call(_again(call), call.report)
        except BadArguments as error:
            raise _Ended("failed", str(error)[:_MAX_MESSAGE], bad=True) from None
        except ToolCancelled:
            raise _Ended("cancelled", "The person interrupted this tool call.") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _Ended("cancelled", _CANCELLED) from None  # the tool gave up by itself
        except Exception as error:  # a tool is a stranger's code: all it raises goes to the model, bounded
            if limit.expired:  # a TimeoutError may be the tool's own
                raise _Ended("timed_out", f"The tool took longer than {shop.tool_seconds:g} s.") from None
            shop.log.warning("webchat: the tool %s failed", tool.name, exc_info=error)
            raise _Ended("failed", clean(said_by(error)[:_MAX_MESSAGE])) from None

    def _tool(self, call: Call) -> Tool:
        tools = self._shop.tools()
        if call.offered is not None:  # what was kept from the model is not there for it, whatever it asks for
            tools = tools.only(call.offered)
        tool = tools.get(call.made.name)
        if tool is None:
            known = ", ".join(tools.names) or "none"
            raise _Ended("failed", f"There is no tool named {call.made.name[:100]!r}. Tools: {known}.")
        return tool

    # -- events --------------------------------------------------------------------------------------

    def _started(self, call: Call, arguments: JSONObject | str) -> CallStarted:
        return CallStarted(id=call.id, name=call.made.name, input=shown(arguments))

    async def _end(self, call: Call, status: str, output: Output) -> None:
        await self._shop.sink.emit(*self._ended(call, status, bounded(output, self._shop.output)))

    def _cancelled(self, call: Call) -> list[RunEvent]:
        closing: list[RunEvent] = []
        if call.stage == "asking" and call.question is not None:
            closing.append(CallDelta(id=call.id, patch={"approval": call.question.approval("expired")}))
        return closing + self._ended(call, "cancelled", Output(_CANCELLED), error="cancelled")

    def _ended(self, call: Call, status: str, output: Output, error: str | None = None) -> list[RunEvent]:
        shop = self._shop
        told: list[RunEvent] = call.report.end() if call.report is not None else []
        if call.stage == "new":  # give it its row, so that the result has a call
            told.append(self._started(call, parsed(call.made.arguments)))
        call.stage, call.result = "ended", output.text
        if status != "completed":
            error = error or output.text
        spent = 0.0 if call.since is None else shop.clock() - call.since
        return [
            *told,
            CallResult(call_id=call.id, result=output.text, mime=output.mime, error=error),
            CallDone(id=call.id, status=status, duration_ms=int(spent * 1000)),
        ]


def new(
    ids: Sequence[str], made: Sequence[ToolCall], offered: Sequence[tuple[str, ...] | None]
) -> list[Call]:
    """The calls of an answer that has just come, each with the tools that its request offered."""
    return [Call(*each) for each in zip(ids, made, offered, strict=True)]


def restored(checkpoint: Checkpoint, timeline: Projector) -> list[Call]:
    """The calls of an answer as their rows left them when the host ended."""
    return [_restored(Call(id, made), timeline) for id, made in checkpoint.made()]


def _restored(call: Call, timeline: Projector) -> Call:
    row = timeline.row(call.id)
    if row is None:
        return call
    result = result_of(call.id, timeline)
    approval = row["props"].get("approval")
    if is_terminal(row) and result is not None:
        call.stage, call.result = "ended", result
    elif row["props"].get("status") == "asking" and isinstance(approval, dict):
        call.stage = "asking"
        digest = digest_of(call.made.name, _again(call))
        expires_at, grantable = int(approval.get("expiresAt", 0)), approval.get("always") is not False
        call.question = Question(call.id, call.made.name, digest, expires_at, grantable)
    else:
        call.stage = "running"
    return call


def _again(call: Call) -> JSONObject:
    arguments = parsed(call.made.arguments)
    return arguments if isinstance(arguments, dict) else {}


def _pausing(limit: Deadline) -> Callable[[str], None]:
    """The time of a tool stands still while it waits for the kernel."""
    waiting = False

    def on_status(status: str) -> None:
        nonlocal waiting
        if (status == "waiting") is not waiting:
            waiting = not waiting
            (limit.pause if waiting else limit.resume)()

    return on_status
