"""What a notebook registers for its conversation, checked: tools of its kernel, texts, and profiles."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec import Struct

from webchat_widget.errors import BadRequest, NotAllowed
from webchat_widget.profiles import Profile
from webchat_widget.requests import decode_json
from webchat_widget.typing import JSONObject

__all__ = ["Context", "Offered", "Registration", "parse_registration"]

MAX_TOOLS = 128
MAX_CONTEXTS = 128
_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_CONTEXT_NAME = re.compile(r"\w{1,100}")


class Offered(Struct, frozen=True):
    """A tool as its kernel describes it; `predicate`: the kernel decides for each call whether to ask;
    `each`: a yes never holds for later calls."""

    name: str
    description: str
    parameters: JSONObject
    approval: Literal["ask", "each", "never", "predicate"] = "ask"


class Context(Struct, frozen=True):
    """The text that `@name` in a prompt stands for."""

    name: str
    text: str


class Registration(Struct, frozen=True):
    """PUT /conversations/{conv_id}/tools"""

    kernel_id: str
    tools: tuple[Offered, ...] = ()
    contexts: tuple[Context, ...] = ()
    profiles: tuple[Profile, ...] = ()


def parse_registration(body: bytes) -> Registration:
    """The body of PUT …/tools. Raises BadRequest for what is malformed, NotAllowed for what can't be used."""
    try:
        registration = msgspec.convert(decode_json(body), Registration, strict=True)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request is malformed: {error}.", code="bad_tools") from None
    _check_names("tools", [tool.name for tool in registration.tools], _TOOL_NAME, MAX_TOOLS)
    _check_names("contexts", [context.name for context in registration.contexts], _CONTEXT_NAME, MAX_CONTEXTS)
    for tool in registration.tools:
        if tool.parameters.get("type") != "object":
            raise NotAllowed(
                f"The parameters of the tool {tool.name} must be a JSON schema of type object.", field="tools"
            )
    return registration


def _check_names(field: str, names: list[str], form: re.Pattern[str], most: int) -> None:
    if len(names) > most:
        raise NotAllowed(f"A conversation has at most {most} {field}.", field=field)
    for name in names:
        if not form.fullmatch(name):
            raise NotAllowed(f"{name[:100]!r} can't be the name of one of the {field}.", field=field)
        if names.count(name) > 1:
            raise NotAllowed(f"Two of the {field} have the name {name}.", field=field)
