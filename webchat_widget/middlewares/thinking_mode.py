"""Thinking in phases, for any model that can write a tag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Annotated, ClassVar

from msgspec import Meta

from webchat_widget.events import (
    CallRequest,
    Finish,
    TextChunk,
    ThinkingModeDelta,
    ThinkingModeEnded,
    ThinkingModeStarted,
)
from webchat_widget.turns import Turn

from .base import Ask, Middleware, RunView, Stream
from .shortened import shortened
from .system_prompt import SystemPrompt
from .tags import Closed, Inside, Opened, Outside, Piece, Tags

__all__ = ["ThinkingMode"]

_TAG = "thinking"
_MAX_PHASE = 60

Phase = Annotated[str, Meta(pattern=r'^[^"<>\n]+$', max_length=_MAX_PHASE)]
Thought = TextChunk | ThinkingModeStarted | ThinkingModeDelta | ThinkingModeEnded


class ThinkingMode(Middleware, frozen=True):
    """Asks the model to think in `phases` before it answers, each a row of its own that is no part of the
    answer.

    `mode` names this way of thinking in the rows, `instructions` are told to the model with the rest. It
    writes its thoughts as `<thinking phase="plan">…</thinking>`. What it never ends may be no thought: the
    answer has it too, with the tag, for it may be prose about such tags; without it where nothing else is
    said, and not at all where nothing but calls of tools come.
    """

    name: ClassVar[str] = "thinking_mode"
    mode: Annotated[str, Meta(min_length=1, max_length=_MAX_PHASE)] = "careful"
    phases: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=20)] = ("understand", "plan", "check")
    instructions: str = ""

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        """The turn with how to think in its system message."""
        told = _HOW_TO_THINK.format(mode=self.mode, phases=", ".join(self.phases), first=self.phases[0]) + (
            f"\n\n{self.instructions}" if self.instructions else ""
        )
        return SystemPrompt(told, "after").prepare(turn, run)

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Ask, and part the thoughts from the answer."""
        thoughts = _Thoughts(self, run)
        async with aclosing(ask(self.prepare(turn, run))) as said:
            async for each in said:
                if isinstance(each, TextChunk):
                    for part in thoughts.feed(each.text):
                        yield part
                    continue
                if isinstance(each, CallRequest):
                    thoughts.calls = True
                elif isinstance(each, Finish):
                    for part in thoughts.end():
                        yield part
                yield each


_HOW_TO_THINK = """\
Think before you answer, in the mode {mode!r}, in these phases and in this order: {phases}. Write each as
<thinking phase="{first}">your thoughts</thinking>
with the name of its phase, and never leave out the end </thinking>. Then write your answer, outside of \
these tags. It must stand by itself, for it is read without your thoughts."""


class _Thoughts:
    """Parts one answer."""

    def __init__(self, config: ThinkingMode, run: RunView) -> None:
        self.calls = False
        """Tools were asked for."""
        self._said = False
        """There is an answer beside the thoughts."""
        self._config = config
        self._run = run
        self._tags = Tags(_TAG)
        self._begun = 0
        self._id = ""
        """The phase that is open."""
        self._text: list[str] = []
        self._source: list[str] = []
        """All that was written since the last thought that was ended, tags and all."""

    def feed(self, text: str) -> Iterator[Thought]:
        """What a piece of the answer is."""
        for piece in self._tags.feed(text):
            yield from self._part(piece)

    def end(self) -> Iterator[Thought]:
        """The rest, and the end of a phase that the model did not end."""
        for piece in self._tags.end():
            yield from self._part(piece)
        if not self._id:
            return
        text = "".join(self._source if self._said else self._text)
        answers = bool(text) and (self._said or not self.calls)
        error = "The model did not end this phase" + (", so the answer has it too." if answers else ".")
        yield ThinkingModeEnded(id=self._id, success=False, error=error)
        if answers:
            yield TextChunk(text)

    def _part(self, piece: Piece) -> Iterator[Thought]:
        match piece:
            case Outside():
                self._said = True
                yield TextChunk(piece.text)
            case Opened():
                self._begun += 1
                self._source.append(piece.source)
                self._id, self._text = self._run.new_id("thinking_mode"), []
                phase = self._phase(piece.attributes.get("phase", "").strip())
                yield ThinkingModeStarted(id=self._id, mode=self._config.mode, phase=phase)
            case Inside():
                self._source.append(piece.text)
                text = piece.text if self._text else piece.text.lstrip()
                if text:
                    self._text.append(text)
                    yield ThinkingModeDelta(self._id, text)
            case Closed():
                if self._id:
                    yield ThinkingModeEnded(id=self._id, success=True)
                self._id = ""
                if piece.source:  # else it was not ended: another began instead
                    self._source = []

    def _phase(self, named: str) -> str:
        """What the model calls it, or else the one that is next."""
        phases = self._config.phases
        return shortened(named, _MAX_PHASE) or phases[min(self._begun, len(phases)) - 1]
