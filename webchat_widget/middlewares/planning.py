"""A plan before the answer: a planner is asked first, step by step."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, ClassVar

from msgspec import Meta

from webchat_widget.errors import EngineError
from webchat_widget.events import (
    CallRequest,
    Carried,
    ExecutionEnded,
    ExecutionStarted,
    Finish,
    PlanningEnded,
    PlanningStarted,
    PlanReflected,
    PlanStepped,
    TextChunk,
    ThinkingChunk,
)
from webchat_widget.turns import Message, Turn

from .base import Ask, Middleware, RunView, Stream
from .plans import MAX_TEXT, brief, instructions, read_step, spoken
from .shortened import shortened
from .system_prompt import SystemPrompt

__all__ = ["Planning"]

_MAX_PLANNER = 32_000
"""Characters of one answer of the planner, after which it is not listened to any more."""


class Planning(Middleware, frozen=True):
    """Has a plan made before the run's first answer, in at most `max_iterations` steps, and tells it to the
    one who answers.

    The planner is `model`, or else the run's own. With `reflect` it judges its plan at each step. It has no
    tools, but knows of those that there are, and nothing that it says is part of the answer.
    """

    name: ClassVar[str] = "planning"
    model: str | None = None
    max_iterations: Annotated[int, Meta(ge=1, le=20)] = 3
    reflect: bool = True

    @property
    def models(self) -> tuple[str, ...]:
        """The planner's."""
        return () if self.model is None else (self.model,)

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Plan where nothing is planned yet; then ask as the plan says, and say how it ended."""
        if run.round == 1 and run.last("planning", mine=True) is None:
            async with aclosing(self._plan(turn, ask, run)) as planned:
                async for step in planned:
                    yield step
        plan = run.last("planning", mine=True)
        if plan is not None:
            turn = SystemPrompt(brief(plan), "after").prepare(turn, run)
        length, called = _said_before(turn), False
        finish: Finish | None = None
        async with aclosing(ask(turn)) as said:
            async for each in said:
                match each:
                    case TextChunk():
                        length += len(each.text)
                    case CallRequest():
                        called = True
                    case Finish():
                        finish = each
                yield each
        if plan is None or finish is None or (called and finish.reason == "tool_calls"):
            return
        usage = run.usage
        yield ExecutionEnded(
            id=plan["id"],
            status="completed",
            tokens_used=usage["inputTokens"] + usage["outputTokens"] if usage is not None else None,
            response_length=length,
        )

    async def _plan(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """The plan, to its end and the beginning of what follows it."""
        id = run.new_id("planning")
        yield PlanningStarted(
            id=id,
            run_id=run.id,
            provider=run.engine,
            planner_model=self.model or turn.model,
            max_iterations=self.max_iterations,
        )
        written: list[str] = []
        directive, why = "", f"All {self.max_iterations} steps were used up."
        index = 0
        try:
            for index in range(1, self.max_iterations + 1):
                text: list[str] = []
                async with aclosing(_overheard(ask(self._planners(turn, written)), text)) as beside:
                    async for each in beside:
                        yield each
                written.append("".join(text).strip())
                if not written[-1]:  # it asked for a tool, say
                    why = f"The planner wrote nothing in step {index}."
                    index -= 1
                    break
                step = read_step(written[-1])
                if step is None:
                    # A model that can't write JSON may have thought well all the same.
                    yield PlanStepped(id=id, index=index, reasoning=shortened(written[-1], MAX_TEXT))
                    why = "The planner wrote no JSON; what it wrote is the plan."
                    break
                yield PlanStepped(
                    id=id,
                    index=index,
                    action=step.action,
                    reasoning=step.reasoning,
                    strategy=step.strategy,
                    progress=step.progress,
                    tool_name=step.tool_name,
                )
                if self.reflect and (step.reflection or step.progress_score is not None):
                    yield PlanReflected(
                        id=id, index=index, text=step.reflection or "", progress_score=step.progress_score
                    )
                directive = step.directive or directive
                if step.done:
                    why = "The planner decided so."
                    break
        except EngineError as error:
            yield PlanningEnded(
                id=id, total_iterations=index - 1, final_decision="error", status_reason=error.message
            )
            raise
        yield PlanningEnded(
            id=id,
            total_iterations=index,
            final_decision="execute",
            status_reason=why,
            final_directive=directive,
        )
        yield ExecutionStarted(id=id, executor_model=turn.model, directive=directive)

    def _planners(self, turn: Turn, written: list[str]) -> Turn:
        """The planner's turn, after the steps that it has written."""
        system = "\n\n".join(message.content for message in turn.messages if message.role == "system")
        told = instructions(system, turn.tools, self.max_iterations, reflect=self.reflect)
        asked = list(turn.messages)
        for index, text in enumerate((*written, ""), 1):
            asked.append(
                Message("user", f"Write step {index} of at most {self.max_iterations} now, as JSON.")
            )
            asked.append(Message("assistant", text))
        return Turn((Message("system", told), *spoken(asked)), model=self.model or turn.model)


def _said_before(turn: Turn) -> int:
    """Characters that were answered since the person spoke."""
    length = 0
    for message in reversed(turn.messages):
        if message.role == "user":
            break
        length += len(message.content) if message.role == "assistant" else 0
    return length


async def _overheard(said: Stream, text: list[str]) -> Stream:
    """Collect what the planner says in `text`; what else is said beside it goes on."""
    length = 0
    async with aclosing(said):
        async for each in said:
            match each:
                case TextChunk():
                    text.append(each.text)
                    length += len(each.text)
                    if length > _MAX_PLANNER:
                        return
                case ThinkingChunk() | CallRequest() | Carried() | Finish():
                    pass
                case _:
                    yield each
