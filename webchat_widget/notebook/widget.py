"""ChatWidget: what a notebook displays, and what its Python talks to."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
from traitlets import Unicode, validate

from webchat_widget.errors import NotAllowed, WebChatError
from webchat_widget.requests import check_conv_id
from webchat_widget.typing import Entity

from .remote import RemoteChat, RemoteRun, find_server

if TYPE_CHECKING:
    from IPython.display import Markdown

__all__ = ["ChatWidget"]

_STATIC = Path(__file__).parent.parent / "static"
_LENGTH = re.compile(r"\d+(\.\d+)?(px|em|rem|vh|%)")


def _built(name: str) -> str:
    try:
        return (_STATIC / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ImportError(
            f"webchat_widget/static/{name} is missing: the front-end was not built. In a clone of the "
            "repository, `pip install -e .` builds it (with Node 20)."
        ) from None


class ChatWidget(anywidget.AnyWidget):
    """A chat with a model, in the cell that displays it.

    Without `conv_id` it shows its notebook's own conversation, whenever it is run again; `new=True` starts
    afresh. All widgets, displays and pages of one conversation show the same thing. `model` and
    `system_prompt` hold for every prompt of the conversation, those typed in the page too, until the next
    widget of the conversation is made. `height` is a CSS length or a number of pixels.

    `where`, `store`, `engine` and `tools` are for a chat that runs in the kernel, which this version has not:
    other values than the defaults raise NotAllowed.
    """

    _esm = _built("widget.js")
    _css = _built("widget.css")

    # These are saved with the notebook, and come back from it unchecked: no text, no keys, no tokens.
    conv_id = Unicode("").tag(sync=True)
    profile = Unicode("default").tag(sync=True)
    height = Unicode("").tag(sync=True)

    def __init__(
        self,
        conv_id: str | None = None,
        *,
        new: bool = False,
        profile: str = "default",
        model: str | None = None,
        system_prompt: str | None = None,
        height: str | int | None = None,
        where: str = "auto",
        store: str | None = None,
        engine: Any = None,
        tools: Sequence[Callable[..., Any]] = (),
    ) -> None:
        if conv_id is not None and new:
            raise ValueError(
                "conv_id names a conversation and new=True asks for another: give one of the two."
            )
        _check_server_only(where, store, engine, tools)
        self._written = conv_id
        self._settings = {
            name: value
            for name, value in {"model": model, "system_prompt": system_prompt}.items()
            if value is not None
        }
        self._configured = False
        self._chat: RemoteChat | None = None
        if conv_id is None:
            conv_id = str(uuid.uuid4()) if new else _notebook_conversation()
        super().__init__(conv_id=check_conv_id(conv_id), profile=profile, height=_css_length(height))
        try:
            self._configure(self._remote())
        except WebChatError as error:
            if error.status < 500:
                raise
            if self._settings:
                warnings.warn(
                    f"model and system_prompt did not reach the server: {error.message}", stacklevel=2
                )

    @validate("conv_id")
    def _check_conv_id(self, proposal: Any) -> str:
        """An id that no server takes is refused where it is set."""
        return check_conv_id(proposal["value"])

    def send(self, prompt: str) -> RemoteRun:
        """Send a prompt, as if it were typed in the widget.

        Done when the prompt is on the server's disk; `run.wait()` or `await run` waits for the answer.
        Raises ServerUnavailable, and WebChatError for a prompt that the server refuses.
        """
        chat = self._remote()
        self._configure(chat)
        return chat.send(prompt, conv_id=self.conv_id, profile=self.profile)

    def stop(self) -> None:
        """End the run that is under way; nothing happens where none is."""
        self._remote().stop(self.conv_id)

    @property
    def entities(self) -> list[Entity]:
        """The rows of the conversation, as GET /timeline gives them."""
        return self._remote().timeline(self.conv_id)

    @property
    def text(self) -> str:
        """The last text of the assistant, empty where there is none."""
        for row in reversed(self.entities):
            if row["kind"] == "message" and row["props"].get("role") == "assistant":
                return str(row["props"]["content"])
        return ""

    @property
    def where(self) -> str:
        """Where the conversation runs: `server`, for this version has no other place."""
        return "server"

    @property
    def where_reason(self) -> str:
        """Why there, or why it can't be reached from Python, as a sentence."""
        try:
            health = self._remote().health()
        except WebChatError as error:
            return error.message
        return f"The Jupyter server runs the webchat extension; its {health['engine']} engine answers."

    def transcript(self) -> Markdown:
        """The conversation so far as static Markdown, which stays readable in a saved notebook."""
        from IPython.display import Markdown

        from .transcript import transcript

        return Markdown(transcript(self.entities))  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return "ChatWidget()" if self._written is None else f"ChatWidget({self._written!r})"

    def _remote(self) -> RemoteChat:
        if self._chat is None:
            self._chat = RemoteChat(find_server())
        return self._chat

    def _configure(self, chat: RemoteChat) -> None:
        """Tell the server what this conversation's runs begin with; also that they begin with nothing."""
        if not self._configured:
            chat.configure(self.conv_id, self._settings)
            self._configured = True


def _check_server_only(where: str, store: Any, engine: Any, tools: Sequence[Any]) -> None:
    if where not in ("auto", "server", "kernel"):
        raise ValueError("where must be 'auto', 'server' or 'kernel'.")
    asked = {"where='kernel'": where == "kernel", "store": store is not None}
    asked |= {"engine": engine is not None, "tools": bool(tools)}
    for name, given in asked.items():
        if given:
            raise NotAllowed(
                f"{name} needs a chat that runs in the kernel, which this version does not have yet: the "
                "chat runs in the Jupyter server.",
                code="not_supported",
                field=name,
            )


def _notebook_conversation() -> str:
    """The id of this notebook's own conversation; a new one where no notebook is known."""
    path = os.environ.get("JPY_SESSION_NAME")
    if not path:
        return str(uuid.uuid4())
    return f"nb-{hashlib.sha256(path.encode()).hexdigest()[:32]}"


def _css_length(height: str | int | None) -> str:
    if height is None:
        return ""
    text = f"{height}px" if isinstance(height, int) else height
    if not _LENGTH.fullmatch(text):
        raise ValueError("height must be a number of pixels or a CSS length such as '480px' or '60vh'.")
    return text
