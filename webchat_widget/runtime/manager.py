"""The conversations that are in memory: made or loaded when asked for, let go when idle."""

from __future__ import annotations

import asyncio

from webchat_widget.errors import ShuttingDown, WebChatError

from .conversation import Conversation
from .environment import Environment

__all__ = ["ConversationManager"]


class ConversationManager:
    """Get or create, and evict. A conversation that runs, queues or is read is never let go."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._opening: dict[str, asyncio.Task[Conversation]] = {}
        self._live: dict[str, Conversation] = {}
        self._evictions: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def busy(self) -> int:
        """How many conversations have a run under way or waiting."""
        return sum(conversation.busy for conversation in self._live.values())

    def live(self, conv_id: str) -> Conversation | None:
        """The conversation where it is in memory."""
        return self._live.get(conv_id)

    async def get(self, conv_id: str) -> Conversation:
        """The conversation, loaded or new. Raises StoreUnavailable."""
        if (live := self._live.get(conv_id)) is not None:
            self._keep(live)
            return live
        opening = self._opening.get(conv_id)
        if opening is None:
            opening = asyncio.create_task(self._open(conv_id), name=f"webchat-open-{conv_id}")
            self._opening[conv_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(conv_id, None))
        return await asyncio.shield(opening)

    async def close(self) -> None:
        """Close all conversations, and those that are about to open."""
        self._closing = True
        if self._opening:
            await asyncio.wait(list(self._opening.values()))
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
        conversation = Conversation(conv_id, self._env, loaded, self._idle)
        try:
            self._check_open()
            await conversation.recover()
            self._check_open()
        except BaseException:
            await conversation.abandon()
            raise
        self._live[conv_id] = conversation
        return conversation

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
        try:
            await conversation.stream.flush()
        except WebChatError as error:
            self._env.log.warning("webchat: %s stays in memory: %s", conversation.conv_id, error)
            conversation.pool.touch()  # try again after a while
        else:
            if conversation.idle and self._evictions.pop(conversation.conv_id, None) is not None:
                self._live.pop(conversation.conv_id, None)
                conversation.pool.close(1001, "idle")
