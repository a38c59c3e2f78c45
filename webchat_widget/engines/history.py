"""A turn's messages made fit for a request, in either style."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from webchat_widget.turns import Message, ToolCall

__all__ = ["distinct", "sendable"]

_UNANSWERED = "(interrupted)"


def sendable(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages as any server takes them.

    Ids are made distinct, for some servers call every call `call_0`; results of one id belong to its calls in
    their order. Arguments that are no JSON object become an empty one: servers that put them into a template
    fail on them, and the result says what was wrong. A run that was ended after its tools left no answer, but
    strict servers want one between a result and a prompt.
    """
    before = ""
    taken: set[str] = set()
    given: dict[str, list[str]] = {}
    for message in messages:
        if message.role == "user" and before == "tool":
            yield Message("assistant", _UNANSWERED)
        before = message.role
        if message.role == "tool":
            called = message.tool_call_id or ""
            ids = given.get(called)
            yield Message("tool", message.content, tool_call_id=ids.pop(0) if ids else called)
        elif message.tool_calls:
            given = {}
            calls = []
            for call in message.tool_calls:
                name = distinct(call.id, taken)
                given.setdefault(call.id, []).append(name)
                calls.append(ToolCall(name, call.name, _arguments(call.arguments)))
            yield Message(message.role, message.content, tuple(calls), carried=message.carried)
        else:
            yield message


def distinct(name: str, taken: set[str]) -> str:
    """The name, or one like it, that is not taken; it is from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _arguments(text: str) -> str:
    try:
        msgspec.json.decode(text, type=dict)  # as strict as servers: no NaN, no 1e999
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "{}"
    return text
