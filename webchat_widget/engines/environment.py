"""The engine that this process's environment names, looked up anew for every turn.

In a notebook people set `os.environ["OPENAI_API_KEY"]` in a cell, often after the chat is on the screen.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from webchat_widget.errors import EngineError
from webchat_widget.events import EngineEvent
from webchat_widget.turns import Turn

from .base import Engine
from .demo import DemoEngine
from .openai import OpenAIEngine, api_fault

__all__ = ["EnvironmentEngine", "names_a_model"]

_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "WEBCHAT_MODEL", "WEBCHAT_API")


def _said() -> tuple[str, ...]:
    return tuple(os.environ.get(name, "").strip() for name in _VARIABLES)


def names_a_model() -> bool:
    """Whether the environment says how to reach a model: a key, or the address of a server."""
    key, base_url, *_ = _said()
    return bool(key or base_url)


class EnvironmentEngine:
    """An engine for the model that OPENAI_API_KEY, OPENAI_BASE_URL and WEBCHAT_MODEL name, in the style that
    WEBCHAT_API names; the demo where they name none."""

    def __init__(self) -> None:
        self._read: tuple[str, ...] = ()
        self._engine: Engine = DemoEngine()
        self._wrong: str | None = None

    @property
    def name(self) -> str:
        """That of the engine that would answer now."""
        return self._current().name

    @property
    def model(self) -> str | None:
        """The model that would answer now."""
        return self._current().model

    def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer one turn; see `Engine.stream`."""
        engine = self._current()
        if self._wrong is not None:
            raise EngineError(self._wrong, code="unknown_api", retryable=False)
        return engine.stream(turn)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._engine.aclose()

    def _current(self) -> Engine:
        said = _said()
        if said != self._read:  # the engine of before lives on in the turns that it answers
            self._read = said
            key, base_url, model, api = said
            api = api or "chat"
            self._wrong = None
            if names_a_model():
                self._wrong = api_fault(api)
                self._engine = OpenAIEngine(
                    model=model or None,
                    base_url=base_url or None,
                    api_key=key or None,
                    api="chat" if self._wrong else api,
                )
            else:
                self._engine = DemoEngine()
        return self._engine
