"""ChatWidget: what a notebook displays, and what its Python talks to."""

from __future__ import annotations

import re
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import msgspec
from traitlets import TraitError, Unicode, validate

from webchat_widget.engines.base import Engine
from webchat_widget.errors import BadRequest
from webchat_widget.requests import check_conv_id, parse_settings
from webchat_widget.typing import Entity, JSONObject

from .chat import Run
from .comm import Port
from .home import Wishes, home_of
from .host import kernel_host
from .hosted import Equipment
from .identity import notebook_conversation
from .place import choose

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

    `where` the chat runs is `server`, `kernel`, or with `auto` what `where_reason` explains. In the kernel
    `engine` is any object of the engine protocol (`webchat_widget.engines.base`), `tools` are functions of
    the notebook, and `store="memory"` begins empty with each start of the kernel.

    Raises ValueError and TypeError for arguments that make no sense, BadRequest for a bad `conv_id` or
    settings, ServerUnavailable for where="server" without one. What fails later is shown in the widget.
    """

    _esm = _built("widget.js")
    _css = _built("widget.css")

    # These are saved with the notebook, and come back from it unchecked: no text, no keys, no tokens.
    conv_id = Unicode("").tag(sync=True)
    profile = Unicode("default").tag(sync=True)
    height = Unicode("").tag(sync=True)
    _where = Unicode("server").tag(sync=True)
    _channel = Unicode("").tag(sync=True)
    """Names this widget to a page, where its views share one stream."""

    _port: Port | None = None

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
        engine: Engine | None = None,
        tools: Iterable[Callable[..., Any]] = (),
    ) -> None:
        if conv_id is not None and new:
            raise ValueError(
                "conv_id names a conversation and new=True asks for another: give one of the two."
            )
        if store not in (None, "memory"):
            raise ValueError("store must be 'memory', or left out: the chat is then kept on disk.")
        self._written = conv_id
        self._memory = store == "memory"
        if conv_id is None:
            conv_id = str(uuid.uuid4()) if new else notebook_conversation()
        check_conv_id(conv_id)
        equipment = Equipment.of(engine, tools)
        given = {"engine": engine is not None, "tools": bool(equipment.tools), "store": store is not None}
        wishes = Wishes(
            choose(where, [name for name, is_given in given.items() if is_given]),
            _settings(model=model, system_prompt=system_prompt),
            equipment,
        )
        self._wishes = wishes
        length = _css_length(height)
        self._home = home_of(conv_id, memory=self._memory)
        failed = self._home.settle(wishes)
        super().__init__(
            conv_id=conv_id,
            profile=profile,
            height=length,
            _where=self._home.where,
            _channel=uuid.uuid4().hex,
        )
        self._port = Port(kernel_host(), lambda: self._home.hosted, self._publish)
        self._home.add(self)
        self.on_msg(self._receive)
        self.observe(self._turn_to, "conv_id")
        if failed is not None and wishes.settings and self.where == "server":
            warnings.warn(f"model and system_prompt did not reach the server: {failed.message}", stacklevel=2)

    @validate("conv_id")
    def _check_conv_id(self, proposal: Any) -> str:
        """An id that no host takes is refused where it is set, also by a page."""
        try:
            return check_conv_id(proposal["value"])
        except BadRequest as error:
            raise TraitError(error.message) from None  # which puts the former value back

    def send(self, prompt: str) -> Run:
        """Send a prompt, as if it were typed in the widget.

        Done when the prompt is on disk; `run.wait()` or `await run` waits for the answer. Raises WebChatError
        for a prompt that is refused, and where the chat can't be reached or has no disk to write to.
        """
        return self._home.send(prompt, conv_id=self.conv_id, profile=self.profile)

    def stop(self) -> None:
        """End the run that is under way; nothing happens where none is."""
        self._home.stop(self.conv_id)

    @property
    def entities(self) -> list[Entity]:
        """The rows of the conversation, as GET /timeline gives them."""
        return self._home.timeline(self.conv_id)

    @property
    def text(self) -> str:
        """The last text of the assistant, empty where there is none."""
        for row in reversed(self.entities):
            if row["kind"] == "message" and row["props"].get("role") == "assistant":
                return str(row["props"]["content"])
        return ""

    @property
    def where(self) -> str:
        """Where the conversation runs: `server` or `kernel`."""
        return self._home.where

    @property
    def where_reason(self) -> str:
        """Why there, as a sentence."""
        return self._home.reason

    def transcript(self) -> Markdown:
        """The conversation so far as static Markdown, which stays readable in a saved notebook."""
        from IPython.display import Markdown

        from .transcript import transcript

        return Markdown(transcript(self.entities))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Take the widget away; the conversation stays."""
        if self._port is not None:
            self._port.close()
            self._home.remove(self)
        super().close()

    def __repr__(self) -> str:
        return "ChatWidget()" if self._written is None else f"ChatWidget({self._written!r})"

    # -- Resident: what a home says to its widgets ---------------------------------------------------------

    def moved(self, where: str) -> None:
        """The conversation lives at `where` as of now: the page goes there too."""
        if self._port is not None and where != self._where:
            self._port.close()
            self._where = where

    def _turn_to(self, change: Any) -> None:
        """Show another conversation."""
        assert self._port is not None
        self._port.close()
        self._home.remove(self)
        self._home = home_of(change["new"], memory=self._memory)
        self._home.add(self)
        self._home.settle(self._wishes)

    # -- the comm ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """`Widget.open`"""
        super().open()
        self._answer_anywhere()

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        """A message of a page. It may come on any thread, while a cell runs: it is only handed on."""
        if self._port is not None:
            self._port.receive(content)

    def _publish(self, message: JSONObject) -> None:
        """Say something to the pages. A comm that is gone is no fault of who speaks."""
        try:
            self._send({"method": "custom", "content": message})
        except Exception as error:
            kernel_host().log.warning("webchat: a message did not get out: %r", error)

    def _send(self, msg: Any, buffers: Any = None) -> None:
        super()._send(msg, buffers)
        self._answer_anywhere()

    def _answer_anywhere(self) -> None:
        """Let a page's next message be handled while a cell runs.

        ipykernel 7.4 notes which shell published last on a comm, and sends the page's next message there: to
        the main one, which waits for the cell. The note is private, so what is not there is not missed.
        """
        getattr(self.comm, "__dict__", {}).pop("_reply_subshell_id", None)


def _settings(**given: str | None) -> JSONObject:
    """What was given, checked."""
    settings = {name: value for name, value in given.items() if value is not None}
    parse_settings(msgspec.json.encode(settings))
    return settings


def _css_length(height: str | int | None) -> str:
    if height is None:
        return ""
    text = f"{height}px" if isinstance(height, int) else height
    if not _LENGTH.fullmatch(text):
        raise ValueError("height must be a number of pixels or a CSS length such as '480px' or '60vh'.")
    return text
