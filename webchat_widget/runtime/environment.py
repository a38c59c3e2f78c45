"""What a host chooses once and every conversation is given: adapters, limits, the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from msgspec import Struct, field

from webchat_widget.engines.base import Engine
from webchat_widget.profiles import Profiles
from webchat_widget.timeline.store import TimelineStore
from webchat_widget.tools.loop import Limits
from webchat_widget.tools.registry import ToolRegistry

from .pool import PoolSettings

__all__ = ["Environment", "RuntimeSettings", "unix_ms"]


def unix_ms() -> int:
    """The wall clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


class RuntimeSettings(Struct, frozen=True, kw_only=True):
    """Limits of a conversation; times in seconds.

    `queue`: prompts that may wait; `run_seconds`: wall time of one run; `approval_seconds`: how long a call
    may wait for a person, which counts for nothing else; `readers`: connections of one conversation;
    `evict_after`: how long an idle conversation stays in memory.
    """

    queue: int = 20
    run_seconds: float = 1800.0
    approval_seconds: float = 86_400.0
    readers: int = 100
    evict_after: float = 300.0
    pool: PoolSettings = field(default_factory=PoolSettings)
    limits: Limits = field(default_factory=Limits)


class Environment(Struct, kw_only=True):
    """The adapters and settings of one host.

    `engine`, `profiles` and `tools` may be replaced while the host lives: a run takes what is there when it
    starts.
    """

    engine: Engine
    store: TimelineStore
    profiles: Profiles
    tools: ToolRegistry
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    now_ms: Callable[[], int] = unix_ms
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("webchat_widget"))
