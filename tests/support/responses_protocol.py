"""How a reply becomes the events of the Responses API. No socket, no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support import openai_protocol as chat
from tests.support.openai_protocol import Reply, Request, chunk

__all__ = ["error_event", "events"]

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def events(reply: Reply, request: Request) -> tuple[bytes, list[bytes], bytes]:
    """Opening, one entry per chunk, closing: each already framed for a chunked response."""
    head = {"id": "resp_test", "object": "response", "model": chat.model(request)}
    body: list[bytes] = []
    output: list[Mapping[str, Any]] = []

    def item(whole: Mapping[str, Any], kind: str, pieces: list[str], **more: Any) -> None:
        """Its first and its last event travel with the first and the last piece."""
        index = len(output)
        parts = [
            _event(kind, output_index=index, item_id=whole["id"], delta=piece, **more) for piece in pieces
        ]
        parts[0] = _event("response.output_item.added", output_index=index, item=_begun(whole)) + parts[0]
        if reply.finish_reason == "stop":
            parts[-1] += _event("response.output_item.done", output_index=index, item=whole)
        body.extend(parts)
        output.append(whole)

    if reply.reasoning:
        thought: dict[str, Any] = {
            "id": "rs_0",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": reply.reasoning}],
        }
        if "reasoning.encrypted_content" in (request.body.get("include") or ()):
            thought["encrypted_content"] = f"encrypted:{reply.reasoning}"
        item(thought, "response.reasoning_summary_text.delta", chat.words(reply.reasoning), summary_index=0)
    text, refusal = list(chat.content(reply)), chat.words(reply.refusal)
    if text:
        part = {"type": "output_text", "text": "".join(text), "annotations": []}
        item(_message(part), "response.output_text.delta", text, content_index=0)
    if refusal:
        part = {"type": "refusal", "refusal": reply.refusal}
        item(_message(part), "response.refusal.delta", refusal, content_index=0)
    for number, call in enumerate(chat.tool_calls(reply)):
        arguments = call["function"]["arguments"]
        whole = {
            "id": f"fc_{number}",
            "type": "function_call",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": arguments,
        }
        pieces = [arguments[start : start + 8] for start in range(0, len(arguments), 8)]
        item(whole, "response.function_call_arguments.delta", pieces)
    opening = _event("response.created", response={**head, "status": "in_progress", "output": []})
    closing = b""
    if reply.finish_reason is not None:
        why = _REASONS.get(reply.finish_reason)
        status = "incomplete" if why else "completed"
        details = {"reason": why} if why else None
        whole = {
            **head,
            "status": status,
            "incomplete_details": details,
            "usage": _usage(reply),
            "output": output,
        }
        closing = _event(f"response.{status}", response=whole)
    return opening, body, closing + b"0\r\n\r\n"


def error_event(error: Mapping[str, Any]) -> bytes:
    """A response that fails in the middle."""
    response = {"id": "resp_test", "status": "failed", "error": dict(error), "output": []}
    return _event("response.failed", response=response)


def _event(kind: str, **fields: Any) -> bytes:
    return chunk(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item before its first piece."""
    empty = {"arguments": "", "content": [], "summary": []}
    return {name: empty.get(name, value) for name, value in item.items() if name != "encrypted_content"}


def _message(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "msg_0", "type": "message", "role": "assistant", "content": [part]}


def _usage(reply: Reply) -> dict[str, Any]:
    usage = chat.usage(reply)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "input_tokens_details": {"cached_tokens": cached},
    }
