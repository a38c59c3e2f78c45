"""ChatWidget: what a notebook displays, and what its Python talks to."""

from __future__ import annotations

import re
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import anywidget
from msgspec.structs import replace
from traitlets import TraitError, Unicode, validate

from webchat_widget.engines.base import Engine
from webchat_widget.errors import BadRequest, NotFound
from webchat_widget.events import Event
from webchat_widget.middlewares.base import Middleware, Middlewares
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.profiles import DEFAULT, Profile
from webchat_widget.requests import EventRequest, check_conv_id
from webchat_widget.tools.decorator import tool as mark
from webchat_widget.tools.own_events import row_of
from webchat_widget.typing import Entity, JSONObject

from .approvals import Approvals
from .chat import Run
from .choices import choices, kinds_of, listed_middlewares, own_profiles
from .comm import Port
from .functions import registry_of
from .home import Wishes, home_of
from .host import kernel_host
from .hosted import Equipment, engine_of
from .identity import kernel_id, notebook_conversation
from .namespace import after_cells, name_of, summary, user_namespace
from .pauses import Pauses
from .place import choose
from .renderers import Renderers

if TYPE_CHECKING:
    from IPython.display import Markdown

    from webchat_widget.turns import Turn

__all__ = ["ChatWidget", "latest_widget", "make_latest"]

_STATIC = Path(__file__).parent.parent / "static"
_LENGTH = re.compile(r"\d+(\.\d+)?(px|em|rem|vh|%)")

_Function = TypeVar("_Function", bound=Callable[..., Any])

_made: WeakValueDictionary[str, ChatWidget] = WeakValueDictionary()
"""Those that were made and not closed, by their channels; the last one is the last."""


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
    widget of the conversation is made; a profile that has its own goes before them. `height` is a CSS length
    or a number of pixels.

    `tools` are functions of the notebook, which the model may call wherever the chat runs; they run here, and
    a person is asked first unless `@tool` says otherwise. `tools=[]` means none at all, nothing those of the
    profile.

    `profiles` are named configurations of this conversation, beside those of the host: `Profile` objects or
    dicts. `profile` says which one prompts begin with; set it at any time, `chat.profiles` lists all. They go
    with the next widget of the conversation, and earlier ones that had picked one are back at `default`.
    `middlewares` stand between each run and its model, where its profile has none: names, `{name, config}`,
    or objects such as `HistoryLimit(messages=20)`, the first outermost. A `Middleware` class of your own
    works in the kernel.

    `where` the chat runs is `server`, `kernel`, or with `auto` what `where_reason` explains. In the kernel
    `engine` is any object of the engine protocol (`webchat_widget.engines.base`) or an async generator
    function, and `store="memory"` begins empty with each start of the kernel.

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
    _run = Unicode("").tag(sync=True)
    """The one run that it shows; empty for all of them, with a composer."""

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
        engine: Engine | Callable[[Turn], AsyncIterator[Any]] | None = None,
        tools: Iterable[Callable[..., Any]] | None = None,
        profiles: Iterable[Profile | JSONObject] | None = None,
        middlewares: Iterable[str | JSONObject | Middleware] | None = None,
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
        functions = registry_of(() if tools is None else tools)
        own, kinds_of_profiles = own_profiles(() if profiles is None else profiles)
        stack = None if middlewares is None else listed_middlewares(middlewares)
        kinds = kinds_of(stack or ())
        kernel_only = {
            "engine": engine is not None,
            # A server has none of this kernel's classes.
            "profiles": not _are_builtin(kinds_of_profiles),
            "middlewares": not _are_builtin(kinds),
            "store": store is not None,
        }
        known = bool(kernel_id())  # else a server can't call it
        own_kernels_only = {"tools": bool(functions) and not known, "profiles": bool(own) and not known}
        settings = choices(
            model=model,
            system_prompt=system_prompt,
            tools=None if tools is None or functions else (),
            middlewares=stack,
        )
        wishes = Wishes(
            choose(where, _given(kernel_only), _given(own_kernels_only)),
            settings,
            Equipment(engine_of(engine), functions, {}, own, kinds.over(kinds_of_profiles)),
        )
        length = _css_length(height)
        self._home = home_of(conv_id, memory=self._memory)
        failed = self._home.settle(wishes)
        self._appear(conv_id=conv_id, profile=profile, height=length)
        make_latest(self)
        if failed is not None and (wishes.settings or functions or own) and self.where == "server":
            what = "model, system_prompt, tools, profiles and middlewares"
            warnings.warn(f"{what} did not reach the server: {failed.message}", stacklevel=2)

    def _appear(self, renderers: Renderers | None = None, **traits: str) -> None:
        """Show the conversation of `_home` from now on, with the renderers of another widget or its own."""
        super().__init__(**traits, _where=self._home.where, _channel=uuid.uuid4().hex)
        self._followed: set[str] = set()
        self._renderers = Renderers() if renderers is None else renderers
        self._renderers.watch(self._draw_anew)
        self._port = Port(kernel_host(), lambda: self._home.hosted, self._publish, self._renderers)
        self._home.add(self)
        self.on_msg(self._receive)
        self.observe(self._turn_to, "conv_id")

    @validate("conv_id")
    def _check_conv_id(self, proposal: Any) -> str:
        """An id that no host takes is refused where it is set, also by a page."""
        try:
            return check_conv_id(proposal["value"])
        except BadRequest as error:
            raise TraitError(error.message) from None  # which puts the former value back

    @validate("profile")
    def _check_profile(self, proposal: Any) -> str:
        """The same for a profile that there is not, as far as that is known here."""
        try:
            self._home.check_profile(proposal["value"])
        except NotFound as error:
            raise TraitError(error.message) from None
        return str(proposal["value"])

    def send(
        self,
        prompt: str,
        *,
        profile: str | None = None,
        model: str | None = None,
        system_prompt: str | None = None,
        tools: Iterable[str | Callable[..., Any]] | None = None,
        middlewares: Iterable[str | JSONObject | Middleware] | None = None,
    ) -> Run:
        """Send a prompt, as if it were typed in the widget.

        What is named beside it holds for this prompt alone; `tools` are some of the chat's, or their names,
        and `[]` is none.

        Done when the prompt is on disk; `run.wait()` or `await run` waits for the answer. Raises WebChatError
        for a prompt that is refused, and where the chat can't be reached or has no disk to write to.
        """
        self._refresh()
        stack = None if middlewares is None else listed_middlewares(middlewares)
        overrides = choices(model=model, system_prompt=system_prompt, tools=tools, middlewares=stack)
        self._learn(kinds_of(stack or ()))
        return self._home.send(
            prompt,
            conv_id=self.conv_id,
            profile=self.profile if profile is None else profile,
            overrides=overrides,
        )

    def _learn(self, kinds: Middlewares) -> None:
        """Let prompts name middlewares that were made in this notebook; a server can't."""
        equipment = self._home.wishes.equipment
        if self.where == "kernel" and not all(kind in equipment.kinds or kind in BUILTIN for kind in kinds):
            self._equip(replace(equipment, kinds=kinds.over(equipment.kinds)))

    def stop(self) -> None:
        """End the run that is under way; nothing happens where none is."""
        self._home.stop(self.conv_id)

    def tool(self, function: _Function | None = None, /, **options: Any) -> Any:
        """Let the model call one more function, from its next run on; also as a decorator.

        ::

            @chat.tool(read_only=True)
            def area(width: float, height: float) -> float:
                "The area of a rectangle."
                return width * height

        The options are those of `webchat_widget.tool`. A function of the same name is replaced. Returns the
        function. Raises TypeError for one that can't be a tool.
        """
        if function is None:
            return lambda decorated: self.tool(decorated, **options)
        if options:
            mark(**options)(function)
        equipment = self._home.wishes.equipment
        self._equip(replace(equipment, tools=registry_of([function]).over(equipment.tools)))
        return function

    def context(self, value: Any, name: str | None = None) -> None:
        """Let prompts speak of a value: `@name` in one sends a summary of it along.

        Without `name` it is that of the variable that holds the value. The summary says type, size, columns,
        and how it begins, in at most 4,000 characters. Where the name is that of a variable, the summary is
        made anew after each cell and before each `send`, of what the variable then holds; that of any other
        value stays as it is now. Raises ValueError for a value without a name.
        """
        name = name_of(value) if name is None else name
        if name is None:
            raise ValueError(
                "No variable holds this value: name it, as in chat.context(value, name='sales')."
            )
        if not re.fullmatch(r"\w+", name):
            raise ValueError("name must consist of letters, digits and '_', as it stands behind the @.")
        if user_namespace().get(name) is value:
            self._followed.add(name)
            after_cells(self._refresh)
        else:
            self._followed.discard(name)
        equipment = self._home.wishes.equipment
        self._equip(replace(equipment, contexts={**equipment.contexts, name: summary(name, value)}))

    def _refresh(self, *_: Any) -> None:
        """Say of the variables what they hold now. It comes after the user's cells, so nothing is raised."""
        try:
            equipment, variables = self._home.wishes.equipment, user_namespace()
            names = self._followed & variables.keys() & equipment.contexts.keys()
            contexts = {**equipment.contexts, **{name: summary(name, variables[name]) for name in names}}
            if contexts != equipment.contexts:
                self._home.equip(replace(equipment, contexts=contexts))
        except Exception as error:
            kernel_host().log.warning("webchat: the summaries of variables are not up to date: %r", error)

    def _equip(self, equipment: Equipment) -> None:
        if (failed := self._home.equip(equipment)) is not None:
            warnings.warn(f"This did not reach the chat yet: {failed.message}", stacklevel=3)

    def emit(self, event: Event) -> str:
        """Show a row of your own kind in the conversation, outside of any run; returns the row's id.

        Another event of the kind with the same `id` changes that row. Done when it is on disk. Raises
        ValueError for an event that can't have a row, and WebChatError where the chat can't be reached.
        """
        row = row_of(event)
        return self._home.emit(self.conv_id, EventRequest(row.kind, row.id, row.props))

    @property
    def renderers(self) -> Renderers:
        """What draws the rows of your own kinds in this widget, by kind: sources of ES modules.

        ::

            chat.renderers["weather"] = '''
            export default {
              render({ entity, el }) { el.textContent = `${entity.props.celsius} degrees`; }
            }
            '''

        `render` is called with an empty `el` for each state of a row, and may return a function that cleans
        up. A `pathlib.Path` is read again when a page asks. They are not saved with the notebook.
        """
        return self._renderers

    @property
    def profiles(self) -> list[JSONObject]:
        """What `profile` may be set to: dicts with slug and display_name, the host's and then its own."""
        return self._home.profiles(self.conv_id)

    @property
    def pauses(self) -> list[JSONObject]:
        """The runs that wait in step mode: dicts with id, phase, summary and deadlineMs."""
        return Pauses(self._home, self.conv_id).waiting()

    def resume(self, pause_id: str | None = None, *, timeout: float = 30.0) -> list[JSONObject]:
        """Wait until a run pauses, let it go on, and return what was paused, as `pauses` has it; only that of
        the id, if one is given. Raises TimeoutError.
        """
        return Pauses(self._home, self.conv_id).go_on(pause_id, timeout)

    @property
    def approvals(self) -> list[JSONObject]:
        """The tool calls that wait for a person's yes: dicts with id, name, input, digest and expiresAt."""
        return self._asked().waiting()

    def approve(
        self, tool: str | None = None, *, always: bool = False, timeout: float = 30.0
    ) -> list[JSONObject]:
        """Wait until a tool call asks, of the tool of that name if one is given; allow all that do, and
        return them. `always` allows the tool's later calls in this conversation too. Raises TimeoutError.
        """
        return self._asked().decide("always" if always else "once", tool, timeout)

    def deny(self, reason: str = "", tool: str | None = None, timeout: float = 30.0) -> list[JSONObject]:
        """As `approve`, but say no; the model is told the reason."""
        return self._asked().decide("deny", tool, timeout, reason)

    def _asked(self) -> Approvals:
        return Approvals(self._home, self.conv_id)

    def conversations(self) -> list[JSONObject]:
        """What is kept where this chat runs, newest first: dicts with conv_id, title, created_at and
        updated_at (Unix ms)."""
        return self._home.conversations()

    @property
    def entities(self) -> list[Entity]:
        """The rows of the conversation, as GET /timeline gives them."""
        return self._home.timeline(self.conv_id)

    def turns(
        self, run_id: str | None = None, phase: str | None = None, limit: int | None = None
    ) -> list[JSONObject]:
        """What the model was sent and gave, word for word: dicts as GET /turns gives them, oldest first.

        `phase` is `pre_inference` (what a request held: messages, tools, model), `post_inference` (what
        came), `post_tools` (what the tools gave) or `final` (what the run adds to the model's memory). Of
        many there are the newest 500, or `limit`, and no more than fit in some 30 MB. Raises WebChatError for
        another phase.
        """
        return self._home.turns(self.conv_id, run_id, phase, limit)

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

        from webchat_widget.timeline.transcript import transcript

        return Markdown(transcript(self.entities))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Take the widget away; the conversation stays."""
        if self._port is not None:
            self._port.close()
            self._home.remove(self)
            self._renderers.unwatch(self._draw_anew)
            after_cells(self._refresh, wanted=False)
            _made.pop(self._channel, None)
        super().close()

    def __repr__(self) -> str:
        return "ChatWidget()" if self._written is None else f"ChatWidget({self._written!r})"

    # -- Resident: what a home says to its widgets ---------------------------------------------------------

    def moved(self, where: str) -> None:
        """The conversation lives at `where` as of now: the page goes there too."""
        if self._port is not None and where != self._where:
            self._port.close()
            self._where = where

    def lost(self, profiles: Set[str]) -> None:
        """Profiles are gone with the widget that brought them: no prompt may name one."""
        if (gone := self.profile) in profiles:
            self.profile = DEFAULT
            warnings.warn(
                f"The profile {gone!r} is gone with the widget that brought it; an earlier widget of the "
                "conversation had picked it, and goes on with 'default'.",
                stacklevel=4,  # the cell that makes the new one
            )

    def _turn_to(self, change: Any) -> None:
        """Show another conversation."""
        assert self._port is not None
        self._port.close()
        self._home.remove(self)
        wishes = self._home.wishes
        self._home = home_of(change["new"], memory=self._memory)
        self._home.add(self)
        self._home.settle(wishes)

    # -- the comm ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """`Widget.open`"""
        super().open()
        self._answer_anywhere()

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        """A message of a page. It may come on any thread, while a cell runs: it is only handed on."""
        if self._port is not None:
            self._port.receive(content)

    def _draw_anew(self) -> None:
        """Have pages ask for the renderers again."""
        self._publish({"renderers": True})

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


def make_latest(widget: ChatWidget) -> None:
    """As of now it is the one that was made last."""
    _made.pop(widget._channel, None)
    _made[widget._channel] = widget


def latest_widget(conv_id: str | None = None) -> ChatWidget | None:
    """The widget that was made last and is not closed; of that conversation, where one is named."""
    made = reversed(list(_made.values()))
    return next((widget for widget in made if conv_id in (None, widget.conv_id)), None)


def _given(arguments: dict[str, bool]) -> list[str]:
    return [name for name, is_given in arguments.items() if is_given]


def _are_builtin(kinds: Middlewares) -> bool:
    return all(kind in BUILTIN for kind in kinds)


def _css_length(height: str | int | None) -> str:
    if height is None:
        return ""
    text = f"{height}px" if isinstance(height, int) else height
    if not _LENGTH.fullmatch(text):
        raise ValueError("height must be a number of pixels or a CSS length such as '480px' or '60vh'.")
    return text
