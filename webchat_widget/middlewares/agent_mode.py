"""Modes that an agent works in, and changes by itself."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from webchat_widget.events import AgentModeChanged, CallRequest, Finish, LogWritten, TextChunk
from webchat_widget.turns import Turn

from .base import Ask, Middleware, RunView, Stream
from .mode_lines import MAX_NAME, ModeLines
from .system_prompt import SystemPrompt

__all__ = ["AgentMode", "Mode"]

_MAX_CHANGES = 3
"""Changes in one request after which the model is not asked again, though it said nothing else."""


class Mode(Struct, frozen=True, forbid_unknown_fields=True):
    """One mode: what it is called, what the model is told in it, and the tools that it has (None: all)."""

    title: str = ""
    prompt: str = ""
    tools: tuple[str, ...] | None = None


Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=MAX_NAME)]


class AgentMode(Middleware, frozen=True):
    """Lets the model work in one of several `modes`, each with a prompt, and with all or some of the tools.

    A mode may be given as its prompt alone. A conversation begins in `start`, or else in the first one, and
    nothing is said of it: a row stands where the mode changed. The model changes it with a line that is
    `<agent_mode reason="why">name</agent_mode>` and no more, which nobody sees. That holds from the next
    request on, in later runs too; a model that says nothing else is asked again at once.
    """

    name: ClassVar[str] = "agent_mode"
    modes: Annotated[dict[Name, Mode | str], Meta(min_length=1)]
    start: str = ""

    def __post_init__(self) -> None:
        if self.start and self.start not in self.modes:
            raise ValueError(f"`start` is {self.start[:MAX_NAME]!r}, which is none of the modes")

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Ask in the mode that there is, and again where the model only changes it."""
        for changes in range(_MAX_CHANGES + 1):
            before = self._now(run)
            answer, called, again = ModeLines(), False, False
            async with aclosing(ask(self._in_mode(turn, before, run))) as said:
                async for each in said:
                    if isinstance(each, TextChunk):
                        if text := answer.feed(each.text):
                            yield TextChunk(text)
                    elif isinstance(each, Finish):
                        if text := answer.end():
                            yield TextChunk(text)
                        for reason, name in answer.wishes:
                            if (change := self._change(name, reason, run)) is not None:
                                yield change
                        silent = not (answer.spoke or called)
                        again = silent and self._now(run) != before and changes < _MAX_CHANGES
                        if not again:
                            yield each
                    else:
                        called = called or isinstance(each, CallRequest)
                        yield each
            if not again:
                return

    def _now(self, run: RunView) -> str:
        """The mode that the conversation is in."""
        row = run.last("agent_mode")
        name = row["data"].get("to") if row is not None and isinstance(row.get("data"), dict) else None
        return name if name in self.modes else self.start or next(iter(self.modes))

    def _mode(self, name: str) -> Mode:
        mode = self.modes[name]
        return Mode(prompt=mode) if isinstance(mode, str) else mode

    def _title(self, name: str) -> str:
        return self._mode(name).title or name

    def _in_mode(self, turn: Turn, name: str, run: RunView) -> Turn:
        mode = self._mode(name)
        told = [f"You work in the mode {name!r} now.", mode.prompt]
        if len(self.modes) > 1:
            told.append(_HOW_TO_CHANGE.format(names=", ".join(self.modes)))
        turn = SystemPrompt("\n\n".join(text for text in told if text), "after").prepare(turn, run)
        if mode.tools is None:
            return turn
        return replace(turn, tools=tuple(tool for tool in turn.tools if tool.name in mode.tools))

    def _change(self, wished: str, reason: str, run: RunView) -> AgentModeChanged | LogWritten | None:
        """What comes of a wish; None where it is fulfilled already."""
        before = self._now(run)
        to = next((name for name in self.modes if name.casefold() == wished.casefold()), None)
        if to is None:
            known = ", ".join(self.modes)
            return LogWritten(
                id=run.new_id("log"),
                level="warning",
                message=f"The model asked for the mode {wished!r}, which there is not. Modes: {known}.",
                fields={"mode": wished},
            )
        if to == before:
            return None
        data = {"from": before, "to": to, **({"reason": reason} if reason else {})}
        return AgentModeChanged(id=f"{run.id}:agent_mode", title=self._title(to), data=data)


_HOW_TO_CHANGE = """\
The modes are: {names}. To change to another one, write a line with nothing but
<agent_mode reason="why">name of the mode</agent_mode>
The person does not see it, and it is not for anything else. If it is all that you write, you go on in the \
other mode at once; else the other mode begins with your next answer."""
