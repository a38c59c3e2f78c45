"""Long conversations, cut to what a model can take."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, ClassVar

from msgspec import Meta
from msgspec.structs import replace

from webchat_widget.events import LogWritten
from webchat_widget.turns import Message, Turn

from .base import Ask, Middleware, RunView, Stream
from .system_prompt import SystemPrompt

__all__ = ["HistoryLimit"]


class HistoryLimit(Middleware, frozen=True):
    """Sends the newest `messages` only, and as many of them as have no more than so many `characters`.

    What is sent begins with a message of the person, so that no tool call is parted from its result. The
    last message of the person and all that follows it are sent in any case, and so is the system message,
    which counts for neither limit. The log and the model are told how much was left out.
    """

    name: ClassVar[str] = "history_limit"
    messages: Annotated[int, Meta(ge=1)] = 40
    characters: Annotated[int, Meta(ge=1)] | None = None

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Ask with what is left, and say what is not."""
        turn, count = self._cut(turn, run)
        if count:
            yield LogWritten(
                id=f"{run.id}:log:history_limit:{self._limits}",
                level="info",
                message=f"{_counted(count)} not sent to the model.",
                fields={"leftOut": count},
            )
        async with aclosing(ask(turn)) as said:
            async for each in said:
                yield each

    @property
    def _limits(self) -> str:
        """What its row is named by: there is one for the run, however many requests it makes."""
        both = (self.messages, self.characters)
        return "-".join(str(limit) for limit in both if limit is not None)

    def _cut(self, turn: Turn, run: RunView) -> tuple[Turn, int]:
        """The turn, and how many messages are left out of it."""
        system = tuple(message for message in turn.messages if message.role == "system")
        rest = tuple(message for message in turn.messages if message.role != "system")
        first = self._first(rest)
        if not first:
            return turn, 0
        cut = replace(turn, messages=(*system, *rest[first:]))
        told = SystemPrompt(f"{_counted(first)} left out here.", "after")
        return told.prepare(cut, run), first

    def _first(self, messages: tuple[Message, ...]) -> int:
        """Where what is sent begins."""
        starts: list[int] = []
        characters = 0
        for at in reversed(range(len(messages))):
            characters += _length(messages[at])
            fits = len(messages) - at <= self.messages and characters <= (self.characters or characters)
            if starts and not fits:
                return starts[-1]
            if messages[at].role == "user":
                starts.append(at)
        return 0


def _length(message: Message) -> int:
    return len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)


def _counted(count: int) -> str:
    return "1 earlier message was" if count == 1 else f"{count} earlier messages were"
