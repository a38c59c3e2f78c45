"""The protocol of chat completions: a turn into a request, the data of events into engine events. No I/O.

Every compatible server speaks it, each in its own way; what they do differently is taken in here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, ToolSchema, Turn
from webchat_widget.typing import JSONObject, Usage

from .assembly import Assembly, OpenCall
from .faults import reported, unfinished
from .history import distinct, sendable
from .thoughts import Thoughts
from .wire import decoder, image_url, tokens, whole

__all__ = ["OPTIONAL", "Answer", "request"]

OPTIONAL = {"stream_options": re.compile("stream_options")}
"""Parts of a request that a server may not know, and what its refusal looks like."""

_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "",
    "abort": "",
    "insufficient_system_resource": "",
}
"""Servers' words for the end of an answer; empty where it is none, and a stop where they have another."""


class _Function(Struct):
    name: str | None = None
    arguments: Any = None


class _Call(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Cached(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    object: str | None = None
    error: Any = None


_decode = decoder(_Chunk)


class Answer:
    """One streamed answer: feed it the data of events, then ask for its end. `model` is the one asked."""

    def __init__(self, model: str) -> None:
        self.done = False
        """The server said that nothing follows."""
        self.heard = 0
        """Chunks that held something of the answer; others only keep the connection open."""
        self.model = model
        self._reason: str | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._thoughts = Thoughts()
        self._calls: list[OpenCall] = []
        self._assembly = Assembly()

    def read(self, data: bytes) -> Iterator[EngineEvent]:
        """The events in the data of one server-sent event. Raises EngineError."""
        if data == b"[DONE]":
            self.done = True
            return
        chunk = _decode(data)
        if chunk.error is not None:
            raise reported(chunk.error)
        if chunk.model:
            self.model = chunk.model
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if not chunk.choices:
            if chunk.object == "error":  # the whole chunk is the error
                raise reported(whole(data))
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.heard += 1
            self._reason = choice.finish_reason
        delta = choice.delta
        if delta is None:
            return
        if thought := delta.reasoning_content or delta.reasoning:
            self.heard += 1
            if not self._thoughts.over:
                yield from self._thoughts.end()
            yield ThinkingChunk(thought)
        if delta.content:
            self.heard += 1
            if self._thoughts.over:
                yield TextChunk(delta.content)
            else:
                yield from self._thoughts.feed(delta.content)
        if delta.refusal:
            self.heard += 1
            self._refused = True
            yield from self._thoughts.end()
            yield TextChunk(delta.refusal)
        if delta.tool_calls:
            self.heard += 1
            for call in delta.tool_calls:
                self._assemble(call)

    def end(self) -> Iterator[EngineEvent]:
        """The last events. Raises EngineError where the server never said that it was done."""
        unclosed = self._thoughts.unclosed
        yield from self._thoughts.end()
        reason = _REASONS.get(self._reason or "", self._reason and "stop")
        if not reason:
            raise unfinished()
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        if reason == "tool_calls":
            ids: set[str] = set()
            for call in sorted(self._calls, key=lambda call: call.index):
                yield CallRequest(distinct(call.id or f"call_{call.index}", ids), call.name, call.arguments)
        elif reason == "stop" and unclosed:
            yield TextChunk(unclosed)
        yield Finish(reason, self._usage, self.model, self._refused)

    def _assemble(self, piece: _Call) -> None:
        function = piece.function or _Function()
        call = self._call_of(piece, function)
        call.id = call.id or piece.id or ""
        call.name = call.name or function.name or ""
        if isinstance(function.arguments, str):
            self._assembly.append(call, function.arguments)
        elif function.arguments is not None:  # not as text, but as what the text would say
            self._assembly.replace(call, json.dumps(function.arguments))

    def _call_of(self, piece: _Call, function: _Function) -> OpenCall:
        """The call that a piece belongs to. Its index should say so; some servers send none, or always 0."""
        for call in reversed(self._calls):
            if piece.index in (None, call.index):
                if _goes_on(call, piece, function):
                    return call
                break
        index = len(self._calls) if piece.index is None else piece.index
        self._calls.append(OpenCall(index))
        return self._calls[-1]


def _goes_on(call: OpenCall, piece: _Call, function: _Function) -> bool:
    """Whether a piece is more of a call; only one that names a tool can begin another."""
    if not function.name:
        return True
    if function.arguments and _is_whole(call):
        return False
    if piece.index is None:
        return bool(piece.id) and piece.id == call.id
    return not piece.id or piece.id == call.id or function.name == call.name


def _is_whole(call: OpenCall) -> bool:
    if not call.pieces or not call.pieces[-1].rstrip().endswith("}"):  # most pieces need no closer look
        return False
    try:
        return isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        return False


def request(turn: Turn, model: str, without: Collection[str] = ()) -> JSONObject:
    """The arguments of the SDK's `create` for a turn, `without` parts that the server refused."""
    body: JSONObject = {
        "model": model,
        "messages": [_message(message) for message in sendable(turn.messages)],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if turn.tools:
        body["tools"] = [_tool(schema) for schema in turn.tools]
    return {name: part for name, part in body.items() if name not in without}


def _message(message: Message) -> JSONObject:
    out: JSONObject = {"role": message.role, "content": _content(message)}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def _content(message: Message) -> str | list[JSONObject]:
    """Text as text, for there are servers that take nothing else."""
    if not message.images:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [
        *text,
        *({"type": "image_url", "image_url": {"url": image_url(image)}} for image in message.images),
    ]


def _tool(schema: ToolSchema) -> JSONObject:
    function = {"name": schema.name, "description": schema.description, "parameters": schema.parameters}
    return {"type": "function", "function": function}


def _usage(usage: _Usage) -> Usage:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Usage(
        inputTokens=tokens(usage.prompt_tokens),
        outputTokens=tokens(usage.completion_tokens),
        cachedTokens=tokens(cached),
    )
