"""What a tool promises, what it may tell while it runs, and tools by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from webchat_widget.turns import ToolSchema
from webchat_widget.typing import JSONObject

from .output import Output
from .own_events import OwnRow

__all__ = ["BadArguments", "Report", "Tool", "ToolCancelled", "ToolRegistry"]


class BadArguments(ValueError):
    """The arguments of a call don't fit the tool; the message tells the model what is wrong."""


class ToolCancelled(Exception):
    """A person interrupted the tool by itself, and nothing else of the run."""


class Report(Protocol):
    """What a call tells while it runs. The methods may be called on any thread, and never block."""

    def progress(self, value: float | None, text: str = "") -> None:
        """How far it is, from 0 to 1; None where nobody knows."""
        ...

    def stdout(self, text: str) -> None:
        """Text that the tool printed."""
        ...

    def event(self, row: OwnRow) -> None:
        """A row of a person's own kind, made or changed."""
        ...

    def status(self, status: str) -> None:
        """`waiting` (for the kernel, or its main thread) or `running`."""
        ...


class Tool(Protocol):
    """Something that a model may ask for by name."""

    @property
    def name(self) -> str:
        """The name by which a model asks for it."""
        ...

    @property
    def schema(self) -> ToolSchema:
        """What the model is told of it."""
        ...

    @property
    def approval(self) -> str:
        """`ask`, `each` (a yes never holds for later calls), `never`, or `predicate`."""
        ...

    async def asks(self, arguments: JSONObject) -> bool:
        """Whether a person must say yes to a call with these arguments. Raises BadArguments."""
        ...

    async def call(self, arguments: JSONObject, report: Report) -> Output:
        """Run it. Where the caller is cancelled, what it began is ended as far as that can be.

        Raises BadArguments, ToolCancelled, and whatever the tool raises.
        """
        ...


class ToolRegistry:
    """The tools that a run may use."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all, in their order."""
        return tuple(self._tools)

    def get(self, name: str) -> Tool | None:
        """The tool of that name."""
        return self._tools.get(name)

    def over(self, others: ToolRegistry) -> ToolRegistry:
        """These tools, and those of `others` whose names are not taken."""
        return ToolRegistry((others._tools | self._tools).values())

    def only(self, names: Iterable[str]) -> ToolRegistry:
        """A registry of those of these tools that are named."""
        return ToolRegistry(self._tools[name] for name in dict.fromkeys(names) if name in self._tools)

    def schemas(self) -> tuple[ToolSchema, ...]:
        """What the model is told."""
        return tuple(tool.schema for tool in self)
