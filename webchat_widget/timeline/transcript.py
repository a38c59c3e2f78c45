"""A conversation as Markdown, for renderers that are not ours. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from webchat_widget.typing import Entity, JSONObject

__all__ = ["defused", "fenced", "line", "transcript"]

_PUNCTUATION = re.compile(r"[\\`*_{}\[\]()#+\-.!<>|~$]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_NOTHING = "\u200b"  # a zero-width space: it parts two characters, and nobody sees it
_NAMES = {"user": "You", "assistant": "Assistant"}


def transcript(entities: Iterable[Entity]) -> str:
    """What was said and done, in order; thinking and the runs themselves are left out."""
    return "\n\n".join(part for entity in entities if (part := _part(entity["kind"], entity["props"])))


def _part(kind: str, props: JSONObject) -> str:
    match kind:
        case "message" if props.get("role") in _NAMES:
            status = props.get("status", "complete")
            note = "" if status in ("complete", "streaming") else f"\n\n*({status})*"
            text = str(props.get("content", ""))
            shown = _verbatim(text) if props["role"] == "user" else defused(text)
            return f"**{_NAMES[props['role']]}**\n\n{shown}{note}"
        case "tool_call":
            asked = props.get("input")
            text = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
            return f"**Tool** {line(str(props.get('name')))}\n\n{fenced(text)}"
        case "tool_result":
            return fenced(str(props.get("result", "")))
        case "error":
            return f"**Error** {line(str(props.get('message', '')))}"
    return ""


def _verbatim(text: str) -> str:
    """Text that is shown as it was written: no Markdown, no HTML."""
    return fenced(text) if "\n" in text else line(text)


def line(text: str) -> str:
    """The same, in one line: what is a model's own choice, as a tool's name is, begins no paragraph."""
    line = " ".join(text.split())
    return _PUNCTUATION.sub(r"\\\g<0>", line).replace("&", "&amp;").replace("\\<", "&lt;")


def defused(text: str) -> str:
    """Markdown of a stranger, for a renderer that would take its HTML for HTML and load its images at once.

    What would begin a tag or an image is parted by a character that nobody sees. That holds in text and in
    code alike: to exempt code, one would have to find it exactly where every renderer does.
    """
    return _TAG.sub(f"<{_NOTHING}", text).replace("![", f"!{_NOTHING}[")


def fenced(text: str) -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
