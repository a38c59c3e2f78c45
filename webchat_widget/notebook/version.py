"""Whether a function is still the one that it was, also after a restart of its kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import CodeType
from typing import Any

__all__ = ["version_of"]


def version_of(function: Callable[..., Any]) -> str:
    """A digest of what the function does by itself: not of what it calls, nor of where it stands.

    What is not written in Python counts as the same by its name.
    """
    written = [_content(function)]
    while (function := getattr(function, "__wrapped__", None)) is not None:  # type: ignore[assignment]
        written.append(_content(function))
    return hashlib.sha256(repr(written).encode("utf-8", "surrogatepass")).hexdigest()


def _content(function: Any) -> Any:
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    given = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    return _code(code), _plain(given)


def _code(code: CodeType) -> Any:
    """All but files and lines, which differ each time that the same cell is run."""
    names = code.co_varnames, code.co_names, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return code.co_code, code.co_exceptiontable, names, counts, _plain(code.co_consts)


def _plain(value: Any) -> Any:
    """What has the same repr in each process."""
    match value:
        case CodeType():
            return _code(value)
        case tuple() | list():
            return [_plain(item) for item in value]
        case dict():
            return [(_plain(key), _plain(item)) for key, item in value.items()]
        case set() | frozenset():
            return sorted(repr(_plain(item)) for item in value)
        case bool() | int() | float() | complex() | str() | bytes() | None:
            return value
    return type(value).__qualname__
