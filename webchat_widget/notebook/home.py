"""Where one conversation lives at present, for all widgets of this kernel that show it."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Set
from functools import cache, partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from webchat_widget.errors import ConversationHeld, NotFound, ServerUnavailable, WebChatError
from webchat_widget.requests import EventRequest
from webchat_widget.timeline.files import PROMISE_SECONDS
from webchat_widget.timeline.sqlite.folder import left_in
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.typing import JSONObject

from .chat import Changes, Chat
from .host import KernelHost, kernel_host
from .hosted import Equipment, Hosted, check, profiles_of
from .identity import kernel_id
from .local import LocalChat
from .place import Place
from .remote import RemoteChat
from .toolbox import offer

__all__ = ["Home", "Resident", "Wishes", "home_of"]


class Resident(Protocol):
    """A widget that shows the conversation of a home."""

    def moved(self, where: str) -> None:
        """The conversation lives at `where` as of now."""
        ...

    def lost(self, profiles: Set[str]) -> None:
        """The conversation does not have these profiles any more."""
        ...


class Wishes(Struct, frozen=True):
    """How a widget wants its conversation: a place, what runs begin with, and what it has of the notebook."""

    place: Place
    settings: JSONObject
    equipment: Equipment


class Home(Chat):
    """One conversation's present place, on the server or in this kernel: a chat that outlives its moves.

    A conversation has one holder at a time. The widget that was made last decides, and the others follow.
    """

    def __init__(self, conv_id: str, host: KernelHost, *, memory: bool = False) -> None:
        self.conv_id = conv_id
        self._memory = memory
        self._host = host
        self._hosted = Hosted(
            conv_id, None if memory else host.folder, host.log, wanted=lambda: bool(self._residents)
        )
        host.register(self._hosted.close)
        self._place = Place("nowhere", "No widget has shown this conversation yet.")
        self._wishes = Wishes(self._place, {}, Equipment())
        self._owed: Wishes | None = None
        """What the server could not be told so far."""
        self._trouble = ""
        """What is wrong with the present place, as a sentence; found out when it was chosen."""
        self._residents: weakref.WeakSet[Any] = weakref.WeakSet()
        _homes.add(self)

    @property
    def where(self) -> str:
        """`server` or `kernel`"""
        return self._place.where

    @property
    def reason(self) -> str:
        """Why there, as a sentence."""
        return f"{self._place.reason} {self._trouble}".rstrip()

    @property
    def wishes(self) -> Wishes:
        """How the conversation is at present."""
        return self._wishes

    @property
    def tools(self) -> ToolRegistry:
        """What the model may call of the notebook."""
        tools, chosen = self._wishes.equipment.tools, self._wishes.settings.get("tools")
        return tools if chosen is None else tools.only(chosen)

    @property
    def hosted(self) -> Hosted:
        """The conversation in this kernel. Raises NotFound while it lives on the server."""
        if self.where != "kernel":
            raise NotFound("This chat runs on the Jupyter server now.", code="moved")
        return self._hosted

    def check_profile(self, slug: str) -> None:
        """Raise NotFound for a profile that is unknown here; what a server has is the server's to say."""
        if self.where == "kernel":
            equipment = self._wishes.equipment
            profiles_of(equipment).with_own(equipment.profiles).get(slug)

    def add(self, resident: Resident) -> None:
        """A widget shows this conversation from now on, and is told of its moves."""
        self._residents.add(resident)

    def remove(self, resident: Resident) -> None:
        """A widget does not show it any more."""
        self._residents.discard(resident)

    # -- moving ------------------------------------------------------------------------------------------

    def settle(self, wishes: Wishes) -> WebChatError | None:
        """Live as a widget wishes from now on. Where that is another place, what runs ends as interrupted,
        and the rows come along.

        A host that can't be reached, or gets no hold of the conversation, is no reason to raise: the error is
        returned, and each later call, and the page, meets it again. Profiles and settings that the host does
        not take raise.
        """
        self._host.check_thread()  # before anything has changed
        if wishes.place.where == "kernel":
            check(wishes.equipment, wishes.settings)
        lost = _slugs(self._wishes) - _slugs(wishes)
        before, self._place, self._wishes = self._place.where, wishes.place, wishes
        try:
            trouble = (
                self._move_in(wishes, before) if self.where == "kernel" else self._move_out(wishes, before)
            )
        finally:
            for resident in tuple(self._residents):
                resident.moved(self.where)
        self._trouble = "" if trouble is None else trouble.message
        for resident in tuple(self._residents):
            resident.lost(lost)
        return trouble

    def equip(self, equipment: Equipment) -> WebChatError | None:
        """Have something else of the notebook from now on, and all else as it is; see `settle`."""
        settings = self._wishes.settings
        if "tools" in settings:  # it was told to have no others
            settings = {**settings, "tools": list(equipment.tools.names)}
        return self.settle(Wishes(self._place, settings, equipment))

    def _move_in(self, wishes: Wishes, before: str) -> WebChatError | None:
        server = wishes.place.server
        claim = None
        if server is not None and before != "kernel" and not self._memory:
            claim = partial(_claim, server, self.conv_id)
        self._host.post(self._hosted.equip, wishes.equipment, wishes.settings, claim)
        try:
            self._host.call(self._hosted.ready())
        except WebChatError as error:
            return error
        return None

    def _move_out(self, wishes: Wishes, before: str) -> WebChatError | None:
        if before == "kernel":
            self._host.call(self._hosted.close())
        self._owed = wishes
        return self._tell_server()

    def _tell_server(self) -> WebChatError | None:
        if self._owed is not None:
            try:
                self._equip_server(self._owed.equipment)
                self._configure(self._owed.settings)
            except WebChatError as error:
                if error.status < 500 and error.status != 409:
                    self._owed = None
                    raise
                return error
            self._owed, self._trouble = None, ""
        return None

    def _equip_server(self, equipment: Equipment) -> None:
        """Let the server call the notebook's tools in this kernel, in place of those of another widget."""
        server, kernel = self._place.server, kernel_id()
        if server is None or not kernel:
            return
        offer(self.conv_id, equipment.tools)
        try:
            server.register(self.conv_id, kernel, equipment.tools, equipment.contexts, equipment.profiles)
        except WebChatError:
            if equipment.tools or equipment.contexts or equipment.profiles:
                raise

    def _configure(self, settings: JSONObject) -> None:
        """A server keeps away from what it has handed over for a moment, even when we are back so soon."""
        until = time.monotonic() + PROMISE_SECONDS
        while True:
            try:
                return self._now.configure(self.conv_id, settings)
            except ConversationHeld:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    # -- Chat --------------------------------------------------------------------------------------------

    @property
    def _now(self) -> Chat:
        if self.where == "kernel":
            return LocalChat(self._host, self._hosted)
        if self._place.server is None:
            raise ServerUnavailable(self.reason, code="no_credential")
        return self._place.server

    def post(
        self, prompt: str, *, conv_id: str, profile: str = "default", overrides: JSONObject | None = None
    ) -> JSONObject:
        """Hand in a prompt; done when it is on disk."""
        if (error := self._tell_server()) is not None:
            raise error
        return self._now.post(prompt, conv_id=conv_id, profile=profile, overrides=overrides)

    def stop(self, conv_id: str, run_id: str | None = None) -> None:
        """End the run that is under way, or that of the id."""
        self._now.stop(conv_id, run_id)

    def changes(self, conv_id: str, since: int = 0) -> Changes:
        """The rows that changed after version `since`."""
        return self._now.changes(conv_id, since)

    def turns(
        self, conv_id: str, run_id: str | None = None, phase: str | None = None, limit: int | None = None
    ) -> list[JSONObject]:
        """What the model was sent and gave."""
        return self._now.turns(conv_id, run_id, phase, limit)

    def approve(self, conv_id: str, call_id: str, decision: str, digest: str, reason: str = "") -> None:
        """Decide on a tool call that asks."""
        self._now.approve(conv_id, call_id, decision, digest, reason)

    def resume(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode."""
        self._now.resume(conv_id, pause_id)

    def profiles(self, conv_id: str) -> list[JSONObject]:
        """The profiles that prompts of the conversation may name."""
        return self._now.profiles(conv_id)

    def emit(self, conv_id: str, event: EventRequest) -> str:
        """Make or change a row of a person's own kind."""
        return self._now.emit(conv_id, event)

    def health(self) -> JSONObject:
        """What the present host says about itself."""
        return self._now.health()

    def conversations(self) -> list[JSONObject]:
        """What the present host keeps, newest first: the server, or this kernel and those before it."""
        if self.where != "kernel":
            return self._now.conversations()
        found = msgspec.to_builtins(left_in(self._host.folder))
        for home in _homes:
            if home._host is self._host and home.where == "kernel":
                with contextlib.suppress(WebChatError):
                    found += home._now.conversations()
        by_id = {each["conv_id"]: each for each in found}
        return sorted(by_id.values(), key=lambda each: -int(each["updated_at"]))

    def configure(self, conv_id: str, settings: JSONObject) -> None:
        """What later runs of the conversation begin with."""
        self._now.configure(conv_id, settings)


def _slugs(wishes: Wishes) -> Set[str]:
    return {profile.slug for profile in wishes.equipment.profiles}


def _claim(server: RemoteChat, conv_id: str) -> None:
    """Ask the server for what it has of a conversation; a second beginning of it here would be worse than an
    error."""
    try:
        server.hand_over(conv_id)
    except WebChatError as error:
        if error.code not in ("no_handover", "no_extension"):  # it keeps nothing that outlives it
            raise


_homes: weakref.WeakSet[Home] = weakref.WeakSet()
"""All of this process."""


@cache
def home_of(conv_id: str, *, memory: bool = False) -> Home:
    """The one home that a conversation has in this process."""
    return Home(conv_id, kernel_host(), memory=memory)
