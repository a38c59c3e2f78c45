"""Functions of a notebook as tools: where they run, what they show, and what is no tool."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import weakref
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

__all__ = ["NotebookTool", "is_tool", "registry_of"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

_STATUS: ContextVar[Callable[[str], None]] = ContextVar("webchat_status")

_tools: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


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
        raise _indescribable(name, function) from error
    if not described:
        raise _indescribable(name, function)
    with contextlib.suppress(TypeError):  # a method of C takes no weak reference
        _tools.add(function)
    return tool


def is_tool(value: Any) -> bool:
    """Whether it is a function that a chat of this process has, or had, as a tool."""
    return inspect.isroutine(value) and value in _tools


def _indescribable(name: str, function: Any) -> TypeError:
    parameters: list[inspect.Parameter] = []
    with contextlib.suppress(ValueError):  # some functions of C have no signature
        parameters += inspect.signature(function).parameters.values()
    troubles = (_trouble(function, parameter) for parameter in parameters)
    advice = next(filter(None, troubles), "give each parameter a name, and a type that JSON knows")
    return TypeError(f"The tool {name} can't be described to a model: {advice}.")


def _trouble(function: Any, parameter: inspect.Parameter) -> str | None:
    """Why a model can't be told of one parameter, and what to do; None where it can."""
    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL:
            return f"*{parameter.name} has no names for what it takes. Take a list instead"
        case inspect.Parameter.POSITIONAL_ONLY:
            return f"its parameter {parameter.name} can't be given by name. Remove the / behind it"
    given = parameter.annotation
    if given is parameter.empty:
        return None
    from pydantic import TypeAdapter

    try:
        meant = eval(given, inspect.unwrap(function).__globals__) if isinstance(given, str) else given
        TypeAdapter(meant).json_schema()
    except Exception:  # pydantic has an exception for each kind of type
        said = given if isinstance(given, str) else inspect.formatannotation(given)
        return (
            f"its parameter {parameter.name} is of the type {said}, which JSON does not know. Take numbers, "
            "texts, lists or dicts, or the name of a variable"
        )
    return None
