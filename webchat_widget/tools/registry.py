"""Tools by name: plain Python functions, described to the model by their signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from webchat_widget.turns import ToolSchema
from webchat_widget.typing import JSONObject

from .threads import run_in_thread

__all__ = ["Tool", "ToolRegistry", "function_tool"]


class Tool:
    """One tool: what the model is told (`schema`), and the function that runs.

    The schema and the check of arguments are pydantic's, which comes with `openai`; it is imported when the
    first turn with tools begins.
    """

    def __init__(self, name: str, fn: Callable[..., Any]) -> None:
        self.name = name
        self.fn = fn
        self._schema: ToolSchema | None = None

    @property
    def schema(self) -> ToolSchema:
        """Name, description and parameters as JSON schema."""
        if self._schema is None:
            from pydantic import TypeAdapter

            adapter: Any = TypeAdapter(self.fn)  # type: ignore[arg-type]  # a function is as good as a type here
            parameters = adapter.json_schema()
            self._schema = ToolSchema(self.name, inspect.getdoc(self.fn) or "", parameters)
        return self._schema

    async def call(self, arguments: JSONObject) -> str:
        """Run it with checked and coerced arguments; what it returns, as text.

        A plain function runs on a thread of its own, so that it holds up nobody; where the caller is
        cancelled, it is left to end by itself. Raises what the function raises, as a RuntimeError where that
        would end the process, and pydantic's ValidationError for arguments that don't fit.
        """
        from pydantic import validate_call

        checked = validate_call(self.fn)
        if not inspect.iscoroutinefunction(self.fn):
            result = await run_in_thread(lambda: checked(**arguments))
        else:
            try:
                result = await checked(**arguments)
            except SystemExit as error:
                raise RuntimeError(f"SystemExit: {error}") from error
        return result if isinstance(result, str) else str(result)


def function_tool(fn: Callable[..., Any]) -> Tool:
    """A tool that is called like the function."""
    return Tool(fn.__name__, fn)


class ToolRegistry:
    """The tools that a run may use."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def __iter__(self) -> Any:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def get(self, name: str) -> Tool | None:
        """The tool of that name."""
        return self._tools.get(name)

    def only(self, names: Iterable[str]) -> ToolRegistry:
        """A registry of some of these tools; KeyError for a name that is unknown."""
        return ToolRegistry(self._tools[name] for name in names)

    def schemas(self) -> tuple[ToolSchema, ...]:
        """What the model is told."""
        return tuple(tool.schema for tool in self)
