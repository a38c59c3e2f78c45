"""What a tool in a notebook shows: the forms of a value that IPython knows, and what is displayed in a call.

A tool runs in no cell, so what it displays must appear in none: it becomes a part of the result.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from webchat_widget.tools.output import DONE, Output, own_bundle
from webchat_widget.typing import JSONObject

__all__ = ["Shown", "bundle", "figures_shown", "shown"]

_KINDS = (
    "image/png",
    "image/jpeg",
    "image/svg+xml",
    "text/html",
    "text/markdown",
    "application/json",
)
_TEXT = 100_000
"""Characters of displayed text that are kept."""
_WINDOWLESS = ("agg", "inline", "backend_inline")

_SHOWN: ContextVar[Shown | None] = ContextVar("webchat_shown", default=None)
_lock = threading.Lock()
_diverted: dict[int, int] = {}
"""How many calls run, by the publisher that they are kept from."""


def bundle(value: Any) -> JSONObject:
    """The forms of a value: those that it offers itself, and those that IPython has a printer for.

    IPython's own way to ask for all of them would print the traceback of a form that fails into a cell.
    """
    if (figure := _figure(value)) is not None:
        return _drawn(figure)
    forms = own_bundle(value)
    formatters = getattr(getattr(_shell(), "display_formatter", None), "formatters", {})
    for kind in _KINDS:
        with contextlib.suppress(Exception):  # KeyError where there is no printer; what a printer raises
            form = formatters[kind].lookup(value)(value)
            if form is not None:
                forms[kind] = form[0] if isinstance(form, tuple) else form
    return forms


class Shown:
    """What one call has displayed."""

    def __init__(self) -> None:
        self._forms: JSONObject = {}
        self._texts: list[str] = []
        self._room = _TEXT

    def add(self, forms: Mapping[str, Any]) -> None:
        """Something was displayed. Of several, the last that is more than text is for the card."""
        if any(kind in forms for kind in _KINDS):
            self._forms = dict(forms)
        text = forms.get("text/plain")
        if isinstance(text, str) and self._room > 0:
            self._texts.append(text[: self._room])
            self._room -= len(text)

    def within(self, output: Output) -> Output:
        """A result with what was displayed, unless it is something to look at itself."""
        if output.mime is not None or not (self._forms or self._texts):
            return output
        text = "\n".join(self._texts) or DONE if output.text == DONE else output.text
        return Output(text, self._forms or None, output.printed)


@contextlib.contextmanager
def shown() -> Iterator[Shown]:
    """Within, and in what is called from here, also on other threads, what is displayed is kept back."""
    pieces = Shown()
    token = _SHOWN.set(pieces)
    publisher = getattr(_shell(), "display_pub", None)
    _divert(publisher)
    try:
        yield pieces
    finally:
        _give_back(publisher)
        _SHOWN.reset(token)


@contextlib.contextmanager
def figures_shown() -> Iterator[None]:
    """On the main thread: figures of pyplot that were made within are displayed and closed at the end.

    Left open, they would come out of the next cell. Those that have a window of their own stay.
    """
    before = set(_managers())
    try:
        yield
    finally:
        if _is_windowless():
            for number, manager in list(_managers().items()):
                if number not in before:
                    pieces = _SHOWN.get()
                    if pieces is not None:
                        with contextlib.suppress(Exception):
                            pieces.add(_drawn(manager.canvas.figure))
                    sys.modules["matplotlib._pylab_helpers"].Gcf.destroy(number)


def _divert(publisher: Any) -> None:
    if publisher is None:
        return
    with _lock:
        count = _diverted[id(publisher)] = _diverted.get(id(publisher), 0) + 1
        if count > 1:
            return
        publisher.publish = _unless_shown(publisher.publish, lambda pieces, data: pieces.add(data))
        publisher.clear_output = _unless_shown(publisher.clear_output, lambda pieces, data: None)


def _give_back(publisher: Any) -> None:
    if publisher is None:
        return
    with _lock:
        _diverted[id(publisher)] -= 1
        if not _diverted[id(publisher)]:
            del _diverted[id(publisher)], publisher.publish, publisher.clear_output


def _unless_shown(method: Callable[..., Any], take: Callable[[Shown, Any], None]) -> Callable[..., Any]:
    def called(data: Any = None, *args: Any, **kwargs: Any) -> Any:
        pieces = _SHOWN.get()
        if pieces is None:
            return method(*args, **kwargs) if data is None else method(data, *args, **kwargs)
        take(pieces, data)
        return None

    return called


# -- matplotlib, where somebody has imported it ---------------------------------------------------------


def _figure(value: Any) -> Any:
    """A figure of matplotlib, also that of axes, as pandas returns them; None for anything else."""
    if not type(value).__module__.startswith("matplotlib."):
        return None
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    return figure if hasattr(figure, "savefig") else None


def _drawn(figure: Any) -> JSONObject:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    return {"image/png": picture.getvalue(), "text/plain": repr(figure)}


def _managers() -> Mapping[int, Any]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return getattr(getattr(helpers, "Gcf", None), "figs", {})


def _is_windowless() -> bool:
    matplotlib = sys.modules.get("matplotlib")
    return matplotlib is not None and str(matplotlib.get_backend()).lower().endswith(_WINDOWLESS)


def _shell() -> Any:
    """IPython's, where this process runs one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
