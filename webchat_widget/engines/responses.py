"""The protocol of the Responses API: a turn into a request, the data of events into engine events. No I/O.

Nothing is kept at the server (`store` is false). What the model thought it gives us encrypted, and wants it
back, in its place, in the next request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from webchat_widget.events import CallRequest, Carried, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, ToolSchema, Turn
from webchat_widget.typing import JSONObject, Usage

from .assembly import Assembly, OpenCall
from .faults import protocol_error, reported, unfinished
from .history import distinct, sendable
from .thoughts import Thoughts
from .wire import decoder, image_url, tokens, whole

__all__ = ["OPTIONAL", "Answer", "request"]

OPTIONAL = {
    "carried": re.compile(r"^input.*encrypted_content|invalid_encrypted_content", re.I),
    "include": re.compile(r"^include\b|'include'|encrypted[_ ]content", re.I),
    "reasoning": re.compile(r"^reasoning\b|'reasoning|reasoning\.summary|reasoning summar", re.I),
}
"""Parts of a request that a server may not know, and what its refusal looks like. `carried` are thoughts of
an answer before, maybe another model's."""

_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    model: str | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    output: list[JSONObject] | None = None
    error: Any = None


class _Event(Struct):
    type: str = ""
    delta: Any = None
    arguments: Any = None
    output_index: int | None = None
    item: JSONObject | None = None
    response: _Response | None = None
    error: Any = None


_decode = decoder(_Event)


class Answer:
    """One streamed answer: feed it the data of events, then ask for its end. `model` is the one asked."""

    def __init__(self, model: str) -> None:
        self.done = False
        """The server said that nothing follows."""
        self.heard = 0
        """Events that held something of the answer; others only keep the connection open."""
        self.model = model
        self._reason: str | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._thoughts = Thoughts()
        self._calls: dict[int, OpenCall] = {}
        self._assembly = Assembly()
        self._streamed: set[int | None] = set()
        """Items whose text came in pieces, so that the whole item says nothing new."""
        self._thought = False
        self._new_part = False
        self._spoke = False

    def read(self, data: bytes) -> Iterator[EngineEvent]:
        """The events in the data of one server-sent event. Raises EngineError."""
        if data == b"[DONE]":
            self.done = True
            return
        event = _decode(data)
        kind = event.type
        if kind == "response.output_text.delta":
            self._streamed.add(event.output_index)
            yield from self._say(_text(event.delta))
        elif kind in _THOUGHTS:
            self._streamed.add(event.output_index)
            yield from self._think(_text(event.delta))
        elif kind == "response.refusal.delta":
            self._streamed.add(event.output_index)
            yield from self._refuse(_text(event.delta))
        elif kind == "response.function_call_arguments.delta":
            self.heard += 1
            self._assembly.append(self._call(event.output_index), _text(event.delta))
        elif kind == "response.function_call_arguments.done":
            self._assembly.replace(self._call(event.output_index), _arguments(event.arguments))
        elif kind == "response.reasoning_summary_part.added":
            self._new_part = True
        elif kind == "response.output_item.added" and event.item is not None:
            self._new_part = True
            self._name(event.output_index, event.item)
        elif kind == "response.output_item.done" and event.item is not None:
            yield from self._whole(event.output_index, event.item)
        elif kind == "error" or event.error is not None:
            raise reported(event.error or whole(data))
        elif event.response is not None:
            yield from self._about(kind, event.response)

    def end(self) -> Iterator[EngineEvent]:
        """The last events. Raises EngineError where the server never said that it was done."""
        unclosed = self._thoughts.unclosed
        yield from self._thoughts.end()
        if self._reason is None:
            raise unfinished()
        reason = self._reason
        if reason == "stop" and self._calls:
            reason = "tool_calls"
            ids: set[str] = set()
            for index, call in sorted(self._calls.items()):
                yield CallRequest(distinct(call.id or f"call_{index}", ids), call.name, call.arguments)
        elif reason == "stop" and unclosed:
            yield TextChunk(unclosed)
        yield Finish(reason, self._usage, self.model, self._refused)

    # -- pieces ----------------------------------------------------------------------------------------

    def _say(self, text: str) -> Iterator[EngineEvent]:
        if not text:
            return
        self.heard += 1
        self._spoke = True
        self._thought = False
        if self._thoughts.over:
            yield TextChunk(text)
        else:
            yield from self._thoughts.feed(text)

    def _think(self, text: str) -> Iterator[EngineEvent]:
        if not text:
            return
        self.heard += 1
        if not self._thoughts.over:
            yield from self._thoughts.end()
        if self._new_part and self._thought:
            text = f"\n\n{text}"  # summaries come in parts, with nothing between them
        self._new_part = False
        self._thought = True
        yield ThinkingChunk(text)

    def _refuse(self, text: str) -> Iterator[EngineEvent]:
        self._refused = True
        yield from self._thoughts.end()
        yield from self._say(text)

    # -- items -----------------------------------------------------------------------------------------

    def _call(self, index: int | None) -> OpenCall:
        if index is None:  # then items come one after the other
            index = max(self._calls, default=0)
        return self._calls.setdefault(index, OpenCall(index))

    def _name(self, index: int | None, item: JSONObject) -> None:
        if item.get("type") == "function_call":
            call = self._call(len(self._calls) if index is None else index)
            call.id = str(item.get("call_id") or item.get("id") or "")
            call.name = str(item.get("name") or "")

    def _whole(self, index: int | None, item: JSONObject) -> Iterator[EngineEvent]:
        """An item that is finished. Some servers send nothing of it before."""
        kind = item.get("type")
        self.heard += 1
        if kind == "function_call":
            if index is not None or not any(call.id == item.get("call_id") for call in self._calls.values()):
                self._name(index, item)
            if arguments := _arguments(item.get("arguments")):
                self._assembly.replace(self._call(index), arguments)
        elif kind == "message" and index not in self._streamed:
            for part in _parts(item.get("content")):
                if part.get("type") == "refusal":
                    yield from self._refuse(_text(part.get("refusal")))
                else:
                    yield from self._say(_text(part.get("text")))
        elif kind == "reasoning":
            if index not in self._streamed:
                for part in (*_parts(item.get("summary")), *_parts(item.get("content"))):
                    self._new_part = True
                    yield from self._think(_text(part.get("text")))
            if item.get("encrypted_content") or item.get("content"):
                before = len(self._calls) + 1 if self._spoke or self._calls else 0
                kept = {name: value for name, value in item.items() if value is not None}
                yield Carried({"before": before, "item": kept})

    # -- the whole -------------------------------------------------------------------------------------

    def _about(self, kind: str, response: _Response) -> Iterator[EngineEvent]:
        """An event that tells of the whole response: it has begun, or how it ended."""
        self.model = response.model or self.model
        if kind == "response.failed":
            raise reported(response.error or {})
        if kind not in ("response.completed", "response.incomplete"):
            return
        self.done = True
        if not self.heard:  # a server that sends the answer as one
            for index, item in enumerate(response.output or ()):
                yield from self._whole(index, item)
        self.heard += 1
        if response.usage is not None:
            self._usage = _usage(response.usage)
        if kind == "response.completed":
            self._reason = "stop"
        else:
            why = response.incomplete_details and response.incomplete_details.reason
            self._reason = "content_filter" if why == "content_filter" else "length"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise protocol_error()
    return value


def _arguments(value: Any) -> str:
    """A call's arguments as text, also where a server sends what the text would say."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _parts(value: Any) -> list[JSONObject]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def request(turn: Turn, model: str, without: Collection[str] = ()) -> JSONObject:
    """The arguments of the SDK's `create` for a turn, `without` parts that the server refused."""
    carries = "carried" not in without
    body: JSONObject = {
        "model": model,
        "input": [item for message in sendable(turn.messages) for item in _items(message, carries)],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"summary": "auto"},
    }
    if turn.tools:
        body["tools"] = [_tool(schema) for schema in turn.tools]
    return {name: part for name, part in body.items() if name not in without}


def _items(message: Message, carries: bool) -> Iterator[JSONObject]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.content}
        return
    if message.role == "user":
        yield {"role": "user", "content": _content(message)}
        return
    # A thought stands before what followed it; one that nothing followed is refused, so it goes.
    thoughts = [kept for kept in message.carried if carries and isinstance(kept.get("item"), dict)]
    if message.content or message.tool_calls:
        yield from (kept["item"] for kept in thoughts if kept.get("before") == 0)
    if message.content:
        yield {"role": message.role, "content": message.content}
    for number, call in enumerate(message.tool_calls, 1):
        yield from (kept["item"] for kept in thoughts if kept.get("before") == number)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _content(message: Message) -> str | list[JSONObject]:
    if not message.images:
        return message.content
    text = [{"type": "input_text", "text": message.content}] if message.content else []
    pictures = (
        {"type": "input_image", "image_url": image_url(image), "detail": "auto"} for image in message.images
    )
    return [*text, *pictures]


def _tool(schema: ToolSchema) -> JSONObject:
    return {
        "type": "function",
        "name": schema.name,
        "description": schema.description,
        "parameters": schema.parameters,
        "strict": False,  # it is true by default here, and refuses most schemas of functions
    }


def _usage(usage: _Usage) -> Usage:
    cached = usage.input_tokens_details.cached_tokens if usage.input_tokens_details else 0
    return Usage(
        inputTokens=tokens(usage.input_tokens),
        outputTokens=tokens(usage.output_tokens),
        cachedTokens=tokens(cached),
    )
