"""A chat in one process: the real runtime and a real store, with a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from webchat_widget import tool
from webchat_widget.engines.base import Engine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, TimelineQuery
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import TimelineStore
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry


class Page:
    """A reader that keeps what it is sent. While `stalled` is set it takes nothing."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.taken = 0
        self.free = asyncio.Event()
        self.free.set()
        self._came = asyncio.Condition()

    async def send(self, frame: bytes) -> None:
        await self.free.wait()
        self.frames.append(json.loads(frame))
        async with self._came:
            self._came.notify_all()

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)

    async def until(self, type: str, count: int = 1) -> None:
        """Wait until so many frames of a type came."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self.of(type)) >= count)

    def of(self, type: str) -> list[dict[str, Any]]:
        """The events of a type."""
        return [frame["event"] for frame in self.frames if frame["event"]["type"] == type]

    @property
    def types(self) -> list[str]:
        """The types of all frames, in order."""
        return [frame["event"]["type"] for frame in self.frames]


class Chat:
    """A service and what tests ask of it."""

    def __init__(self, service: ChatService, store: TimelineStore) -> None:
        self.service = service
        self.store = store

    async def join(self, conv_id: str = "c", *, append: bool = True) -> Page:
        """A page that reads a conversation."""
        page = Page()
        await self.service.join(conv_id, "default", page, append=append)
        return page

    async def say(self, prompt: str, conv_id: str = "c", key: str | None = None) -> dict[str, Any]:
        """Send a prompt; the reply's body."""
        request = ChatRequest(prompt=prompt, conv_id=conv_id, key=key, digest=prompt)
        return (await self.service.chat(request)).body

    async def rows(self, conv_id: str = "c") -> list[dict[str, Any]]:
        """The timeline."""
        page, _ = await self.service.timeline(TimelineQuery(conv_id))
        return [dict(row) for row in page.entities]

    async def texts(self, conv_id: str = "c") -> list[tuple[str, str]]:
        """Role and text of the messages, in order."""
        rows = await self.rows(conv_id)
        return [(r["props"]["role"], r["props"]["content"]) for r in rows if r["kind"] == "message"]


Start = Callable[..., Awaitable[Chat]]


def _marked(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn if hasattr(fn, "__webchat_tool__") else tool(read_only=True)(fn)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a chat: `await start(engine, settings=…, tools=[…], middlewares=[…])`; all are closed at the end.

    `profiles` are beside the default one, which has the tools and middlewares. Nobody is asked about a tool
    that is not marked with `@tool`.
    """
    begun: list[Chat] = []

    async def begin(
        engine: Engine | None = None,
        *,
        settings: RuntimeSettings | None = None,
        store: TimelineStore | None = None,
        tools: tuple[Callable[..., Any], ...] = (),
        middlewares: tuple[Any, ...] = (),
        profiles: tuple[Profile, ...] = (),
    ) -> Chat:
        store = store or SQLiteStore(tmp_path / "timeline.sqlite")
        registry = ToolRegistry(function_tool(_marked(fn)) for fn in tools)
        profile = Profile(slug="default", tools=registry.names, middlewares=middlewares)
        env = Environment(
            engine=engine or ScriptedEngine(),
            store=store,
            profiles=Profiles(profile, *profiles),
            tools=registry,
            settings=settings or RuntimeSettings(),
        )
        chat = Chat(ChatService(env), store)
        begun.append(chat)
        return chat

    yield begin
    for chat in begun:
        await chat.service.close()
