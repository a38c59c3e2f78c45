"""Step mode: a person looks at what the model wants before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from webchat_widget.events import CallRequest, Finish
from webchat_widget.turns import ToolCall, Turn

from .base import Ask, Middleware, RunView, Stream
from .shortened import shortened

__all__ = ["Step"]

_MAX_ARGUMENTS = 200
_MAX_SUMMARY = 1000


class Step(Middleware, frozen=True):
    """Pauses a run that uses tools, until a person lets it go on, at most for so many `seconds`.

    `after_inference`: the model has asked for tools, and none has begun. `after_tools`: all have answered,
    and the model has not been told. An answer that asks for nothing is not paused: nothing follows it.
    """

    name: ClassVar[str] = "step"
    phases: tuple[Literal["after_inference", "after_tools"], ...] = ("after_inference", "after_tools")
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 600.0

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Ask, with a pause before it, after it, or both."""
        if "after_tools" in self.phases and turn.messages and turn.messages[-1].role == "tool":
            await run.pause("after_tools", _answered(turn), self.seconds)
        requests: list[CallRequest] = []
        goes_on = False
        async with aclosing(ask(turn)) as said:
            async for each in said:
                if isinstance(each, CallRequest):
                    requests.append(each)
                elif isinstance(each, Finish):
                    goes_on = each.reason == "tool_calls"
                yield each
        # The tools are called when this stream has ended.
        if "after_inference" in self.phases and goes_on and requests:
            await run.pause("after_inference", _asked(requests), self.seconds)


def _asked(calls: Sequence[CallRequest]) -> str:
    each = ", ".join(f"{call.name}({shortened(call.arguments, _MAX_ARGUMENTS)})" for call in calls)
    return shortened(f"The model asks for {_tools(len(calls))}: {each}", _MAX_SUMMARY)


def _answered(turn: Turn) -> str:
    results = 0
    calls: tuple[ToolCall, ...] = ()
    for message in reversed(turn.messages):
        if message.role != "tool":
            calls = message.tool_calls
            break
        results += 1
    names = ", ".join(call.name for call in calls)
    return shortened(f"The model is about to be told what {_tools(results)} gave: {names}", _MAX_SUMMARY)


def _tools(count: int) -> str:
    return "1 tool" if count == 1 else f"{count} tools"
