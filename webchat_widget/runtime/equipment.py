"""What one conversation has of its notebook: tools, texts that its prompts may name, and profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from webchat_widget.profiles import Profile
from webchat_widget.tools.registry import ToolRegistry

__all__ = ["Equipment"]

_MENTION = re.compile(r"(?<!\w)@(\w+)")


class Equipment(Struct, frozen=True):
    """A conversation's own tools, the texts that stand for `@name` in its prompts, and its own profiles."""

    tools: ToolRegistry = field(default_factory=ToolRegistry)
    contexts: Mapping[str, str] = field(default_factory=dict)
    profiles: Sequence[Profile] = ()

    @property
    def lost(self) -> bool:
        """Whether its tools are of a kernel that is gone for good."""
        return any(getattr(tool, "lost", False) for tool in self.tools)

    def spelled_out(self, prompt: str) -> str:
        """The prompt as a model is sent it: behind it the texts that it names, each once."""
        names = dict.fromkeys(_MENTION.findall(prompt))
        texts = [f"[{name}]\n{self.contexts[name]}" for name in names if name in self.contexts]
        return "\n\n".join((prompt, *texts))
