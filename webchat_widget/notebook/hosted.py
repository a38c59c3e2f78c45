"""One conversation that this kernel hosts: its file, its engine and tools, and the service on top."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from webchat_widget.engines.base import Engine
from webchat_widget.engines.environment import EnvironmentEngine, names_a_model
from webchat_widget.engines.function import FunctionEngine
from webchat_widget.engines.openai import OpenAIEngine
from webchat_widget.errors import ConversationHeld, ShuttingDown
from webchat_widget.middlewares.base import Middlewares
from webchat_widget.profiles import DEFAULT, Profile, Profiles
from webchat_widget.requests import parse_settings
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import TimelineStore
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.tools.threads import run_in_thread
from webchat_widget.typing import JSONObject

from .profiles import HOST_TOOLS, kernel_profiles

__all__ = ["Equipment", "Hosted", "check", "engine_of", "profiles_of"]

_SETTINGS = RuntimeSettings(
    # A comm is paced to what the server lets through, so a long text may take a while.
    pool=PoolSettings(stall_seconds=60.0),
)


def _held(owner: str) -> ConversationHeld:
    named = owner and f" ({owner})"
    return ConversationHeld(
        f"Another kernel has this conversation open{named}: a second notebook with the same conv_id, or one "
        "that was not shut down. Shut that kernel down and retry, or begin another conversation with "
        "ChatWidget(new=True)."
    )


class Equipment(Struct, frozen=True):
    """What a conversation has of its notebook: an engine (without one, what the environment names), tools
    beside its profile's, the texts that stand for `@name` in a prompt, profiles, and the kinds of middlewares
    that were made in it."""

    engine: Engine | None = None
    tools: ToolRegistry = field(default_factory=ToolRegistry)
    contexts: Mapping[str, str] = field(default_factory=dict)
    profiles: Sequence[Profile] = ()
    kinds: Middlewares = field(default_factory=Middlewares)


def engine_of(given: Any) -> Engine | None:
    """An engine as a person gives it: an object, or an async generator function. TypeError for others."""
    if inspect.isasyncgenfunction(given):
        return FunctionEngine(given)
    if isinstance(given, type):
        name = given.__name__
        raise TypeError(f"engine= needs an object, and {name} is a class: write engine={name}(…).")
    if inspect.isroutine(given):
        raise TypeError(
            f"engine= takes an async generator function: write `async def {given.__name__}(turn):`, with "
            "`yield` for each piece of the answer."
        )
    lacking = [name for name in ("name", "model", "stream", "aclose") if not hasattr(given, name)]
    if given is not None and lacking:
        raise TypeError(
            f"engine= needs an object with name, model, stream and aclose (webchat_widget.engines.base); "
            f"{type(given).__name__} lacks {', '.join(lacking)}."
        )
    engine: Engine | None = given
    return engine


class Hosted:
    """A conversation and what answers in it. `folder` is None for one that lives in memory.

    All methods are called on the host's loop. The file is let go of when nobody has used it for
    `rest_seconds`, nothing runs, and `wanted` says that no widget shows it; the next use opens it again.
    """

    def __init__(
        self,
        conv_id: str,
        folder: Path | None,
        log: logging.Logger,
        *,
        wanted: Callable[[], bool] = lambda: True,
        rest_seconds: float = 30.0,
    ) -> None:
        self.conv_id = conv_id
        self._folder = folder
        self._log = log
        self._wanted = wanted
        self._rest_seconds = rest_seconds
        self._equipment: Equipment | None = None
        """None while the conversation lives elsewhere: a file that is open here can't be handed over."""
        self._settings: JSONObject | None = None
        """What is not stored yet."""
        self._claim: Callable[[], None] | None = None
        self._claimed = True
        self._env: Environment | None = None
        self._service: ChatService | None = None
        self._used = 0.0
        """When somebody asked for the service last, on the loop's clock."""
        self._resting: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._claiming = asyncio.Lock()
        self._opening = asyncio.Lock()

    def equip(
        self, equipment: Equipment, settings: JSONObject, claim: Callable[[], None] | None = None
    ) -> None:
        """The conversation lives here as of now. What later runs are answered by, and begin with in place of
        their profile's. `claim` blocks until whoever had the conversation has left it to us, and raises where
        they don't: nothing is opened before. Without one, that of an earlier call holds."""
        self._equipment = equipment
        self._settings = settings
        if claim is not None:
            self._claim, self._claimed = claim, False
        if (env := self._env) is not None and self._service is not None:
            env.engine, env.tools, env.profiles = _answering(equipment)
            _give(self._service, self.conv_id, equipment)

    async def ready(self) -> ChatService:
        """The service, with the file open and the settings stored.

        Raises ConversationHeld, StoreUnavailable, what `claim` raises, and ShuttingDown while it moves; the
        next call then tries again.
        """
        async with self._claiming:
            if self._claim is not None and not self._claimed:
                await run_in_thread(self._claim)
                self._claimed = True
        async with self._opening:
            service = self._open()
            self._look_who_answers()
            await service.start()
            settings, self._settings = self._settings, None
            if settings is not None:
                try:
                    await service.configure(self.conv_id, parse_settings(msgspec.json.encode(settings)))
                except BaseException:
                    if self._settings is None:  # nobody has said otherwise meanwhile
                        self._settings = settings
                    raise
            self._used = asyncio.get_running_loop().time()
            return service

    async def close(self) -> None:
        """End what runs as interrupted, store everything, let go of the file: until `equip` is called."""
        self._equipment = self._claim = None
        await self._let_go()

    def _open(self) -> ChatService:
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
            self._warming = asyncio.create_task(_warm_up(engine), name="webchat-warm-up")
            # Before it starts: a run that waited for a yes when the kernel ended goes on with its tools.
            _give(self._service, self.conv_id, self._equipment)
            if self._folder is not None:
                self._resting = asyncio.create_task(self._rest(), name="webchat-rest")
        return self._service

    def _look_who_answers(self) -> None:
        """A model may have been named in the environment, or be gone from there: runs that start later have
        what goes with it."""
        equipment, env = self._equipment, self._env
        assert equipment is not None
        assert env is not None
        if env.profiles.get(DEFAULT).tools != _tools_of_default(equipment):
            env.profiles = profiles_of(equipment)

    async def _let_go(self) -> None:
        async with self._opening:  # whoever comes back soon waits, and finds nobody in the file
            service, self._service = self._service, None
            env, self._env = self._env, None
            self._claimed = False
            if self._resting is not None and self._resting is not asyncio.current_task():
                self._resting.cancel()
            if service is not None:
                await service.close()
            if env is not None and isinstance(env.engine, EnvironmentEngine):  # others are their makers'
                await env.engine.aclose()

    async def _rest(self) -> None:
        while (service := self._service) is not None:
            await asyncio.sleep(self._rest_seconds)
            idle = asyncio.get_running_loop().time() - self._used
            if idle >= self._rest_seconds and not service.busy and not self._wanted():
                return await self._let_go()

    def _store(self) -> TimelineStore:
        if self._folder is None:
            return MemoryStore()
        file = conversation_file(self._folder, self.conv_id)
        return SQLiteStore(file, kind="a kernel", in_use=_held, drop_empty=True)


async def _warm_up(engine: Engine) -> None:
    """Import the SDK before the first prompt: next to a cell that computes, that takes many seconds."""
    if engine.name == OpenAIEngine.name:
        with contextlib.suppress(ImportError):
            await run_in_thread(partial(import_module, "openai"))


def _give(service: ChatService, conv_id: str, equipment: Equipment) -> None:
    service.equip(conv_id, equipment.tools, equipment.contexts, equipment.profiles)


def _answering(equipment: Equipment) -> tuple[Engine, ToolRegistry, Profiles]:
    """The engine, and what it has without the conversation's own."""
    engine = EnvironmentEngine() if equipment.engine is None else equipment.engine
    return engine, ToolRegistry([function_tool(calculate)]), profiles_of(equipment)


def _tools_of_default(equipment: Equipment) -> tuple[str, ...]:
    """What the demo has without being told: the calculator. Some models refuse any tool."""
    return HOST_TOOLS if equipment.engine is None and not names_a_model() else ()


def profiles_of(equipment: Equipment) -> Profiles:
    """The profiles that a conversation has here, without its own."""
    default = Profile(slug=DEFAULT, tools=_tools_of_default(equipment))
    return kernel_profiles(default, equipment.kinds)


def check(equipment: Equipment, settings: JSONObject) -> None:
    """Raise NotAllowed for profiles and settings that a conversation in this kernel can't have."""
    profiles = profiles_of(equipment)
    profiles.check_own(equipment.profiles, equipment.tools)
    profiles.check(DEFAULT, parse_settings(msgspec.json.encode(settings)), equipment.tools)
