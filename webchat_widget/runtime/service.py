"""The one door to the runtime: what a host's routes, and later its comm, call."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from webchat_widget.errors import (
    KeyReused,
    NotAllowed,
    NotFound,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
    WebChatError,
)
from webchat_widget.profiles import DEFAULT, Profile, Profiles
from webchat_widget.requests import ChatRequest, Decision, EventRequest, Overrides, TimelineQuery, TurnsQuery
from webchat_widget.sem.frames import PROTOCOL, Control
from webchat_widget.timeline.entities import entity
from webchat_widget.timeline.pages import Page, page
from webchat_widget.timeline.sqlite import KEY_LIFETIME_MS
from webchat_widget.timeline.store import HandsOver, KeyRecord, Loaded, Summary, TurnsPage
from webchat_widget.tools.own_events import BadEvent, own_row
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.typing import JSONObject

from .conversation import Accepted, Conversation
from .environment import Environment
from .equipment import Equipment
from .manager import ConversationManager
from .pool import Connection, Reader

__all__ = ["ChatService", "Reply"]

_OF_ONE_CONVERSATION = ("conversation_held", "conversation_unreadable")
"""Faults that concern no other."""
_LOOK_AGAIN_SECONDS = 5.0
"""What could only be read is looked at again after this, to bring its runs to their ends."""


class Reply(Struct, frozen=True):
    """The answer to a prompt: 200 (it runs) or 202 (it waits), and whether it is a replay."""

    status: int
    body: JSONObject
    replayed: bool = False


class ChatService:
    """A running chat: conversations, their store and their engine.

    Call `start` once, on the loop that all other calls are made on. Every call that names a conversation
    raises ConversationHeld where somebody else has it open.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._manager = ConversationManager(env, self._look_later)
        self._epoch = uuid.uuid4().hex
        self._started: asyncio.Task[bool] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing = False
        self._keys: dict[str, tuple[tuple[str, str], asyncio.Task[Reply]]] = {}
        """Prompts that are being taken, by key: whose it is, and the digest of what was asked."""

    async def start(self) -> None:
        """Close the runs that a crash cut, and go on with those that waited. Later calls wait for the first.

        All other calls begin with this too, but wait for nothing but the conversation that they name. Raises
        StoreUnavailable; the next call then tries again.
        """
        self._begin()
        assert self._started is not None
        await asyncio.shield(self._started)

    async def chat(self, request: ChatRequest, user: str = "") -> Reply:
        """Take a prompt. Done when it is on disk.

        Raises NotFound (profile), NotAllowed (override), KeyReused, QueueFull, StoreUnavailable and
        ShuttingDown.
        """
        if self._closing:
            raise ShuttingDown("The chat is shutting down. Try again in a moment.")
        self._begin()
        self._check(request.profile, request.overrides, request.conv_id)
        if (own := self._profiles(request.conv_id).own(request.profile)) is not None:
            request = replace(request, own=_builtins(own))
        if request.key is None:
            return await self._take(request, user)
        key, mine = request.key, (user, request.digest)
        while (under_way := self._keys.get(key)) is not None:
            whose, task = under_way
            if whose == mine:
                first = await asyncio.shield(task)
                return Reply(first.status, first.body, replayed=True)
            await asyncio.wait([task])  # the store knows then if it was taken, and whether it is ours too
        task = asyncio.create_task(self._take_once(request, user), name="webchat-prompt")
        self._keys[key] = (mine, task)
        task.add_done_callback(lambda _: self._keys.pop(key))
        return await asyncio.shield(task)

    async def timeline(self, query: TimelineQuery) -> tuple[Page, str]:
        """The rows that `query` asks for, and the epoch. Of an unknown conversation there are none."""
        self._begin()
        live, loaded = await self._find(query.conv_id)
        if live is not None:
            entities, at = live.stream.snapshot()
        else:
            entities = [entity(row) for row in loaded.rows] if loaded else []
            at = loaded.version if loaded else 0
        chosen = page(
            entities,
            at,
            since=query.since,
            limit=query.limit,
            before=query.before,
            unfinished=query.unfinished,
        )
        return chosen, self._epoch

    async def turns(self, query: TurnsQuery) -> TurnsPage:
        """What the model was sent and gave, down to this moment. Of an unknown conversation there is nothing.

        Raises StoreUnavailable.
        """
        self._begin()
        live, loaded = await self._find(query.conv_id)
        if live is not None:
            await live.stream.flush()
        elif loaded is None:
            return TurnsPage([])
        return await self._env.store.turns(query)

    async def check_reader(self, conv_id: str, profile: str) -> None:
        """Raise what `join` would, before a socket is opened: NotFound, QueueFull, StoreUnavailable …"""
        self._profiles(conv_id).get(profile)
        self._begin()
        conversation = await self._manager.get(conv_id)
        if len(conversation.pool) >= self._env.settings.readers:
            raise QueueFull("Too many pages show this conversation.", code="too_many_readers")

    async def join(self, conv_id: str, profile: str, reader: Reader, *, append: bool) -> Connection:
        """Send every frame of a conversation to `reader` from now on, `ws.hello` first."""
        await self.check_reader(conv_id, profile)
        conversation = await self._manager.get(conv_id)
        hello = Control("ws.hello", conv_id, self._hello(conversation, profile))
        return conversation.pool.add(reader, hello, append=append)

    async def hello(self, conv_id: str, profile: str) -> JSONObject:
        """The data of a `ws.hello`, for a page that begins to share the stream of another."""
        self._profiles(conv_id).get(profile)
        self._begin()
        return self._hello(await self._manager.get(conv_id), profile)

    def pong(self, conv_id: str) -> Control:
        """The answer to a reader's ping: what it may have missed, and may not know of the host yet."""
        live = self._manager.live(conv_id)
        version = live.stream.committed if live else 0
        return Control("ws.pong", conv_id, {"version": version, "notices": self._env.store.notices})

    async def stop(self, conv_id: str, run_id: str | None) -> None:
        """End a run; nothing happens where nothing runs. Done when its terminal frame is stored.

        Raises StoreUnavailable where it is not; the run has ended, and its end is stored later.
        """
        self._begin()
        live, loaded = await self._find(conv_id)
        found = live if live is not None else loaded
        if found is not None and not found.complete:
            raise StoreUnavailable(
                "The run can't be brought to its end yet: the timeline can only be read at present."
            )
        if live is not None:
            await live.stop(run_id)

    async def approve(self, conv_id: str, call_id: str, decision: Decision) -> None:
        """Say yes or no to a tool call that asks; done when it is on disk. The same again is fine.

        Raises NotFound (`unknown_call`), Conflict (`stale_approval`: another digest, or too late; `decided`:
        otherwise already) and StoreUnavailable.
        """
        self._begin()
        live, loaded = await self._find(conv_id)
        if live is None and loaded is not None:  # a call of a run that has ended
            live = await self._manager.get(conv_id)
        if live is None:
            raise NotFound("There is no such call that asks for a yes.", code="unknown_call")
        await live.approve(call_id, decision)

    async def resume(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode; done when its row says so. The same again is fine.

        Raises NotFound (`unknown_pause`) and Conflict (`run_ended`).
        """
        self._begin()
        live, loaded = await self._find(conv_id)
        if live is None and loaded is not None:
            live = await self._manager.get(conv_id)
        if live is None:
            raise NotFound("There is no such pause.", code="unknown_pause")
        await live.resume(pause_id)

    async def emit(self, conv_id: str, event: EventRequest) -> str:
        """Make a row of a person's own kind outside of any run, or change the one that an event of this kind
        and id has made; the row's id. Done when it is on disk.

        Raises NotAllowed (`bad_event`) for what can't have a row, StoreUnavailable and ShuttingDown.
        """
        try:
            row = own_row(event.kind, event.id, event.props)
        except BadEvent as error:
            raise NotAllowed(str(error), code="bad_event", field=error.field) from None
        if self._closing:
            raise ShuttingDown("The chat is shutting down. Try again in a moment.")
        self._begin()
        return await (await self._manager.get(conv_id)).emit(row)

    async def hand_over(self, conv_id: str) -> bool:
        """Leave a conversation to a kernel: what runs ends as interrupted, its readers are closed, and all of
        it, with what waits in the queue, is where a kernel looks for it. False where it is unknown.

        For the next seconds it is the kernel's to open; then the next call takes it back, unless it is open.
        Raises NotAllowed where the store hands nothing over, StoreUnavailable and ShuttingDown.
        """
        store = self._env.store
        if not isinstance(store, HandsOver):
            raise NotAllowed(
                "This chat keeps its conversations in memory and can't hand one over. Begin another one in "
                "the kernel: ChatWidget(new=True).",
                code="no_handover",
            )
        self._begin()
        return await self._manager.leave(conv_id, store.hand_over)

    async def conversations(self, query: str = "") -> list[Summary]:
        """All conversations with something in them, newest first."""
        self._begin()
        return await self._env.store.conversations(query)

    async def configure(self, conv_id: str, settings: Overrides) -> None:
        """Set what later runs of a conversation begin with, in place of their profile's, as far as that lets
        a caller choose it.

        Raises NotAllowed for what the default profile does not.
        """
        self._check(DEFAULT, settings, conv_id)
        self._begin()
        live = self._manager.live(conv_id)
        wanted = _builtins(settings)
        if live is None:
            loaded = await self._env.store.load(conv_id)
            if wanted == ({} if loaded is None else loaded.settings):
                return  # nothing need be written, which may not be possible
        await self._env.store.save_settings(conv_id, wanted, self._env.now_ms())
        live = self._manager.live(conv_id)
        if live is not None:
            live.settings = settings

    def equip(
        self,
        conv_id: str,
        tools: ToolRegistry,
        contexts: Mapping[str, str],
        profiles: Sequence[Profile] = (),
        gone: Callable[[], bool] | None = None,
    ) -> None:
        """Give a conversation tools of its own beside its profile's, in place of those of an earlier call.

        A run that starts later sees them. `contexts` are texts by name: `@name` in a prompt sends the text
        along. `profiles` are there for its prompts only. All stay for as long as the service lives, or
        until their kernel is `gone` and nobody has the conversation open. Raises NotAllowed for profiles
        that choose what a caller may not.
        """
        self._env.profiles.check_own(profiles, tools)
        equipment = Equipment(tools, dict(contexts), tuple(profiles))
        self._manager.equip(conv_id, equipment if gone is None else replace(equipment, gone=gone))

    def profiles(self, conv_id: str | None = None) -> list[JSONObject]:
        """The host's profiles, then those of the conversation: `slug` and `display_name` of each."""
        return [profile.described() for profile in self._profiles(conv_id)]

    def has_profile(self, slug: str, conv_id: str | None = None) -> bool:
        """Whether the host, or the conversation, has a profile of that name."""
        return slug in self._profiles(conv_id)

    def health(self) -> JSONObject:
        """What this host is."""
        engine = self._env.engine
        return {
            "webchat": True,
            "version": _version(),
            "protocol": PROTOCOL,
            "engine": engine.name,
            "model": engine.model,
            "capabilities": [],
            "notices": self._env.store.notices,
        }

    @property
    def busy(self) -> int:
        """How many conversations have a run under way or waiting."""
        return self._manager.busy

    async def close(self) -> None:
        """End runs as interrupted, store everything, close readers and the store. The engine stays open."""
        if self._closing:
            return
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        try:
            await self._manager.close()
            if self._started is not None:  # it ends at once: no conversation opens any more
                await asyncio.gather(self._started, return_exceptions=True)
        finally:
            await self._env.store.close()

    # -- parts ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._started is None or (self._started.done() and self._started.exception() is not None):
            self._started = asyncio.create_task(self._recover(), name="webchat-recover")
            self._started.add_done_callback(_retrieve)

    async def _recover(self) -> bool:
        """Open what was left unfinished, all at once. What can't be read, or is held, is in nobody's way.

        False where something of it can only be read at present.
        """
        unfinished = await self._env.store.unfinished()
        opened = await asyncio.gather(*map(self._manager.get, unfinished), return_exceptions=True)
        for error in opened:
            if isinstance(error, WebChatError) and error.code in _OF_ONE_CONVERSATION:
                self._env.log.error("webchat: %s", error)
            elif isinstance(error, BaseException):
                raise error
        return all(each.complete for each in opened if isinstance(each, Conversation))

    def _look_later(self) -> None:
        if (self._looking is None or self._looking.done()) and not self._closing:
            self._looking = asyncio.create_task(self._look_again(), name="webchat-look")

    async def _look_again(self) -> None:
        """What could only be read is to end as soon as that can be stored, also where nobody asks for it."""
        complete = False
        while not complete:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            with contextlib.suppress(WebChatError):
                complete = await self._recover()

    def _check(self, profile: str, overrides: Overrides, conv_id: str | None) -> None:
        own = self._manager.equipment(conv_id).tools if conv_id is not None else ()
        self._profiles(conv_id).check(profile, overrides, own)

    def _profiles(self, conv_id: str | None) -> Profiles:
        """The host's, and those of the conversation."""
        own = self._manager.equipment(conv_id).profiles if conv_id is not None else ()
        return self._env.profiles.with_own(own) if own else self._env.profiles

    async def _find(self, conv_id: str) -> tuple[Conversation | None, Loaded | None]:
        """A conversation where it is in memory, else what is stored of it.

        One that was left by a kernel in the middle of a run is opened, which brings the run to its end.
        """
        live, loaded = self._manager.live(conv_id), None
        if live is None:
            loaded = await self._env.store.load(conv_id)
            if loaded is not None and loaded.pending:
                live = await self._manager.get(conv_id)
        return live, loaded

    async def _take_once(self, request: ChatRequest, user: str) -> Reply:
        """The first request of a key; one that came before a restart is answered from its record."""
        assert request.key is not None
        if request.conv_id is not None:
            await self._manager.get(request.conv_id)  # its keys may be where the conversation was until now
        record = await self._env.store.key(user, request.key)
        if record is not None and record.created > self._env.now_ms() - KEY_LIFETIME_MS:
            _same_body(record.digest, request)
            if request.conv_id is None:  # who has the conversation by now is the one to answer
                await self._manager.get(record.body["conv_id"])
            return Reply(record.status, record.body, replayed=True)
        return await self._take(request, user)

    def _hello(self, conversation: Conversation, profile: str) -> JSONObject:
        return {
            "protocol": PROTOCOL,
            "convId": conversation.conv_id,
            "profile": profile,
            "epoch": self._epoch,
            "version": conversation.stream.committed,
            "serverTime": self._env.now_ms(),
        }

    async def _take(self, request: ChatRequest, user: str) -> Reply:
        conv_id = request.conv_id or str(uuid.uuid4())
        conversation = await self._manager.get(conv_id)

        def record(accepted: Accepted) -> KeyRecord:
            reply = _reply(conv_id, request, accepted)
            key = reply.body["idempotency_key"]
            return KeyRecord(user, key, request.digest, reply.status, reply.body, self._env.now_ms())

        return _reply(conv_id, request, await conversation.accept(request, record))


def _reply(conv_id: str, request: ChatRequest, accepted: Accepted) -> Reply:
    body: dict[str, Any] = {
        "status": "queued" if accepted.position else "started",
        "run_id": accepted.run_id,
        "conv_id": conv_id,
        "turn_id": f"{accepted.run_id}:turn",
        "idempotency_key": request.key or accepted.run_id,
    }
    if accepted.position:
        body["queue_position"] = accepted.position
    return Reply(202 if accepted.position else 200, body)


def _same_body(digest: str, request: ChatRequest) -> None:
    if digest != request.digest:
        raise KeyReused("This idempotency key was used with another request.", field="idempotency_key")


def _retrieve(done: asyncio.Task[bool]) -> None:
    """What is wrong with the disk is said to who needs it."""
    if not done.cancelled():
        done.exception()


def _builtins(value: Overrides | Profile) -> JSONObject:
    built: JSONObject = msgspec.to_builtins(value)
    return built


def _version() -> str:
    try:
        return version("webchat-widget")
    except PackageNotFoundError:  # a source tree that was not installed
        return "0"
