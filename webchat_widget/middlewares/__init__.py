"""What stands between a run and its model: a file for each middleware, and `base` for what they promise."""

from __future__ import annotations

from .agent_mode import AgentMode, Mode
from .base import Middleware, RunView
from .history_limit import HistoryLimit
from .logs import Logging
from .planning import Planning
from .step import Step
from .system_prompt import SystemPrompt
from .thinking_mode import ThinkingMode
from .tool_results import ToolResults

__all__ = [
    "AgentMode",
    "HistoryLimit",
    "Logging",
    "Middleware",
    "Mode",
    "Planning",
    "RunView",
    "Step",
    "SystemPrompt",
    "ThinkingMode",
    "ToolResults",
]
