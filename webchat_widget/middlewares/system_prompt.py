"""What the model is told before everything else."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec.structs import replace

from webchat_widget.turns import Message, Turn

from .base import Middleware, RunView

__all__ = ["SystemPrompt"]


class SystemPrompt(Middleware, frozen=True):
    """Tells the model `text`, in place of, before or after what it is told already."""

    name: ClassVar[str] = "system_prompt"
    text: str = ""
    where: Literal["replace", "before", "after"] = "replace"

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        """The turn with the text in its one system message, which is the first."""
        told = [message.content for message in turn.messages if message.role == "system"]
        order = {"replace": [self.text], "before": [self.text, *told], "after": [*told, self.text]}
        rest = tuple(message for message in turn.messages if message.role != "system")
        system = "\n\n".join(text for text in order[self.where] if text)
        return replace(turn, messages=(Message("system", system), *rest) if system else rest)
