"""Functions of a notebook as tools: where they run, what they show, and what is no tool."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from webchat_widget.tools.decorator import options_of
from webchat_widget.tools.function import FunctionTool
from webchat_widget.tools.output import Output
from webchat_widget.tools.registry import Report, ToolRegistry
from webchat_widget.tools.threads import run_in_thread
from webchat_widget.typing import JSONObject

from .main_thread import main_thread
from .rich import bundle, figures_shown, shown
from .version import version_of

__all__ = ["NotebookTool", "registry_of"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

_STATUS: ContextVar[Callable[[str], None]] = ContextVar("webchat_status")


class NotebookTool(FunctionTool):
    """A function that runs on the kernel's main thread, or where there is none on a thread of its own."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn, runner=_on_main_thread, bundle=bundle)

    @property
    def version(self) -> str:
        """Differs from that of another function of the name, and outlives restarts of the kernel."""
        return version_of(self.fn)

    async def call(self, arguments: JSONObject, report: Report) -> Output:
        """`Tool.call`"""
        token = _STATUS.set(report.status)
        try:
            with shown() as pieces:
                return pieces.within(await super().call(arguments, report))
        finally:
            _STATUS.reset(token)

    def invoke(self, arguments: JSONObject, report: Report) -> Output:
        """`FunctionTool.invoke`"""
        with shown() as pieces, figures_shown():
            output = super().invoke(arguments, report)
        return pieces.within(output)


async def _on_main_thread(work: Callable[[], Output]) -> Output:
    main = main_thread()
    if main is None:
        return await run_in_thread(work)
    return await main.run(functools.partial(_with_figures, work), _STATUS.get())


def _with_figures(work: Callable[[], Output]) -> Output:
    with figures_shown():
        return work()


def registry_of(functions: Iterable[Callable[..., Any]]) -> ToolRegistry:
    """The tools that functions are, checked. Raises TypeError, with what to do."""
    if not isinstance(functions, Iterable):
        raise TypeError("tools= takes a list of functions.")
    tools = [_tool(function) for function in functions]
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise TypeError(f"tools= holds two functions that are named {name}: rename one of them.")
    return ToolRegistry(tools)


def _tool(function: Any) -> NotebookTool:
    name = getattr(function, "__name__", type(function).__name__)
    if not inspect.isroutine(function) or not _NAME.fullmatch(options_of(function).name or name):
        raise TypeError(f"tools= takes functions that were made with def and have a name; {name} is none.")
    tool = NotebookTool(function)
    try:
        described = tool.schema.parameters.get("type") == "object"
    except Exception as error:  # pydantic has an exception for each kind of signature
        raise _indescribable(name, "give each parameter a type that JSON knows") from error
    if not described:
        raise _indescribable(name, "its parameters must have names, and none may be for a position only")
    return tool


def _indescribable(name: str, advice: str) -> TypeError:
    return TypeError(f"The tool {name} can't be described to a model: {advice}.")
