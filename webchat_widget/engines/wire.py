"""What both styles of the OpenAI protocol share. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import msgspec

from webchat_widget.turns import Image
from webchat_widget.typing import JSONObject

from .faults import protocol_error

__all__ = ["check_content_type", "decoder", "image_url", "tokens", "whole"]

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A decoder for the data of events. It raises EngineError for what is none."""
    fast = msgspec.json.Decoder(kind).decode

    def decode(data: bytes) -> T:
        try:
            return fast(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        try:  # half a surrogate pair, say: a server that cuts text in UTF-16 sends such, msgspec refuses it
            return msgspec.convert(json.loads(data), kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise protocol_error() from None

    return decode


whole = decoder(JSONObject)
"""All that an event's data holds."""


def check_content_type(content_type: str) -> None:
    """A server that answers 200 with a page, say that of a proxy, is no model server."""
    if "html" in content_type.lower():
        raise protocol_error()


def tokens(count: int | None) -> int:
    """A number that the wire can carry and a conversation can add up, whatever the server claims."""
    return min(max(count or 0, 0), 2**40)


def image_url(image: Image) -> str:
    """A picture as a URL that holds it."""
    return f"data:{image.mime};base64,{image.data}"
