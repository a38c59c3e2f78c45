"""A conversation as Python in a kernel uses it, wherever it runs: `Chat`, and `Run` for a sent prompt."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any

from msgspec import Struct

from webchat_widget.errors import ConversationHeld, ServerUnavailable, WebChatError
from webchat_widget.requests import EventRequest
from webchat_widget.tools.loop import CALLING_RUN
from webchat_widget.typing import Entity, JSONObject

from .main_thread import pause

__all__ = ["Changes", "Chat", "Run"]

_PATIENCE_SECONDS = 30.0
"""How long a wait goes on while the host can't be reached: a restart takes less."""
_FASTEST_POLL, _SLOWEST_POLL = 0.05, 0.5
_ENDED = frozenset({"finished", "stopped", "failed"})


class Changes(Struct, frozen=True):
    """Rows that changed, the version up to which that is all, and the host's epoch."""

    entities: list[Entity]
    version: int
    epoch: str


class Chat(ABC):
    """A host's operations as calls that block; each raises WebChatError for what the host refuses."""

    @abstractmethod
    def post(
        self, prompt: str, *, conv_id: str, profile: str = "default", overrides: JSONObject | None = None
    ) -> JSONObject:
        """Hand in a prompt; the answer of POST /chat, when the prompt is on disk."""

    @abstractmethod
    def stop(self, conv_id: str, run_id: str | None = None) -> None:
        """End the run that is under way, or that of the id."""

    @abstractmethod
    def changes(self, conv_id: str, since: int = 0) -> Changes:
        """The rows that changed after version `since`."""

    @abstractmethod
    def turns(
        self, conv_id: str, run_id: str | None = None, phase: str | None = None, limit: int | None = None
    ) -> list[JSONObject]:
        """What the model was sent and gave, as GET /turns gives it: the newest, at most 500 or `limit`."""

    @abstractmethod
    def health(self) -> JSONObject:
        """What the host says about itself."""

    @abstractmethod
    def configure(self, conv_id: str, settings: JSONObject) -> None:
        """What later runs of the conversation begin with."""

    @abstractmethod
    def approve(self, conv_id: str, call_id: str, decision: str, digest: str, reason: str = "") -> None:
        """Decide on a tool call that asks: `once`, `always` or `deny`."""

    @abstractmethod
    def resume(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode."""

    @abstractmethod
    def profiles(self, conv_id: str) -> list[JSONObject]:
        """The profiles that prompts of the conversation may name: `slug` and `display_name` of each."""

    @abstractmethod
    def emit(self, conv_id: str, event: EventRequest) -> str:
        """Make or change a row of a person's own kind, outside of any run; the row's id."""

    def send(
        self, prompt: str, *, conv_id: str, profile: str = "default", overrides: JSONObject | None = None
    ) -> Run:
        """Send a prompt; done when it is on disk."""
        reply = self.post(prompt, conv_id=conv_id, profile=profile, overrides=overrides)
        return Run(self, conv_id, reply["run_id"], reply["status"])

    @abstractmethod
    def conversations(self) -> list[JSONObject]:
        """What the host keeps, newest first, as GET /conversations gives it."""

    def timeline(self, conv_id: str) -> list[Entity]:
        """The rows of a conversation."""
        return self.changes(conv_id).entities


class Run:
    """A prompt that was sent. `status`: queued, started, finished, stopped or failed."""

    def __init__(self, chat: Chat, conv_id: str, run_id: str, status: str) -> None:
        self._chat = chat
        self._conv_id = conv_id
        self._rows: dict[str, Entity] = {}
        """All rows of this run, and the one that each other run begins with."""
        self._status = status
        self._version = 0
        self._epoch = ""
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"<run {self._status}>"

    @property
    def status(self) -> str:
        """How it stands now."""
        self._refresh()
        return self._status

    @property
    def text(self) -> str:
        """The answer so far: the last text that the model wrote in this run."""
        self._refresh()
        texts = [row for id, row in self._rows.items() if id.startswith(f"{self.run_id}:text:")]
        return str(max(texts, key=lambda row: row["createdSeq"])["props"]["content"]) if texts else ""

    @property
    def error(self) -> str | None:
        """Why it failed, as a sentence; None where it did not."""
        self._refresh()
        said = self._rows.get(f"{self.run_id}:error")
        run = self._rows.get(self.run_id)
        if said is not None:
            return str(said["props"]["message"])
        return run["props"].get("error") if run else None

    @property
    def rows(self) -> list[Entity]:
        """Its rows as they were seen last, in their order; nobody is asked."""
        mine = (row for id, row in self._rows.items() if f"{id}:".startswith(f"{self.run_id}:"))
        return sorted(mine, key=lambda row: row["createdSeq"])

    def stop(self) -> None:
        """End it, or take it out of the queue."""
        self._chat.stop(self._conv_id, self.run_id)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end, at most `timeout` seconds, and return the run. A failed run does not raise.

        On a kernel's main thread, its tools run meanwhile: a wait ends no sooner than the one that runs.
        Raises TimeoutError, which leaves the run running, and ServerUnavailable; WebChatError in a tool of
        this conversation, which would wait for itself.
        """
        for seconds in self._polls(timeout):
            pause(seconds)
        return self

    def follow(self) -> Iterator[None]:
        """Wait as `wait` does, and come back each time that `rows` are new."""
        for seconds in self._polls(None):
            yield
            pause(seconds)

    def __await__(self) -> Generator[Any, None, Run]:
        return self._wait().__await__()

    async def _wait(self) -> Run:
        polls = self._polls(None)
        while True:
            seconds = await asyncio.to_thread(next, polls, None)
            if seconds is None:
                return self
            await asyncio.sleep(seconds)
            pause(0)  # this may be a loop that holds the main thread, and not the kernel's own

    def _polls(self, timeout: float | None) -> Iterator[float]:
        """Ask until the run has ended; between two questions, yield how long to pause."""
        began = heard = time.monotonic()
        seconds = _FASTEST_POLL
        while True:
            try:
                self._refresh()
                heard = time.monotonic()
            except WebChatError as error:
                # While a conversation moves, neither host has it.
                moves = isinstance(error, ConversationHeld)
                if (error.status < 500 and not moves) or error.code == "run_lost":
                    raise
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise
            if self._status in _ENDED:
                return
            self._check_it_can_end()
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if left is not None and left <= 0:
                raise TimeoutError(f"The run has not ended within {timeout:g} s; it goes on.")
            yield seconds if left is None else min(seconds, left)
            seconds = min(seconds * 1.3, _SLOWEST_POLL)

    def _check_it_can_end(self) -> None:
        """Runs of a conversation go one after the other, so the tool of one can't wait for another's end."""
        caller = self._rows.get(CALLING_RUN.get())
        if caller is not None and caller["props"]["status"] not in _ENDED:
            raise WebChatError(
                "This would wait for itself: a chat answers one prompt at a time, and the one that called "
                "this tool has not ended. Don't wait for the answer in the tool, or ask another "
                "conversation, such as ChatWidget(new=True).",
                code="would_deadlock",
            )

    def _refresh(self) -> None:
        """Take in what changed. Two of these may be under way at once, so an older answer changes nothing."""
        if self._status in _ENDED:
            return
        changes = self._chat.changes(self._conv_id, self._version)
        if changes.epoch != self._epoch:  # the host was started again: only a look at everything tells
            if self._version:
                changes = self._chat.changes(self._conv_id)
            if not any(row["id"] == self.run_id for row in changes.entities):
                raise ServerUnavailable(
                    "The server does not know this run any more: its conversations were not kept.",
                    code="run_lost",
                )
            self._epoch = changes.epoch
        for row in changes.entities:
            if row["kind"] != "run" and not row["id"].startswith(f"{self.run_id}:"):
                continue
            held = self._rows.get(row["id"])
            if held is None or row["version"] > held["version"]:
                self._rows[row["id"]] = row
        self._version = max(self._version, changes.version)
        if self._status not in _ENDED and self.run_id in self._rows:
            self._status = str(self._rows[self.run_id]["props"]["status"])
