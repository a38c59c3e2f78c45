"""Whether a request to a model, in either style of the API, is one that every model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["fault_of"]


def fault_of(body: Mapping[str, Any]) -> str | None:
    """What is wrong with a request to a model, in either style; None where roles take turns, each call has
    its result, and a prompt comes last."""
    open: set[str] = set()
    before = ""
    for role, id in _said(body):
        if role in ("user", "assistant") and open:
            return f"has no result of {', '.join(sorted(open))}"
        if role in ("user", "assistant") and role == before:
            return f"has two of role {role} in a row"
        if role == "call":
            open.add(id)
        elif role == "result" and id not in open:
            return f"has a result without a call: {id}"
        elif role == "result":
            open.discard(id)
        before = role
    return None if before == "user" else f"ends with {before or 'nothing'}"


def _said(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who said something, calls and results with their ids, in the words of neither style."""
    said: list[tuple[str, str]] = []
    for item in body.get("messages") or body.get("input") or []:
        kind, role = item.get("type"), item.get("role")
        if kind == "function_call":
            said.append(("call", item["call_id"]))
        elif kind == "function_call_output":
            said.append(("result", item["call_id"]))
        elif role == "tool":
            said.append(("result", item["tool_call_id"]))
        elif role in ("user", "assistant"):
            if item.get("content"):
                said.append((role, ""))
            said += [("call", call["id"]) for call in item.get("tool_calls") or ()]
    return said
