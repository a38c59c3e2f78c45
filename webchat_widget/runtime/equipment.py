"""What one conversation has of its notebook: tools, texts that its prompts may name, and profiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from webchat_widget.profiles import Profile
from webchat_widget.tools.registry import ToolRegistry

__all__ = ["Equipment"]

_MENTION = re.compile(r"(?<!\w)@(\w+)")


def _stays() -> bool:
    return False


class Equipment(Struct, frozen=True):
    """A conversation's own tools, the texts that stand for `@name` in its prompts, and its own profiles.

    `gone` says whether the kernel that brought them is gone for good.
    """

    tools: ToolRegistry = field(default_factory=ToolRegistry)
    contexts: Mapping[str, str] = field(default_factory=dict)
    profiles: Sequence[Profile] = ()
    gone: Callable[[], bool] = _stays

    @property
    def empty(self) -> bool:
        """Whether there is nothing of its own."""
        return not (self.tools or self.contexts or self.profiles)

    def spelled_out(self, prompt: str) -> str:
        """The prompt as a model is sent it: behind it the texts that it names, each once."""
        names = dict.fromkeys(_MENTION.findall(prompt))
        texts = [f"[{name}]\n{self.contexts[name]}" for name in names if name in self.contexts]
        return "\n\n".join((prompt, *texts))
