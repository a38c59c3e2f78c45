"""The user's variables, and what can be said of one in a few lines, for a model that is to work with it."""

from __future__ import annotations

import contextlib
import inspect
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from types import ModuleType
from typing import Any

from .functions import is_tool
from .masking import masked

__all__ = [
    "after_cells",
    "name_of",
    "own_variables",
    "shape_of",
    "short",
    "summary",
    "user_namespace",
]

_SUMMARY = 4_000
_LINE = 120
_HEAD_ROWS = 5
_COLUMNS = 50

_FURNITURE = ("webchat_widget.", "IPython.core.autocall", "IPython.core.interactiveshell", "ipykernel.")

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _LINE
_brief.maxdict = _brief.maxlist = _brief.maxtuple = _brief.maxset = 6
_brief.maxlevel = 3


def user_namespace() -> dict[str, Any]:
    """The variables of the notebook's cells, or of the script; with all that IPython put there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else sys.modules["__main__"].__dict__


def after_cells(function: Callable[..., None], *, wanted: bool = True) -> None:
    """Have IPython call a function after each cell, once; or not any more. Elsewhere nothing happens."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return
    with contextlib.suppress(ValueError):  # it does not call it so far
        shell.events.unregister("post_run_cell", function)
    if wanted:
        shell.events.register("post_run_cell", function)


def own_variables() -> dict[str, Any]:
    """What the user has put there: nothing that was imported, of IPython's or the chat's, or that begins with
    `_`."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    hidden = getattr(shell, "user_ns_hidden", {})
    return {
        name: value
        for name, value in list(user_namespace().items())
        if not name.startswith("_")
        and not (name in hidden and hidden[name] is value)
        and not _is_imported(value)
        and not _is_furniture(value)
    }


def _is_imported(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return True
    # What is made in a cell belongs to `__main__`.
    return (inspect.isroutine(value) or inspect.isclass(value)) and getattr(
        value, "__module__", ""
    ) != "__main__"


def _is_furniture(value: Any) -> bool:
    """Whether it is a chat, a part of one, one of its tools, or what IPython uses itself."""
    return is_tool(value) or type(value).__module__.startswith(_FURNITURE)


def name_of(value: Any) -> str | None:
    """The name of a variable that holds a value; None where there is none."""
    names = (name for name, held in list(user_namespace().items()) if held is value)
    return next((name for name in names if not name.startswith("_")), None)


def short(value: Any) -> str:
    """A repr in one line, whatever the value is."""
    try:
        text = _brief.repr(value)
    except Exception as error:  # a stranger's __repr__ may do anything
        text = f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    line = masked(" ".join(text.split()))
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"


def shape_of(value: Any) -> str:
    """How large it is: `3 x 4` of an array or a table, a number of a container, empty for the rest."""
    with contextlib.suppress(Exception):
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            return " x ".join(str(size) for size in shape)
        if isinstance(value, Sequence | Mapping | Set) and not isinstance(value, type):
            return str(len(value))
    return ""


def summary(name: str, value: Any) -> str:
    """What a model needs to work with a variable: at most 4,000 characters."""
    text = f"{name}: {_described(value)}"
    return text if len(text) <= _SUMMARY else f"{text[: _SUMMARY - 1]}…"


def _described(value: Any) -> str:
    """Type, shape, types of what is in it, and how it begins; of a function its signature and docstring."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if callable(value) and (inspect.isroutine(value) or inspect.isclass(value)):
        return "\n".join((kind, *_called(value)))
    shape = shape_of(value)
    lines = [f"{kind}, {shape}" if shape else kind, *_types(value), *_beginning(value)]
    return masked("\n".join(lines))


def _called(value: Any) -> list[str]:
    lines = []
    with contextlib.suppress(Exception):
        lines.append(f"{getattr(value, '__name__', '')}{inspect.signature(value)}")
    if documented := inspect.getdoc(value):
        lines.append(documented)
    return lines


def _types(value: Any) -> list[str]:
    """The columns of a table, the dtype of an array, the fields of an object."""
    with contextlib.suppress(Exception):
        columns, dtypes = getattr(value, "columns", None), getattr(value, "dtypes", None)
        if columns is not None and dtypes is not None:
            named = [f"  {name}: {dtype}" for name, dtype in zip(columns, dtypes, strict=False)]
            more = [f"  … {len(named) - _COLUMNS} more"] if len(named) > _COLUMNS else []
            return ["columns:", *named[:_COLUMNS], *more]
        if (dtype := getattr(value, "dtype", None)) is not None:
            return [f"dtype: {dtype}"]
    return []


def _beginning(value: Any) -> list[str]:
    with contextlib.suppress(Exception):
        if callable(head := getattr(value, "head", None)) and hasattr(value, "shape"):
            return ["head:", str(head(_HEAD_ROWS))]
    match value:
        case str():
            return [value]
        case dict():
            return [f"  {short(key)}: {short(item)}" for key, item in list(value.items())[:_COLUMNS]]
        case list() | tuple():
            return [f"  {short(item)}" for item in value[:_COLUMNS]]
    try:
        return [str(value) if hasattr(value, "dtype") else repr(value)]
    except Exception as error:
        return [f"its repr raised {type(error).__name__}"]
