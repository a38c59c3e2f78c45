"""The requests of one run: through its middlewares to the engine, with what they cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from webchat_widget.engines.base import Engine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, Carried, Finish, RunEvent
from webchat_widget.middlewares.base import Middleware, Stream, stack
from webchat_widget.timeline.entities import is_terminal
from webchat_widget.timeline.projector import Projector
from webchat_widget.turns import Turn
from webchat_widget.typing import JSONObject, Usage

from .checkpoint import Checkpoint
from .endings import ending
from .heard import Unheard, heard
from .records import Keep, Records
from .row_queue import MAX_ROWS

__all__ = ["Inference", "Pauses"]

_AT_ONCE = 100
"""Events of an engine that never waits, after which others have their turn."""


class Pauses(Protocol):
    """Who lets a person look at a run while it waits: the conversation."""

    async def pause(self, id: str, phase: str, summary: str, seconds: float) -> None:
        """Show a pause, and wait until the person lets the run go on, at most so long."""
        ...


class Inference:
    """What the middlewares of a run see of it, and the model inside of them.

    `new_id` numbers rows by kind; `settle` ends the message that is being streamed, if one is. `usage` is the
    sum of all requests, also of those that a middleware made for itself.
    """

    def __init__(
        self,
        run_id: str,
        engine: Engine,
        middlewares: Sequence[Middleware],
        timeline: Projector,
        pauses: Pauses,
        new_id: Callable[[str], str],
        settle: Callable[[], Awaitable[None]],
        keep: Keep,
        log: logging.Logger,
    ) -> None:
        self.id = run_id
        self.round = 0
        self.log = log
        self.usage: Usage | None = None
        self.new_id = new_id
        self.records = Records(run_id, keep)
        self._engine = engine
        self._timeline = timeline
        self._pauses = pauses
        self._settle = settle
        self._rows: dict[str, None] = {}
        self._room = MAX_ROWS
        self._offered: tuple[str, ...] = ()
        """The tools that the model was told of in the last request of this round."""
        self._offers: dict[str, tuple[str, ...]] = {}
        """Those that each call of this round was asked for among, by the provider's ids."""
        self._heard = 0
        self._ask = stack(middlewares, self._infer, self)

    @property
    def engine(self) -> str:
        """`RunView.engine`"""
        return self._engine.name

    def last(self, kind: str, *, mine: bool = False) -> JSONObject | None:
        """`RunView.last`"""
        row = self._timeline.last(kind)
        if row is None or (mine and not row["id"].startswith(f"{self.id}:")):
            return None
        return {**row["props"], "id": row["id"]}

    async def pause(self, phase: str, summary: str, seconds: float) -> None:
        """`RunView.pause`"""
        await self._settle()
        id = self.new_id("pause")
        self._rows[id] = None
        await self._pauses.pause(id, phase, summary, seconds)

    def admits(self, id: str) -> bool:
        """Whether a row may be made or changed; False for one more than a run may have. It is remembered, for
        it may have to be ended."""
        if id not in self._rows:
            if not self._room:
                return False
            self._room -= 1
            self._rows[id] = None
        return True

    def has(self, id: str) -> bool:
        """Whether this row was made."""
        return id in self._rows

    def stream(self, turn: Turn) -> Stream:
        """One request, as the loop sees it."""
        self._offered, self._offers = (), {}
        return self._ask(turn)

    def offered(self, call_id: str) -> tuple[str, ...]:
        """The tools that the model was told of when it asked for the call with this id of the provider's; for
        one that a middleware made up, those of the last request."""
        return self._offers.get(call_id, self._offered)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Stand where a run stood. What it has left open is still ours to end."""
        self.round, self.usage = checkpoint.rounds, checkpoint.usage
        for row in self._timeline.rows():
            if row["id"].startswith(f"{self.id}:"):
                self._rows[row["id"]] = None

    def close(self, status: str) -> list[RunEvent]:
        """End those of the middlewares' rows that are open."""
        rows = [
            row for id in self._rows if (row := self._timeline.row(id)) is not None and not is_terminal(row)
        ]
        return [event for row in rows if (event := ending(row, status)) is not None]

    async def _infer(self, turn: Turn) -> Stream:
        """One request to the model itself, on record."""
        self._offered = offered = tuple(tool.name for tool in turn.tools)
        with self.records.request(turn, turn.model or self._engine.model) as answer:
            async with aclosing(self._engine.stream(turn)) as events:  # type: ignore[type-var]
                async for given in events:
                    self._heard += 1
                    if self._heard % _AT_ONCE == 0:
                        await asyncio.sleep(0)
                    try:
                        event = heard(given)
                    except Unheard as error:
                        if isinstance(given, Carried):
                            self.log.warning("webchat: the engine %s %s", self._engine.name, error)
                            continue
                        said = f"The engine {self._engine.name} {error}"
                        raise EngineError(said, code="bad_event", retryable=False) from None
                    answer.add(event)
                    if isinstance(event, Finish):
                        self._add(event.usage)
                    elif isinstance(event, CallRequest):
                        self._offers[event.call_id] = offered
                    yield event

    def _add(self, usage: Usage | None) -> None:
        had = self.usage
        if had is None or usage is None:
            self.usage = had or usage  # of one request, the run's row shares it with its message
            return
        self.usage = Usage(
            inputTokens=had["inputTokens"] + usage["inputTokens"],
            outputTokens=had["outputTokens"] + usage["outputTokens"],
            cachedTokens=had["cachedTokens"] + usage["cachedTokens"],
        )
