"""One conversation that this kernel hosts: its file, its engine and tools, and the service on top."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from webchat_widget.engines.base import Engine
from webchat_widget.engines.environment import EnvironmentEngine
from webchat_widget.errors import ConversationHeld, ShuttingDown
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import parse_settings
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import TimelineStore
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.registry import Tool, ToolRegistry, function_tool
from webchat_widget.typing import JSONObject

__all__ = ["Equipment", "Hosted"]

_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

_SETTINGS = RuntimeSettings(
    # A comm is paced to what the server lets through, so a long text may take a while.
    pool=PoolSettings(stall_seconds=60.0),
)


def _held() -> ConversationHeld:
    return ConversationHeld(
        "Another kernel has this conversation open: a second notebook with the same conv_id, or one that was "
        "not shut down. Shut that kernel down and retry, or begin another conversation with "
        "ChatWidget(new=True)."
    )


class Equipment(Struct, frozen=True):
    """What a kernel answers with; without an engine, what the environment names."""

    engine: Engine | None = None
    tools: tuple[Tool, ...] = ()

    @classmethod
    def of(cls, engine: Any, functions: Iterable[Callable[..., Any]]) -> Equipment:
        """Checked. Raises TypeError for what is no engine, or a function that can't be a tool."""
        if isinstance(engine, type):
            name = engine.__name__
            raise TypeError(f"engine= needs an object, and {name} is a class: write engine={name}(…).")
        lacking = [name for name in ("name", "model", "stream", "aclose") if not hasattr(engine, name)]
        if engine is not None and lacking:
            raise TypeError(
                f"engine= needs an object with name, model, stream and aclose (webchat_widget.engines.base); "
                f"{type(engine).__name__} lacks {', '.join(lacking)}."
            )
        if not isinstance(functions, Iterable):
            raise TypeError("tools= takes a list of functions.")
        tools = tuple(_tool(function) for function in functions)
        names = [tool.name for tool in tools]
        for name in names:
            if names.count(name) > 1:
                raise TypeError(f"tools= holds two functions that are named {name}: rename one of them.")
        return cls(engine, tools)


def _tool(function: Any) -> Tool:
    name = getattr(function, "__name__", type(function).__name__)
    if not inspect.isroutine(function) or not _TOOL_NAME.fullmatch(name):
        raise TypeError(f"tools= takes functions that were made with def and have a name; {name} is none.")
    tool = function_tool(function)
    try:
        described = tool.schema.parameters.get("type") == "object"
    except Exception as error:  # pydantic has an exception for each kind of signature
        raise _indescribable(name, "give each parameter a type that JSON knows") from error
    if not described:
        raise _indescribable(name, "its parameters must have names, and none may be for a position only")
    return tool


def _indescribable(name: str, advice: str) -> TypeError:
    return TypeError(f"The tool {name} can't be described to a model: {advice}.")


class Hosted:
    """A conversation and what answers in it. `folder` is None for one that lives in memory.

    All methods are called on the host's loop.
    """

    def __init__(self, conv_id: str, folder: Path | None, log: logging.Logger) -> None:
        self.conv_id = conv_id
        self._folder = folder
        self._log = log
        self._equipment: Equipment | None = None
        """None while the conversation lives elsewhere: a file that is open here can't be handed over."""
        self._settings: JSONObject | None = None
        """What is not stored yet."""
        self._env: Environment | None = None
        self._service: ChatService | None = None
        self._claim: Callable[[], None] | None = None
        self._opening = asyncio.Lock()

    def equip(
        self, equipment: Equipment, settings: JSONObject, claim: Callable[[], None] | None = None
    ) -> None:
        """The conversation lives here as of now. What later runs are answered by, and begin with in place of
        their profile's. `claim` blocks until whoever had the conversation has left it to us, and raises where
        they don't: nothing is opened before."""
        self._equipment = equipment
        self._settings = settings
        self._claim = claim or self._claim
        if (env := self._env) is not None:
            env.engine, env.tools, env.profiles = _answering(equipment)

    async def ready(self) -> ChatService:
        """The service, with the file open and the settings stored.

        Raises ConversationHeld, StoreUnavailable, what `claim` raises, and ShuttingDown while it moves; the
        next call then tries again.
        """
        async with self._opening:
            if self._claim is not None:
                await asyncio.to_thread(self._claim)
                self._claim = None
        if self._equipment is None:
            raise ShuttingDown("This chat is moving. Try again in a moment.", code="moved")
        if self._service is None:
            engine, tools, profiles = _answering(self._equipment)
            self._env = Environment(
                engine=engine,
                store=self._store(),
                profiles=profiles,
                tools=tools,
                settings=_SETTINGS,
                log=self._log,
            )
            self._service = ChatService(self._env)
        service = self._service
        await service.start()
        settings, self._settings = self._settings, None
        if settings is not None:
            try:
                await service.configure(self.conv_id, parse_settings(msgspec.json.encode(settings)))
            except BaseException:
                self._settings = self._settings or settings
                raise
        return service

    async def close(self) -> None:
        """End what runs as interrupted, store everything, and let go of the file, until `equip` is called."""
        self._equipment = self._claim = None
        service, self._service, self._env = self._service, None, None
        if service is not None:
            await service.close()

    def _store(self) -> TimelineStore:
        if self._folder is None:
            return MemoryStore()
        return SQLiteStore(conversation_file(self._folder, self.conv_id), in_use=_held, drop_empty=True)


def _answering(equipment: Equipment) -> tuple[Engine, ToolRegistry, Profiles]:
    engine, tools = equipment.engine, list(equipment.tools)
    if engine is None:
        own = {tool.name for tool in tools}
        demo_tools = [tool for tool in (function_tool(calculate),) if tool.name not in own]
        tools += demo_tools
        engine = EnvironmentEngine(demo_tools=frozenset(tool.name for tool in demo_tools))
    profile = Profile(slug="default", tools=tuple(tool.name for tool in tools), models=("*",))
    return engine, ToolRegistry(tools), Profiles(profile)
