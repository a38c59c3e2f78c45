"""Widgets that show a chat which another widget has made: they decide nothing about it."""

from __future__ import annotations

from typing import Any

from webchat_widget.requests import check_conv_id

from .home import home_of
from .namespace import after_cells
from .widget import ChatWidget

__all__ = ["RunView", "Sibling"]


class RunView(ChatWidget):
    """One run of a chat, without a composer: what a cell shows while it waits for the answer."""

    heard = False
    """Whether a page that shows it has spoken to this kernel."""

    def __init__(self, chat: ChatWidget, run_id: str) -> None:
        self._written, self._memory, self._home = chat._written, chat._memory, chat._home
        self._appear(chat._renderers, conv_id=chat.conv_id, profile=chat.profile, _run=run_id)

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        self.heard = True
        super()._receive(_, content, buffers)


class Sibling(ChatWidget):
    """Another conversation, with what a chat has of its notebook: the same place, engine, tools, contexts
    and renderers.

    Raises BadRequest for a bad `conv_id`.
    """

    def __init__(self, chat: ChatWidget, conv_id: str) -> None:
        check_conv_id(conv_id)
        self._written, self._memory = None, chat._memory
        self._home = home_of(conv_id, memory=self._memory)
        self._home.settle(chat._home.wishes)  # what fails is said again by whatever is asked of it
        self._appear(chat._renderers, conv_id=conv_id, profile=chat.profile, height=chat.height)
        self._followed |= chat._followed
        if self._followed:
            after_cells(self._refresh)
