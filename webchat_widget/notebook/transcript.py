"""A conversation as Markdown. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from webchat_widget.typing import Entity, JSONObject

__all__ = ["transcript"]

_NAMES = {"user": "You", "assistant": "Assistant"}


def transcript(entities: Iterable[Entity]) -> str:
    """What was said and done, in order; thinking and the runs themselves are left out."""
    return "\n\n".join(part for entity in entities if (part := _part(entity["kind"], entity["props"])))


def _part(kind: str, props: JSONObject) -> str:
    match kind:
        case "message" if props.get("role") in _NAMES:
            status = props.get("status", "complete")
            note = "" if status in ("complete", "streaming") else f"\n\n*({status})*"
            return f"**{_NAMES[props['role']]}**\n\n{props.get('content', '')}{note}"
        case "tool_call":
            asked = props.get("input")
            text = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
            return f"**Tool** `{props.get('name')}`\n\n{_fenced(text)}"
        case "tool_result":
            return _fenced(str(props.get("result", "")))
        case "error":
            return f"**Error** {props.get('message', '')}"
    return ""


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
