"""An engine out of one function: what a person writes in a cell."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk
from webchat_widget.turns import Turn

__all__ = ["FunctionEngine"]

_log = logging.getLogger(__name__)


class FunctionEngine:
    """An engine that answers with what an async generator function yields.

    ::

        async def my_engine(turn):
            yield "You said: "
            yield turn.messages[-1].content

    A str is a piece of the answer; the events of `webchat_widget.events` pass as they are. A `Finish` may be
    left out: the function's end is the answer's, or the wait for the tools that it asked for. An EngineError
    that it raises is shown to the person; of other errors they see the name, and the log has the traceback.
    """

    model = None

    def __init__(self, function: Callable[[Turn], AsyncGenerator[str | EngineEvent, None]]) -> None:
        call = getattr(function, "__call__", None)  # noqa: B004 - an object's: the method behind the brackets
        self.name: str = getattr(function, "__name__", type(function).__name__)
        if not (inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call)):
            raise TypeError(
                f"{self.name} is no async generator function: write `async def {self.name}(turn):`, with "
                "`yield` for each piece of the answer."
            )
        self._function = function

    def __repr__(self) -> str:
        return f"FunctionEngine({self.name})"

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer one turn; see `Engine.stream`."""
        end = "stop"
        async with aclosing(self._events(turn)) as events:
            async for event in events:
                yield event
                if isinstance(event, Finish):
                    return
                if isinstance(event, CallRequest):
                    end = "tool_calls"
        yield Finish(end)

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def _events(self, turn: Turn) -> AsyncGenerator[EngineEvent, None]:
        try:
            async with aclosing(self._function(turn)) as answer:
                async for said in answer:
                    if isinstance(said, EngineEvent):
                        yield said
                    elif not isinstance(said, str):
                        raise self._error(
                            f"yielded {type(said).__name__}: an engine yields str, or events of "
                            "webchat_widget.events."
                        )
                    elif said:
                        yield TextChunk(said)
        except EngineError:
            raise
        except Exception as error:
            _log.exception("webchat: the engine %s failed", self.name)
            raise self._error(f"raised {type(error).__name__}; the log has the traceback.") from None

    def _error(self, what: str) -> EngineError:
        return EngineError(f"The engine {self.name} {what}", code="engine_failed", retryable=False)
