"""An engine that answers what it was told to: for tests, ours and those of users, and for notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

from webchat_widget.errors import EngineError
from webchat_widget.events import EngineEvent, Finish, TextChunk
from webchat_widget.turns import Turn

__all__ = ["ScriptedEngine"]

Step = EngineEvent | Exception | asyncio.Event | threading.Event | float | str

_POLL_SECONDS = 0.01


class ScriptedEngine:
    """Answers each turn with the next script; `turns` holds what it was sent.

    A script is a text, or a list of steps: a str (a piece of text), any engine event of
    `webchat_widget.events`, a number of seconds to wait, an exception to raise, or a `threading.Event` to
    wait for (an `asyncio.Event` where the engine's loop is one's own). A script that neither fails nor
    finishes ends with `Finish("stop")`. A turn for which no script is left fails with EngineError.
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
            raise EngineError(
                f"The scripted engine was asked for answer number {len(self.turns)} and was given "
                f"{len(self.turns) - 1}.",
                code="no_script",
                retryable=False,
            )
        step: Step = ""
        for step in self._scripts.pop(0):
            match step:
                case Exception():
                    raise step
                case asyncio.Event():
                    await step.wait()
                case threading.Event():
                    while not step.is_set():  # noqa: ASYNC110 - set elsewhere
                        await asyncio.sleep(_POLL_SECONDS)
                case int() | float():
                    await asyncio.sleep(step)
                case str():
                    yield TextChunk(step)
                case _:
                    yield step
        if not isinstance(step, Finish):
            yield Finish("stop", model=self.model)

    async def aclose(self) -> None:
        """Nothing to let go of."""
