"""What a tool gives, as text for the model and as a MIME bundle for the person.

Any Python value becomes something sensible, and none an error: what can't be shown is left out, with a word
about it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

from msgspec import Struct

from webchat_widget.requests import MAX_DEPTH
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.sem.text import clean
from webchat_widget.typing import JSONObject

__all__ = ["DONE", "MAX_MIME", "Output", "bounded", "cut", "output_of", "own_bundle", "plain"]

DONE = "done"
"""What the model is told of a call that gives nothing."""
MAX_MIME = 2_000_000
"""Characters of one form of a result; of all forms together twice as much."""

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_TEXTS = ("image/svg+xml", "text/html", "text/markdown", "text/plain")
_KEPT = (*_IMAGES, *_TEXTS, "application/json")

_REPRS = {
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "image/svg+xml": "_repr_svg_",
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "application/json": "_repr_json_",
}
_SAID_BY_STR = (date, time, timedelta, Decimal, Fraction, PurePath, UUID, BaseException)
"""What says more to a model by `str` than by `repr`."""


class Output(Struct, frozen=True):
    """The result of a call: `text` is for the model, and for the person where `mime` has nothing richer.

    What the call `printed` comes before the text as soon as it is `bounded`.
    """

    text: str
    mime: JSONObject | None = None
    printed: str = ""


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, and a word about what is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} characters cut"


def bounded(output: Output, limit: int) -> Output:
    """What may be sent and stored of an output, whoever made it: clean, cut, and of known kinds only.

    What was printed is part of its text, and all of it where nothing was said.
    """
    mime, left_out = _kept(output.mime or {})
    text = output.text
    if printed := output.printed.rstrip("\n"):
        text = printed if text == DONE else f"{printed}\n{text}"
    text = clean(cut(text, limit))
    return Output("\n".join((text, *left_out)) if left_out else text, mime or None)


def output_of(value: Any, bundle: Callable[[Any], Mapping[str, Any]] | None = None) -> Output:
    """A value as an output: its own where it is one, else by what it is. Never raises an Exception."""
    match value:
        case Output():
            return value
        case str():
            return Output(value)
        case None:
            return Output(DONE)
        case bool() | int() | float():
            return Output(_json(value))
    forms = _bundled(value, bundle or own_bundle)
    shown = {kind: form for kind, form in forms.items() if kind != "text/plain"}
    if isinstance(value, dict | list | tuple | set | frozenset):
        text = _json(value)
    elif isinstance(value, _SAID_BY_STR):
        text = _repr(value, str)
    elif isinstance(form := forms.get("text/plain"), str):
        text = form
    else:
        text = _repr(value, repr)
    mime, left_out = _kept(shown and forms)
    return Output("\n".join((text, *left_out)), mime or None)


def own_bundle(value: Any) -> JSONObject:
    """The forms that an object offers itself, by the protocol of Jupyter's display."""
    if isinstance(value, type):
        return {}
    forms: JSONObject = {}
    for kind, name in _REPRS.items():
        if (form := _offered(value, name)) is not None:
            forms[kind] = form
    offered = _offered(value, "_repr_mimebundle_")
    if isinstance(offered, Mapping):
        forms.update(offered)
    return forms


def plain(value: Any) -> Any:
    """A value as JSON that every reader takes: no NaN, no integer that JavaScript can't hold, no object.

    Raises RecursionError or ValueError where it is too deep, or holds itself.
    """
    return _plain(value, MAX_DEPTH, exact=False)


# -- text --------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    """Compact JSON, with text for what JSON does not have; a repr where there is no end to it."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        value = _plain(value, MAX_DEPTH, exact=True)
        return (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )
    except (TypeError, ValueError, RecursionError):
        return _repr(value, repr)


def _plain(value: Any, levels: int, *, exact: bool) -> Any:
    match value:
        case None | bool():
            return value
        case Enum():
            return _plain(value.value, levels, exact=exact)
        case str():
            return clean(str(value))
        case int():
            return int(value) if exact or abs(value) <= MAX_SEQ else str(int(value))
        case float():
            return float(value) if math.isfinite(value) else json.dumps(float(value))
    if levels == 0:
        raise ValueError("too deep")
    match value:
        case dict():
            return {clean(str(key)): _plain(item, levels - 1, exact=exact) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item, levels - 1, exact=exact) for item in value]
    if callable(getattr(type(value), "item", None)) and getattr(value, "ndim", None) == 0:
        return _plain(value.item(), levels - 1, exact=exact)  # a number of numpy's
    return clean(_repr(value, str))


def _repr(value: Any, by: Callable[[Any], str]) -> str:
    try:
        return by(value)
    except Exception as error:  # a stranger's __repr__ may do anything
        return f"<{type(value).__name__}, which can't be shown: {type(error).__name__}>"


# -- forms -------------------------------------------------------------------------------------------


def _bundled(value: Any, bundle: Callable[[Any], Mapping[str, Any]]) -> JSONObject:
    try:
        return {kind: form for kind, form in bundle(value).items() if kind in _KEPT}
    except Exception:  # a form that can't be made is one that isn't there
        return {}


def _offered(value: Any, name: str) -> Any:
    """What a display method gives, without its metadata; None where there is none or it fails."""
    try:
        method = getattr(value, name, None)
        form = method() if callable(method) else None
    except Exception:
        return None
    return form[0] if isinstance(form, tuple) and form else form


def _kept(forms: Mapping[str, Any]) -> tuple[JSONObject, list[str]]:
    """The forms that a card can show, the richest first, and a sentence about each that is too large."""
    kept: JSONObject = {}
    left_out = []
    room = 2 * MAX_MIME
    for kind in _KEPT:
        form = _form(kind, forms[kind]) if kind in forms else None
        if form is None:
            continue
        size = len(form) if isinstance(form, str) else len(json.dumps(form))
        if size > MAX_MIME or size > room:
            left_out.append(f"[{kind} of {size:,} characters was left out: too large to show]")
        else:
            room -= size
            kept[kind] = form
    return kept, left_out


def _form(kind: str, form: Any) -> Any:
    if kind == "application/json":
        try:
            return plain(form)
        except (TypeError, ValueError, RecursionError):
            return None
    if kind in _IMAGES:
        return _base64(form)
    if isinstance(form, Iterable) and not isinstance(form, str | bytes):
        form = "".join(part for part in form if isinstance(part, str))  # nbformat allows a list of lines
    return clean(form) if isinstance(form, str) else None


def _base64(form: Any) -> str | None:
    """The bytes of a picture as base64 without line ends; None for what is none."""
    if isinstance(form, bytes | bytearray):
        return base64.b64encode(form).decode()
    if not isinstance(form, str):
        return None
    text = "".join(form.split())
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    return text
