"""An engine that answers what it was told to: for tests, ours and those of users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from webchat_widget.events import EngineEvent, Finish, TextChunk
from webchat_widget.turns import Turn

__all__ = ["ScriptedEngine"]

Step = EngineEvent | Exception | asyncio.Event | str


class ScriptedEngine:
    """Answers each turn with the next script; `turns` holds what it was sent.

    A script is a text, or a list of steps: a str (a piece of text), any engine event, an exception to raise,
    or an `asyncio.Event` to wait for. A script that neither fails nor finishes ends with `Finish("stop")`.
    Raises AssertionError when it is asked for more turns than it has scripts.
    """

    name = "scripted"
    model = "scripted"

    def __init__(self, *scripts: str | Iterable[Step]) -> None:
        self._scripts = [[script] if isinstance(script, str) else list(script) for script in scripts]
        self.turns: list[Turn] = []

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Play the next script."""
        self.turns.append(turn)
        if not self._scripts:
            raise AssertionError("the scripted engine has no script for another turn")
        step: Step = ""
        for step in self._scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield TextChunk(step) if isinstance(step, str) else step
        if not isinstance(step, Finish):
            yield Finish("stop", model=self.model)

    async def aclose(self) -> None:
        """Nothing to let go of."""
