"""A run to stand in: rows that are really folded, and a model that says what the test tells it to."""

from __future__ import annotations

import logging
from typing import Any

from tests.runtime.conftest import start
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.events import Aside, Said, TextChunk, ThinkingModeDelta
from webchat_widget.middlewares.base import Middleware, stack
from webchat_widget.sem.translator import translate
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Message, ToolCall, ToolSchema, Turn
from webchat_widget.typing import JSONObject, Usage

__all__ = ["Run", "answer", "called", "start", "tool_of", "turn_of"]

PROMPT = Message("user", "Why is the sky blue?")


class Run:
    """What a middleware sees, and the rows of what it says."""

    id = "r"
    engine = "scripted"
    log = logging.getLogger("tests.middlewares")

    def __init__(self, *scripts: Any, usage: Usage | None = None) -> None:
        self.model = ScriptedEngine(*scripts)
        self.round = 1
        self.usage = usage
        self.timeline = Projector()
        self.pauses: list[tuple[str, str]] = []
        self._seq = 0
        self._counts: dict[str, int] = {}

    def new_id(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{self.id}:{kind}:{self._counts[kind]}"

    def last(self, kind: str, *, mine: bool = False) -> JSONObject | None:
        row = self.timeline.last(kind)
        if row is None or (mine and not row["id"].startswith(f"{self.id}:")):
            return None
        return {**row["props"], "id": row["id"]}

    async def pause(self, phase: str, summary: str, seconds: float) -> None:
        self.pauses.append((phase, summary))

    def fold(self, event: Aside) -> None:
        """Make the row that the event makes."""
        self._seq += 1
        if isinstance(event, ThinkingModeDelta):
            self.timeline.append(event.id, self._seq, event.text, "reasoning")
        else:
            self.timeline.apply(translate(event, self._seq))

    async def ask(self, *middlewares: Middleware, turn: Turn | None = None) -> list[Said]:
        """One request through the middlewares, as the tool loop makes it."""
        said: list[Said] = []
        asked = stack(middlewares, self.model.stream, self)  # type: ignore[arg-type]
        async for each in asked(turn or turn_of()):
            said.append(each)
            if isinstance(each, Aside):
                self.fold(each)
        return said

    def rows(self, kind: str) -> list[JSONObject]:
        """The props of the rows of a kind, in order."""
        return [row["props"] for row in self.timeline.rows() if row["kind"] == kind]

    def told(self, request: int = -1) -> str:
        """The system message of a request; empty where there was none."""
        messages = self.model.turns[request].messages
        return "".join(message.content for message in messages if message.role == "system")


def answer(said: list[Said]) -> str:
    """What of it is the answer."""
    return "".join(each.text for each in said if isinstance(each, TextChunk))


def turn_of(*messages: Message, tools: tuple[ToolSchema, ...] = ()) -> Turn:
    """A turn with these messages, or with a prompt."""
    return Turn(messages or (PROMPT,), tools)


def tool_of(name: str) -> ToolSchema:
    """A tool without arguments."""
    return ToolSchema(name, f"What {name} does.", {"type": "object", "properties": {}})


def called(*ids: str) -> Message:
    """An answer that asks for tools, by the ids of its calls."""
    return Message("assistant", "", tuple(ToolCall(id, f"tool_{id}", "{}") for id in ids))
