"""Tools by name: plain Python functions, described to the model by their signature and docstring."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from webchat_widget.turns import ToolSchema
from webchat_widget.typing import JSONObject

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

        Plain functions run on a thread, so that they hold up nobody. Raises what the function raises, as a
        RuntimeError where that would end the process, and pydantic's ValidationError for arguments that don't
        fit.
        """
        from pydantic import validate_call

        checked = validate_call(self.fn)

        def on_the_thread() -> Any:
            try:
                return checked(**arguments)
            except (StopIteration, KeyboardInterrupt, asyncio.CancelledError) as error:
                # No future carries the first out of a thread; the others would end more than the tool.
                raise _as_failure(error) from error

        try:
            if inspect.iscoroutinefunction(self.fn):
                result = await checked(**arguments)
            else:
                result = await asyncio.to_thread(on_the_thread)
        except SystemExit as error:
            raise _as_failure(error) from error
        return result if isinstance(result, str) else str(result)


def _as_failure(error: BaseException) -> RuntimeError:
    return RuntimeError(f"{type(error).__name__}: {error}")


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
