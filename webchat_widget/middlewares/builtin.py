"""The middlewares that every host knows."""

from __future__ import annotations

from .base import Middlewares
from .system_prompt import SystemPrompt

__all__ = ["BUILTIN"]

BUILTIN = Middlewares([SystemPrompt])
