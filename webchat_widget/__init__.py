"""The chat that lives in a notebook.

::

    from webchat_widget import ChatWidget
    chat = ChatWidget()
    chat

The journey of a prompt, left to right and never back: the page's composer → POST /chat (or `chat.send`) →
`runtime.service`, the one door → `runtime.conversation`, a queue of runs → `tools.loop` with an engine of
`engines` → `runtime.coordinator`, which numbers, projects (`timeline.projector`) and stores
(`timeline.sqlite`) → `runtime.pool` → the page's socket → its timeline store → a card.

Importing this package imports neither `openai` nor `jupyter_server`, nor, until ChatWidget is asked for,
`anywidget`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines.openai import OpenAIEngine
    from .engines.scripted import ScriptedEngine
    from .errors import WebChatError
    from .events import Event
    from .middlewares.base import Middleware
    from .notebook.widget import ChatWidget
    from .profiles import Profile
    from .tools.decorator import tool
    from .tools.emit import emit

__all__ = [
    "ChatWidget",
    "Event",
    "Middleware",
    "OpenAIEngine",
    "Profile",
    "ScriptedEngine",
    "WebChatError",
    "emit",
    "tool",
]

_HOMES = {
    "ChatWidget": ".notebook.widget",
    "Event": ".events",
    "Middleware": ".middlewares.base",
    "OpenAIEngine": ".engines.openai",
    "Profile": ".profiles",
    "ScriptedEngine": ".engines.scripted",
    "WebChatError": ".errors",
    "emit": ".tools.emit",
    "tool": ".tools.decorator",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext webchat_widget`: `%chat` and `%%chat`."""
    from .notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext webchat_widget`: they are gone."""
    from .notebook.magics import unload

    unload(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
