"""The protocol of chat completions: a turn into a request, the data of events into engine events. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, ToolSchema, Turn
from webchat_widget.typing import JSONObject, Usage

__all__ = ["Answer", "check_content_type", "protocol_error", "request"]


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


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
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Answer:
    """One streamed answer: feed it the data of events, then ask for its end."""

    def __init__(self, model: str) -> None:
        self.done = False
        """The server said that nothing follows."""
        self._model = model
        self._reason: str | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._calls: dict[int, _Call] = {}

    def read(self, data: bytes) -> Iterator[EngineEvent]:
        """The events in the data of one server-sent event. Raises EngineError."""
        if data == b"[DONE]":
            self.done = True
            return
        chunk = _chunk(data)
        if chunk.error is not None:
            raise EngineError(
                "The model server reported an error in the middle of its answer.",
                code="model_server_error",
                retryable=True,
            )
        if chunk.model:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._reason = choice.finish_reason
        delta = choice.delta
        if delta is None:
            return
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            yield ThinkingChunk(thought)
        if delta.refusal:
            self._refused = True
            yield TextChunk(delta.refusal)
        if delta.content:
            yield TextChunk(delta.content)
        for call in delta.tool_calls or ():
            self._assemble(call)

    def end(self) -> Iterator[EngineEvent]:
        """The last events. Raises EngineError where the server never said that it was done."""
        if self._reason is None:
            raise EngineError(
                "The model server ended its answer before it was finished. What came before is kept.",
                code="interrupted",
                retryable=True,
            )
        reason = "tool_calls" if self._calls and self._reason in ("stop", "function_call") else self._reason
        if reason == "tool_calls":
            for index, call in sorted(self._calls.items()):
                function = call.function or _Function()
                yield CallRequest(call.id or f"call_{index}", function.name or "", function.arguments or "")
        yield Finish(reason, self._usage, self._model, self._refused)

    def _assemble(self, piece: _Call) -> None:
        """Pieces of a call share its index; a server that sends none sends whole calls."""
        index = len(self._calls) if piece.index is None else piece.index
        call = self._calls.setdefault(index, _Call(function=_Function()))
        assert call.function is not None
        call.id = call.id or piece.id
        if piece.function is not None:
            call.function.name = call.function.name or piece.function.name
            call.function.arguments = (call.function.arguments or "") + (piece.function.arguments or "")


def _chunk(data: bytes) -> _Chunk:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # half a surrogate pair, say: a server that cuts text in UTF-16 sends such, and msgspec refuses it
        return msgspec.convert(json.loads(data), _Chunk)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise protocol_error() from None


def check_content_type(content_type: str) -> None:
    """A server that answers 200 with a page, say that of a proxy, is no model server."""
    if "html" in content_type.lower():
        raise protocol_error()


def request(turn: Turn, model: str) -> JSONObject:
    """The arguments of the SDK's `create` for a turn."""
    body: JSONObject = {
        "model": model,
        "messages": [_message(message) for message in turn.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if turn.tools:
        body["tools"] = [_tool(schema) for schema in turn.tools]
    return body


def _message(message: Message) -> JSONObject:
    out: JSONObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def _tool(schema: ToolSchema) -> JSONObject:
    function = {"name": schema.name, "description": schema.description, "parameters": schema.parameters}
    return {"type": "function", "function": function}


def _usage(usage: _Usage) -> Usage:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Usage(
        inputTokens=_count(usage.prompt_tokens),
        outputTokens=_count(usage.completion_tokens),
        cachedTokens=_count(cached),
    )


def _count(tokens: int | None) -> int:
    """A number that the wire can carry and a conversation can add up, whatever the server claims."""
    return min(max(tokens or 0, 0), 2**40)


def protocol_error() -> EngineError:
    """What answers is something else, say a proxy; its words are not shown."""
    return EngineError(
        "The model server sent something that is not the OpenAI protocol. Is the address right "
        "(OPENAI_BASE_URL or c.WebChat.base_url; it often ends in /v1)?",
        code="protocol_error",
        retryable=True,
    )
