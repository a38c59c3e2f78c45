"""`@tool`: what a function's author says about it as a tool."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, overload

from msgspec import Struct

__all__ = ["Options", "options_of", "tool"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ATTRIBUTE = "__webchat_tool__"


class Options(Struct, frozen=True, kw_only=True):
    """`approval` is `ask`, `each` (a yes never holds for later calls), `never`, or a predicate that says
    whether a person must be asked."""

    name: str | None = None
    description: str | None = None
    approval: str | Callable[..., bool] = "ask"
    thread: bool = False


@overload
def tool(fn: _Function, /) -> _Function: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    approval: str | Callable[..., bool] | None = None,
    thread: bool = False,
) -> Callable[[_Function], _Function]: ...


def tool(
    fn: _Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    approval: str | Callable[..., bool] | None = None,
    thread: bool = False,
) -> Any:
    """Say how a model may use a function; the function itself stays as it is.

    ::

        @tool(read_only=True)
        def area(country: str) -> float:
            "The area of a country in square kilometres."

    The model is told the name, the docstring, and the parameters: each needs a name and a type that JSON
    knows, such as `int`, `float`, `str`, `bool`, `list[str]`, `dict`, `Literal["a", "b"]`, a dataclass or a
    pydantic model; a default makes it optional. What a call gives is checked and converted.

    The result may be anything: the model reads its text, the page shows its richest form (`_repr_html_`,
    `_repr_png_` and the like, so tables and figures). What is printed is shown while it runs, and the model
    is told it too. A generator tells how far it is: it yields a number from 0 to 1, a text, or both as a
    pair, and its result is what it returns. An `async def` runs beside the kernel's main thread.

    `name` and `description` replace the function's name and docstring. A person is asked before each call
    (`approval="ask"`), unless the function is marked `read_only`, which says that it changes nothing, or as
    `approval="never"`. With `approval="each"` a person can't allow later calls in advance. `approval` may
    also be a function that is called with the arguments and returns True where a person must be asked.
    `thread=True` says that it may run beside the kernel's main thread. Raises TypeError for options that make
    no sense.
    """
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise TypeError(
            "@tool(name=…) takes 1 to 64 letters, digits, '_' and '-', the first a letter or '_'."
        )
    if approval is None:
        approval = "never" if read_only else "ask"
    if approval not in ("ask", "each", "never") and not callable(approval):
        raise TypeError(
            '@tool(approval=…) takes "ask", "each", "never", or a function that says whether to ask.'
        )
    options = Options(name=name, description=description, approval=approval, thread=thread)

    def mark(function: _Function) -> _Function:
        if not callable(function):
            raise TypeError("@tool stands before a function; its options have names: @tool(name=…).")
        try:
            setattr(function, _ATTRIBUTE, options)
        except AttributeError:
            raise TypeError("@tool can't mark this object: write a function that calls it.") from None
        return function

    return mark if fn is None else mark(fn)


def options_of(fn: Callable[..., Any]) -> Options:
    """What `@tool` said about a function; the defaults where nobody did."""
    options = getattr(fn, _ATTRIBUTE, None)
    return options if isinstance(options, Options) else Options()
