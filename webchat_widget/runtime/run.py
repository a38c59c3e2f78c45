"""A prompt on its way through its conversation."""

from __future__ import annotations

import asyncio

from webchat_widget.requests import ChatRequest
from webchat_widget.tools.checkpoint import Checkpoint
from webchat_widget.tools.loop import ToolLoop

from .coordinator import RunSink

__all__ = ["Run", "title_of"]

_TITLE_LENGTH = 80


class Run:
    """One accepted prompt, from its acceptance to its terminal frame."""

    def __init__(
        self,
        run_id: str,
        request: ChatRequest,
        *,
        sink: RunSink,
        announced: bool,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.id = run_id
        self.request = request
        self.sink = sink
        self.announced = announced
        """Its start and its user message are in the timeline."""
        self.checkpoint = checkpoint
        """Where it goes on, after a restart in which a call of it waited for a person."""
        self.loop: ToolLoop | None = None
        self.accepted = asyncio.Event()
        self.ended = asyncio.Event()
        self.dropped = False
        """It was not stored after all, or taken out of the queue."""
        self.end: str | None = None
        """Why it was cancelled: `stopped` by a person, `interrupted` by the host."""
        self.suspended = False
        """It was left as it is: it goes on when the conversation is opened again."""
        self.at_work = False
        """It may be cancelled: it has begun, and does not write its end yet. A task that is cancelled before
        its first step never runs at all, one whose prompt is being stored may have nothing to end, and one
        that writes its end must not be kept from it."""
        self.task: asyncio.Task[None] | None = None
        self.storing: asyncio.Task[None] | None = None
        """Its acceptance, which nobody cancels."""

    @property
    def key(self) -> str:
        """What the page that sent the prompt knows it by."""
        return self.request.key or self.id

    def cancel(self, end: str) -> None:
        """Ask it to end; it then writes its own terminal frame."""
        if self.end is None:
            self.end = end
            if self.at_work and self.task is not None:
                self.task.cancel()


def title_of(prompt: str) -> str:
    """What a conversation is called that begins with this prompt."""
    line = " ".join(prompt.split())
    return line if len(line) <= _TITLE_LENGTH else f"{line[: _TITLE_LENGTH - 1]}…"
