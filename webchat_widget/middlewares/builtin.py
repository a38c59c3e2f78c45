"""The middlewares that every host knows."""

from __future__ import annotations

from .agent_mode import AgentMode
from .base import Middlewares
from .history_limit import HistoryLimit
from .logs import Logging
from .planning import Planning
from .step import Step
from .system_prompt import SystemPrompt
from .thinking_mode import ThinkingMode
from .tool_results import ToolResults

__all__ = ["BUILTIN"]

BUILTIN = Middlewares(
    [SystemPrompt, ToolResults, HistoryLimit, AgentMode, ThinkingMode, Planning, Logging, Step]
)
