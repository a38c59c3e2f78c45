"""What a planner is told, and what it writes: plans as JSON, read with patience."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from webchat_widget.turns import Message, ToolSchema
from webchat_widget.typing import JSONObject

from .shortened import shortened

__all__ = ["MAX_TEXT", "PlanStep", "brief", "instructions", "read_step", "spoken"]

MAX_TEXT = 4000
"""Characters of each text of a plan."""
_MAX_TRIES = 20
"""Braces in a planner's text at which a plan is looked for."""
_MAX_DESCRIPTION = 300
_TEXTS = ("action", "reasoning", "strategy", "progress", "tool_name", "reflection", "directive")


class PlanStep(Struct, frozen=True, kw_only=True):
    """One step as the planner wrote it; what is None it did not say. `done` says that the plan is made."""

    action: str | None = None
    reasoning: str | None = None
    strategy: str | None = None
    progress: str | None = None
    tool_name: str | None = None
    reflection: str | None = None
    progress_score: float | None = None
    directive: str | None = None
    done: bool = True


def read_step(text: str) -> PlanStep | None:
    """The first JSON object in the text that is a step; None where there is none."""
    decoder = json.JSONDecoder()
    at = -1
    for _ in range(_MAX_TRIES):
        at = text.find("{", at + 1)
        if at < 0:
            return None
        try:
            found, _end = decoder.raw_decode(text, at)
            if isinstance(found, dict) and found.keys() & {*_TEXTS, "decision"}:
                return _step(found)
        except (ValueError, RecursionError):  # also what could be read may be too deep to be written
            continue
    return None


def _step(found: JSONObject) -> PlanStep:
    return PlanStep(
        **{name: _text(found.get(name)) for name in _TEXTS},
        progress_score=_score(found.get("progress_score")),
        done=str(found.get("decision")).strip().lower() != "continue",
    )


def _text(value: Any) -> str | None:
    """Models write a list or a number where a text was asked for."""
    if value is None or value == "":
        return None
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), MAX_TEXT)


def _score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(1.0, max(0.0, score)) if math.isfinite(score) else None


def instructions(system: str, tools: Sequence[ToolSchema], steps: int, *, reflect: bool) -> str:
    """What the planner is told. `system` is what the one who answers is told."""
    told = [_PLANNER.format(steps=steps, reflection=_REFLECTION if reflect else "")]
    if tools:
        known = "\n".join(f"- {tool.name}: {shortened(tool.description, _MAX_DESCRIPTION)}" for tool in tools)
        told.append(f"The one who answers has these tools:\n{known}")
    else:
        told.append("The one who answers has no tools.")
    if system:
        told.append(f"The one who answers is told:\n{system}")
    return "\n\n".join(told)


_PLANNER = """\
You plan how the person's last message is answered; another one answers it. Plan step by step, in at most \
{steps} steps. Each time you write one step, as one JSON object and nothing else, with these keys:
"action": what is to be done in this step
"reasoning": why
"strategy": the way to go as a whole
"progress": how far the plan is
"tool_name": the tool that the step needs, or null
{reflection}"decision": "continue" if the plan needs another step, "execute" if it is complete
"directive": with "execute", what the one who answers is to do, in a few sentences"""
_REFLECTION = """\
"reflection": what is good and what is weak in the plan so far
"progress_score": how complete the plan is, from 0 to 1
"""


def spoken(messages: Iterable[Message]) -> list[Message]:
    """What was said, without calls, results and the system message, the roles taking turns.

    A planner has no tools, and some servers refuse calls where there are none.
    """
    said: list[Message] = []
    for message in messages:
        if message.role not in ("user", "assistant") or not (message.content or message.images):
            continue
        before = said.pop() if said and said[-1].role == message.role else Message(message.role)
        text = "\n\n".join(part for part in (before.content, message.content) if part)
        said.append(Message(message.role, text, images=(*before.images, *message.images)))
    return said


def brief(row: JSONObject) -> str:
    """What the one who answers is told of the plan, from the props of its row."""
    steps = [
        f"{step['iterationIndex']}. {step.get('action') or step.get('reasoning')}"
        + (f" (tool: {step['toolName']})" if step.get("toolName") else "")
        for step in row.get("iterations", ())
        if step.get("action") or step.get("reasoning")
    ]
    directive = row.get("completed", {}).get("finalDirective", "")
    told = ["This plan was made for your answer:\n" + "\n".join(steps)] if steps else []
    return "\n\n".join((*told, directive) if directive else told)
