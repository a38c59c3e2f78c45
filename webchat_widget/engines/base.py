"""What an engine promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from webchat_widget.events import EngineEvent
from webchat_widget.turns import Turn

__all__ = ["Engine"]


class Engine(Protocol):
    """One model, or something that answers like one.

    It runs no tools, stamps no `seq` and knows no conversation. Several turns may be under way at once.
    """

    @property
    def name(self) -> str:
        """`openai`, `demo` …: what `/health` says."""
        ...

    @property
    def model(self) -> str | None:
        """The model that answers by default, None where it is not known yet."""
        ...

    def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer one turn.

        A stream that ends well ends with `Finish`. Closing it early closes the connection to the model.
        Raises EngineError, with a sentence for a person; its code `interrupted` says that what came so far
        is worth keeping.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Whoever made the engine calls it; a chat that was given one does not."""
        ...
