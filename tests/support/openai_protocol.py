"""Requests and replies of the OpenAI protocol, and how a reply becomes bytes. No socket, no clock."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.gate import Gate

__all__ = [
    "Reply",
    "Request",
    "chunk",
    "completion",
    "content",
    "error_body",
    "events",
    "model",
    "tool_calls",
    "usage",
    "words",
]

Fault = Literal[
    "cut", "stall", "html", "malformed", "error_event", "keepalive", "bad_utf8", "dropped", "silent"
]

_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: (
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens.",
    ),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    403: ("permission_error", None, "The key {key} may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
}


def words(text: str) -> list[str]:
    """Cut *text* the way a model streams it: a word with the white space that follows it."""
    return re.findall(r"\S+\s*|\s+", text)


@dataclass
class Reply:
    """What the model answers to one request.

    ``after`` is the number of chunks that leave before a fault (default: half of them). ``keepalive`` puts a
    comment line before each chunk; with ``after`` it sends nothing but comments from there on.
    ``finish_reason=None`` ends the stream in good order but without one, which is no success. ``dropped``
    closes the connection without a word, and ``silent`` keeps it open without one. ``raw`` is a whole stream
    to send as it is; ``code`` is that of an error, in its body or in the stream.
    """

    text: str = ""
    chunks: Sequence[str] | None = None
    delay: float = 0.0
    tool_calls: Sequence[Mapping[str, Any]] = ()
    reasoning: str = ""
    refusal: str = ""
    finish_reason: str | None = "stop"
    usage: Mapping[str, Any] | None = None
    status: int = 200
    message: str | None = None
    code: str | None = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    after: int | None = None
    hold: Gate | None = None


@dataclass(frozen=True)
class Request:
    """One HTTP request as it arrived; ``headers`` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.body.get("messages") or self.body.get("input") or []):
            if message.get("role") == "user":
                content = message.get("content") or ""
                if isinstance(content, str):
                    return content
                return "".join(part.get("text", "") for part in content if isinstance(part, dict))
        return ""


def events(reply: Reply, request: Request) -> tuple[bytes, list[bytes], bytes]:
    """Opening, one entry per chunk, closing: each already framed for a chunked response."""
    frame = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 0, "model": model(request)}

    def event(delta: Mapping[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return chunk(b"data: " + json.dumps({**frame, "choices": choices, **more}).encode() + b"\n\n")

    body = [event({"reasoning_content": part}) for part in words(reply.reasoning)]
    body += [event({"content": part}) for part in content(reply)]
    body += [event({"refusal": part}) for part in words(reply.refusal)]
    for index, call in enumerate(tool_calls(reply)):
        first = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        body.append(event({"tool_calls": [first]}))
        arguments = call["function"]["arguments"]
        for start in range(0, len(arguments), 8):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 8]}}
            body.append(event({"tool_calls": [piece]}))
    closing = b""
    finish = _finish(reply)
    if finish is not None:
        closing += event({}, finish)
    if reply.usage is not None or (request.body.get("stream_options") or {}).get("include_usage"):
        closing += event(None, usage=usage(reply))
    closing += (chunk(b"data: [DONE]\n\n") if finish is not None else b"") + b"0\r\n\r\n"
    return event({"role": "assistant", "content": ""}), body, closing


def completion(reply: Reply, request: Request) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(content(reply)) or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = tool_calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
    head = {"id": "chatcmpl-test", "object": "chat.completion", "created": 0, "model": model(request)}
    return {**head, "choices": [choice], "usage": usage(reply)}


def content(reply: Reply) -> Sequence[str]:
    return words(reply.text) if reply.chunks is None else reply.chunks


def tool_calls(reply: Reply) -> list[dict[str, Any]]:
    calls = []
    for index, call in enumerate(reply.tool_calls):
        given = call.get("arguments", {})
        arguments = given if isinstance(given, str) else json.dumps(given)
        function = {"name": call["name"], "arguments": arguments}
        calls.append({"id": call.get("id", f"call_{index}"), "type": "function", "function": function})
    return calls


def _finish(reply: Reply) -> str | None:
    return "tool_calls" if reply.tool_calls and reply.finish_reason == "stop" else reply.finish_reason


def usage(reply: Reply) -> Mapping[str, Any]:
    count = len(content(reply))
    return reply.usage or {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}


def model(request: Request) -> str:
    return str(request.body.get("model", "test-model"))


def error_body(reply: Reply, request: Request, key: str) -> bytes:
    kind, code, text = _ERRORS.get(reply.status, ("server_error", None, "The server had an error."))
    message = reply.message or text.format(key=key, model=model(request))
    error = {"message": message, "type": kind, "param": None, "code": reply.code or code}
    return json.dumps({"error": error}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
