"""What the model sees and produces: messages, and the turn that an engine is given."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .typing import JSONObject

__all__ = ["Image", "Message", "ToolCall", "ToolSchema", "Turn"]


class Image(Struct, frozen=True, omit_defaults=True):
    """A picture in a user's message: `data` is base64, `mime` an image type such as `image/png`."""

    mime: str
    data: str
    name: str = ""


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """One call in an assistant message. `id` is the provider's; `arguments` is raw JSON text."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """One message of the model's memory.

    `role` is `system`, `user`, `assistant` or `tool`; a `tool` message answers `tool_call_id`. `images` are
    a user's; `carried` is what the provider wants back with an answer of its own. Stored as JSON with each
    run, so that a conversation goes on after a restart where it was.
    """

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    images: tuple[Image, ...] = ()
    carried: tuple[JSONObject, ...] = ()


class ToolSchema(Struct, frozen=True):
    """A tool as the model is told of it; `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Turn(Struct, frozen=True):
    """The whole input of one request to a model. `model` is None where the engine has its own default."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    model: str | None = None
