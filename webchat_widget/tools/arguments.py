"""The arguments of a call: parsed, shown, and named by a digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from webchat_widget.requests import MAX_DEPTH
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.sem.text import clean
from webchat_widget.typing import JSONObject

__all__ = ["cleaned", "digest_of", "parsed", "shown"]


def parsed(arguments: str) -> JSONObject | str:
    """The arguments as an object; the raw text where they are none, or no reader could take them."""
    try:
        value = cleaned(json.loads(arguments or "{}", parse_constant=_no_json))
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def shown(arguments: JSONObject | str) -> JSONObject | str:
    """The arguments for a reader: integers that JavaScript can't hold exactly become text."""
    value: JSONObject | str = _each(
        arguments, lambda leaf: str(leaf) if isinstance(leaf, int) and abs(leaf) > MAX_SEQ else leaf
    )
    return value


def digest_of(name: str, arguments: JSONObject) -> str:
    """What a person's yes is bound to: SHA-256 of the canonical JSON of name and arguments, in hex."""
    canonical = json.dumps(
        {"name": name, "arguments": arguments}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def cleaned(value: Any) -> Any:
    """A JSON value with clean texts. ValueError where it is too deep, or a number too large, for a reader."""
    return _each(value, _clean)


def _clean(leaf: Any) -> Any:
    if isinstance(leaf, float) and not math.isfinite(leaf):  # 1e999, say
        raise ValueError("a number is too large")
    return clean(leaf) if isinstance(leaf, str) else leaf


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _each(value: Any, change: Callable[[Any], Any], levels: int = MAX_DEPTH) -> Any:
    """A JSON value with every leaf and key changed. ValueError where it is deeper than `levels`."""
    if not isinstance(value, dict | list):
        return change(value)
    if levels == 0:
        raise ValueError("too deep")
    if isinstance(value, list):
        return [_each(item, change, levels - 1) for item in value]
    return {change(key): _each(item, change, levels - 1) for key, item in value.items()}
