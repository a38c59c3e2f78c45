"""Requests as values: what came over a wire, checked, or a BadRequest that says what is wrong with it.

No transport's words in here: the server's handlers and a kernel's comm parse with the same functions.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any

import msgspec
from msgspec import Struct, field

from .errors import BadRequest, NotAllowed, TooLarge
from .sem.frames import MAX_SEQ
from .turns import Image
from .typing import JSONObject

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_PROMPT_BYTES",
    "ChatRequest",
    "Decision",
    "EventRequest",
    "Overrides",
    "TimelineQuery",
    "TurnsQuery",
    "check_conv_id",
    "check_prompt",
    "decode_json",
    "parse_approval",
    "parse_chat",
    "parse_event",
    "parse_profile",
    "parse_settings",
    "parse_stop",
    "parse_timeline_query",
    "parse_turns_query",
]

MAX_DEPTH = 32
MAX_PROMPT_BYTES = 256 * 1024
MAX_LIMIT = 5000
MAX_NAME = 200
MAX_IMAGES = 10
MAX_IMAGE_BYTES = 15_000_000
"""Of all pictures of a prompt together."""
MAX_REASON = 2000

_CONV_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_INTEGER = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DECISIONS = ("once", "always", "deny")
_PHASES = ("pre_inference", "post_inference", "post_tools", "final")
_MAGIC = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
"""How the bytes of each type of picture begin."""
_NEVER = ("base_url", "api_key")
"""Overrides that nobody may choose from a page: they would send the key, or the chat, elsewhere."""


class Overrides(Struct, frozen=True, omit_defaults=True):
    """What a caller chooses for one run instead of its profile. None: the profile's."""

    system_prompt: str | None = None
    model: str | None = None
    tools: tuple[str, ...] | None = None
    middlewares: tuple[str | JSONObject, ...] | None = None

    def over(self, base: Overrides) -> Overrides:
        """These, and `base` where these say nothing."""
        names = self.__struct_fields__
        return Overrides(
            **{n: mine if (mine := getattr(self, n)) is not None else getattr(base, n) for n in names}
        )


class ChatRequest(Struct, frozen=True):
    """An accepted form of POST /chat. `digest` identifies the body for idempotency. `own` is the profile, if
    it is the conversation's own: it waits with the prompt, for its notebook may be gone by then."""

    prompt: str
    conv_id: str | None = None
    profile: str = "default"
    overrides: Overrides = field(default_factory=Overrides)
    key: str | None = None
    digest: str = ""
    images: tuple[Image, ...] = ()
    own: JSONObject | None = None


class Decision(Struct, frozen=True, omit_defaults=True):
    """What a person says to a tool call: `once`, `always` (this tool in this conversation) or `deny`.

    `digest` names the call and arguments that the person has seen; `reason` is told to the model.
    """

    decision: str
    digest: str
    reason: str = ""


class EventRequest(Struct, frozen=True):
    """POST /conversations/{conv_id}/events: an event of a person's own, of which only the form is checked."""

    kind: str
    id: str
    props: JSONObject


class TimelineQuery(Struct, frozen=True):
    """GET /timeline: at most one of `since`, `before` and `unfinished` is given."""

    conv_id: str
    since: int | None = None
    limit: int | None = None
    before: int | None = None
    unfinished: bool = False


class TurnsQuery(Struct, frozen=True):
    """GET /turns: the newest `limit`, of one run and one phase where these are given."""

    conv_id: str
    run_id: str | None = None
    phase: str | None = None
    limit: int = 500


def decode_json(body: bytes) -> JSONObject:
    """A JSON object from strict JSON: UTF-8, no NaN, nothing behind it, at most 32 levels, no NUL."""
    if not body.strip():
        raise BadRequest("The body is empty: send a JSON object.", code="empty_body")
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="bad_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is no JSON: {error}.", code="bad_json") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.", code="bad_json")
    _check_value(value, 1)
    return value


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadRequest(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="bad_json")
    if isinstance(value, str):
        if "\x00" in value:
            raise BadRequest("The body holds a NUL character.", code="bad_json")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_value(key, depth)
            _check_value(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, depth + 1)


def check_conv_id(value: Any) -> str:
    """A conversation id: letters, digits, dot, underscore and hyphen, at most 128, without `..`."""
    if not isinstance(value, str) or not _CONV_ID.fullmatch(value) or ".." in value:
        raise BadRequest(
            "conv_id must be 1 to 128 characters of A-Z a-z 0-9 . _ - that begin with a letter or digit, "
            "without '..'.",
            code="bad_conv_id",
            field="conv_id",
        )
    return value


def parse_chat(body: bytes, *, profile: str = "default", header_key: str | None = None) -> ChatRequest:
    """POST /chat, from its body and what came beside it."""
    data = decode_json(body)
    prompt = check_prompt(data.get("prompt", data.get("text")))
    conv_id = data.get("conv_id")
    if conv_id is not None:
        check_conv_id(conv_id)
    images = _parse_images(data.get("attachments"))
    sent = data.get("overrides")
    overrides = _parse_overrides({} if sent is None else sent)
    known = {name: data.get(name) for name in ("conv_id", "overrides", "attachments")}
    canonical = msgspec.json.encode({**known, "profile": profile, "prompt": prompt}, order="deterministic")
    return ChatRequest(
        prompt=prompt,
        conv_id=conv_id,
        profile=profile,
        overrides=overrides,
        key=_parse_key(data.get("idempotency_key"), header_key),
        digest=hashlib.sha256(canonical).hexdigest(),
        images=images,
    )


def check_prompt(value: Any) -> str:
    """A prompt: a string with something in it, at most 256 KiB of UTF-8."""
    if not isinstance(value, str):
        raise BadRequest("'prompt' must be a string.", code="bad_prompt", field="prompt")
    if not value.strip():
        raise BadRequest("The prompt is blank.", code="blank_prompt", field="prompt")
    if len(value.encode("utf-8", "replace")) > MAX_PROMPT_BYTES:
        raise TooLarge(f"The prompt is larger than {MAX_PROMPT_BYTES // 1024} KiB.", field="prompt")
    return value


def _parse_images(data: Any) -> tuple[Image, ...]:
    if not data:
        return ()
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise BadRequest(
            "'attachments' must be a list of objects.", code="bad_attachments", field="attachments"
        )
    if len(data) > MAX_IMAGES:
        raise NotAllowed(f"A prompt takes at most {MAX_IMAGES} pictures.", field="attachments")
    images, room = [], MAX_IMAGE_BYTES
    for item in data:
        image, size = _parse_image(item)
        room -= size
        if room < 0:
            raise TooLarge(
                f"The pictures are larger than {MAX_IMAGE_BYTES // 1_000_000} MB together.",
                field="attachments",
            )
        images.append(image)
    return tuple(images)


def _parse_image(item: JSONObject) -> tuple[Image, int]:
    """A picture and its size in bytes."""
    name, mime, data = item.get("name", ""), item.get("mime"), item.get("data")
    if not (isinstance(name, str) and isinstance(mime, str) and isinstance(data, str)):
        raise BadRequest(
            "An attachment has 'name', 'mime' and 'data' (base64), all strings.",
            code="bad_attachments",
            field="attachments",
        )
    name = name[:MAX_NAME]
    begin = _MAGIC.get(mime)
    if begin is None:
        raise NotAllowed(
            f"The file {name!r} is no picture that can be sent: only PNG, JPEG, GIF and WebP.",
            field="attachments",
        )
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not begin.match(content):
        raise NotAllowed(f"The file {name!r} is no {mime}.", field="attachments")
    return Image(mime, data, name), len(content)


def _parse_key(in_body: Any, in_header: str | None) -> str | None:
    if in_body is not None and in_header is not None and in_body != in_header:
        raise BadRequest(
            "The Idempotency-Key header and idempotency_key in the body differ.", code="bad_idempotency_key"
        )
    key = in_header if in_body is None else in_body
    if key is not None and (not isinstance(key, str) or not _KEY.fullmatch(key)):
        raise BadRequest(
            "An idempotency key is 1 to 200 visible ASCII characters.", code="bad_idempotency_key"
        )
    return key


def _parse_overrides(data: Any) -> Overrides:
    if not isinstance(data, dict):
        raise BadRequest("'overrides' must be an object.", code="bad_overrides", field="overrides")
    for name in data:
        if name in _NEVER or name not in Overrides.__struct_fields__:
            raise NotAllowed(f"The override {name[:60]!r} can't be chosen.", field=f"overrides.{name[:60]}")
    try:
        overrides = msgspec.convert(data, Overrides, strict=True)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"'overrides' is malformed: {error}.", code="bad_overrides", field="overrides"
        ) from None
    if overrides.model is not None and not 0 < len(overrides.model) <= MAX_NAME:
        raise BadRequest(
            f"A model's name has 1 to {MAX_NAME} characters.", code="bad_overrides", field="overrides.model"
        )
    return overrides


def parse_settings(body: bytes) -> Overrides:
    """PUT /conversations/{conv_id}/settings: overrides for every run of the conversation."""
    settings = _parse_overrides(decode_json(body))
    if settings.system_prompt is not None and len(settings.system_prompt) > MAX_PROMPT_BYTES:
        raise TooLarge("The system prompt is too long.", field="system_prompt")
    return settings


def parse_stop(body: bytes) -> str | None:
    """POST /conversations/{conv_id}/stop: the run's id, None for the one that runs."""
    if not body.strip():
        return None
    return _parse_run_id(decode_json(body).get("run_id"))


def _parse_run_id(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > MAX_NAME):
        raise BadRequest("'run_id' must be a string.", code="bad_run_id", field="run_id")
    return value


def parse_approval(body: bytes) -> Decision:
    """POST /conversations/{conv_id}/approvals/{call_id}."""
    data = decode_json(body)
    decision, digest, reason = data.get("decision"), data.get("digest"), data.get("reason")
    if decision not in _DECISIONS:
        raise BadRequest(
            "'decision' must be 'once', 'always' or 'deny'.", code="bad_decision", field="decision"
        )
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadRequest(
            "'digest' must be that of the call: 64 hexadecimal digits.", code="bad_decision", field="digest"
        )
    if reason is not None and (not isinstance(reason, str) or len(reason) > MAX_REASON):
        raise BadRequest(
            f"'reason' must be a string of at most {MAX_REASON} characters.",
            code="bad_decision",
            field="reason",
        )
    return Decision(decision, digest, reason or "")


def parse_event(body: bytes) -> EventRequest:
    """POST /conversations/{conv_id}/events."""
    data = {"id": "", **decode_json(body)}
    try:
        return msgspec.convert(data, EventRequest)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The event is malformed: {error}.", code="bad_event") from None


def parse_profile(body: bytes) -> str:
    """POST /api/chat/profile: the slug of a profile."""
    slug = decode_json(body).get("slug")
    if not isinstance(slug, str):
        raise BadRequest("'slug' must be the name of a profile.", code="bad_profile", field="slug")
    return slug


def parse_timeline_query(
    conv_id: str | None,
    since: str | None = None,
    limit: str | None = None,
    before: str | None = None,
    unfinished: str | None = None,
) -> TimelineQuery:
    """GET /timeline, from its arguments as they were sent."""
    if sum(value is not None for value in (since, before, unfinished)) > 1:
        raise BadRequest("Send one of since_version, before and unfinished, not two.", code="bad_query")
    if unfinished not in (None, "true"):
        raise BadRequest("unfinished must be true, or left out.", code="bad_query", field="unfinished")
    return TimelineQuery(
        check_conv_id(conv_id),
        _integer("since_version", since, 0, MAX_SEQ),
        _integer("limit", limit, 1, MAX_LIMIT),
        _integer("before", before, 0, MAX_SEQ),
        unfinished is not None,
    )


def parse_turns_query(
    conv_id: str | None, run_id: str | None = None, phase: str | None = None, limit: str | None = None
) -> TurnsQuery:
    """GET /turns, from its arguments as they were sent."""
    if phase is not None and phase not in _PHASES:
        raise BadRequest(f"phase must be one of {', '.join(_PHASES)}.", code="bad_query", field="phase")
    chosen = _integer("limit", limit, 1, MAX_LIMIT)
    query = TurnsQuery(check_conv_id(conv_id), _parse_run_id(run_id), phase)
    return query if chosen is None else msgspec.structs.replace(query, limit=chosen)


def _integer(name: str, text: str | None, low: int, high: int) -> int | None:
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
        raise BadRequest(
            f"{name} must be a plain integer from {low} to {high}.", code="bad_query", field=name
        )
    return int(text)
