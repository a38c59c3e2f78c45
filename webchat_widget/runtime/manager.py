"""The conversations that are in memory: made or loaded when asked for, let go when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from webchat_widget.errors import ShuttingDown, StoreUnavailable, WebChatError

from .conversation import Conversation
from .environment import Environment
from .equipment import Equipment

__all__ = ["ConversationManager"]


class ConversationManager:
    """Get or create, and evict. A conversation that runs, queues or is read is never let go.

    `on_incomplete` is called where one was opened that can only be read.
    """

    def __init__(self, env: Environment, on_incomplete: Callable[[], None]) -> None:
        self._env = env
        self._on_incomplete = on_incomplete
        self._opening: dict[str, asyncio.Task[Conversation]] = {}
        self._leaving: dict[str, asyncio.Task[bool]] = {}
        self._live: dict[str, Conversation] = {}
        self._evictions: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._equipment: dict[str, Equipment] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def busy(self) -> int:
        """How many conversations have a run under way or waiting."""
        return sum(conversation.busy for conversation in self._live.values())

    def live(self, conv_id: str) -> Conversation | None:
        """The conversation where it is in memory, and all of it was loaded."""
        live = self._live.get(conv_id)
        return live if live is not None and live.complete else None

    def equipment(self, conv_id: str) -> Equipment:
        """What a conversation has beside its profile."""
        return self._equipment.get(conv_id) or Equipment()

    def equip(self, conv_id: str, equipment: Equipment) -> None:
        """Replace it. It stays while the conversation is not in memory, unless its kernel is gone."""
        for other in [id for id, had in self._equipment.items() if id not in self._live and had.gone()]:
            del self._equipment[other]
        self._equipment.pop(conv_id, None)
        if not equipment.empty:
            self._equipment[conv_id] = equipment

    async def get(self, conv_id: str) -> Conversation:
        """The conversation, loaded or new. Raises StoreUnavailable and ConversationHeld."""
        while (leaving := self._leaving.get(conv_id)) is not None:
            await asyncio.wait([leaving])
        if (live := self.live(conv_id)) is not None:
            self._keep(live)
            return live
        opening = self._opening.get(conv_id)
        if opening is None:
            opening = asyncio.create_task(self._open(conv_id), name=f"webchat-open-{conv_id}")
            self._opening[conv_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(conv_id, None))
        return await asyncio.shield(opening)

    async def leave(self, conv_id: str, give: Callable[[str], Awaitable[bool]]) -> bool:
        """Close a conversation, then `give` it away; who asks for it meanwhile waits for the outcome.

        Raises what `give` raises, and StoreUnavailable.
        """
        leaving = self._leaving.get(conv_id)
        if leaving is None:
            leaving = asyncio.create_task(self._leave(conv_id, give), name=f"webchat-leave-{conv_id}")
            self._leaving[conv_id] = leaving
            leaving.add_done_callback(lambda _: self._leaving.pop(conv_id, None))
        return await asyncio.shield(leaving)

    async def close(self) -> None:
        """Close all conversations, and those that are about to open or to leave."""
        self._closing = True
        if changing := [*self._opening.values(), *self._leaving.values()]:
            await asyncio.wait(changing)
        for timer in self._evictions.values():
            timer.cancel()
        self._evictions.clear()
        live = list(self._live.values())
        self._live.clear()
        for result in await asyncio.gather(*(c.close() for c in live), return_exceptions=True):
            if isinstance(result, BaseException):
                self._env.log.error("webchat: a conversation could not be closed: %s", result)

    async def _open(self, conv_id: str) -> Conversation:
        loaded = await self._env.store.load(conv_id)
        if (before := self._live.get(conv_id)) is not None:
            if loaded is not None and not loaded.complete:
                self._on_incomplete()
                return before
            self._forget(conv_id)
            await before.abandon()  # its readers come again
        try:
            conversation = Conversation(
                conv_id, self._env, loaded, self._idle, lambda: self.equipment(conv_id)
            )
            try:
                self._check_open()
                await conversation.recover()
                self._check_open()
            except BaseException:
                await conversation.abandon()
                raise
        except WebChatError:
            raise
        except Exception as error:  # JSON, but not what we ever wrote
            self._env.log.exception("webchat: the conversation %s can't be opened", conv_id)
            raise StoreUnavailable(
                f"The conversation {conv_id} can't be opened: its data is damaged. Others are not affected.",
                code="conversation_unreadable",
            ) from error
        self._live[conv_id] = conversation
        if not conversation.complete:
            self._on_incomplete()
        return conversation

    async def _leave(self, conv_id: str, give: Callable[[str], Awaitable[bool]]) -> bool:
        self._check_open()
        if (opening := self._opening.get(conv_id)) is not None:
            await asyncio.wait([opening])
        conversation = self._live.get(conv_id)
        if conversation is not None:
            # Where the disk refuses, it stays and nothing has happened.
            await conversation.stream.flush()
            if conversation.stream.committed:  # the store need not learn of what it does not know
                await conversation.stream.emit()
            try:
                await conversation.close(moves=True)
            finally:
                self._forget(conv_id)
        return await give(conv_id)

    def _forget(self, conv_id: str) -> None:
        self._live.pop(conv_id, None)
        if (timer := self._evictions.pop(conv_id, None)) is not None:
            timer.cancel()

    def _check_open(self) -> None:
        if self._closing:
            raise ShuttingDown("The chat is shutting down. Try again in a moment.")

    def _idle(self, conversation: Conversation) -> None:
        """Nobody has read for a while: let go later, unless something happens until then."""
        self._keep(conversation)
        if conversation.idle:
            later = asyncio.get_running_loop().call_later(
                self._env.settings.evict_after, self._evict, conversation
            )
            self._evictions[conversation.conv_id] = later

    def _keep(self, conversation: Conversation) -> None:
        if (timer := self._evictions.pop(conversation.conv_id, None)) is not None:
            timer.cancel()
            conversation.pool.touch()

    def _evict(self, conversation: Conversation) -> None:
        task = asyncio.create_task(self._let_go(conversation), name=f"webchat-evict-{conversation.conv_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_go(self, conversation: Conversation) -> None:
        conv_id = conversation.conv_id
        due, stored = self._evictions.get(conv_id), True
        try:
            await conversation.stream.flush()
        except Exception as error:
            self._env.log.warning("webchat: %s stays in memory: %s", conv_id, error)
            stored = False
        if due is None or self._evictions.get(conv_id) is not due:
            return  # somebody has asked for it
        del self._evictions[conv_id]
        if stored and conversation.idle:
            self._forget(conv_id)
            conversation.pool.close(1001, "idle")
        else:
            conversation.pool.touch()  # try again after a while
