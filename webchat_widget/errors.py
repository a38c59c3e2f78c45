"""Every error that the project raises on purpose.

::

    WebChatError                     code, status, message: a sentence for a person
    ├── BadRequest              400  the request makes no sense; `field` names the part
    │   ├── TooLarge            413
    │   ├── NotJSON             415
    │   ├── NotAllowed          422  well-formed, but unknown or not for the caller to choose
    │   └── KeyReused           422  an idempotency key with another body
    ├── NotFound                404  an unknown profile, or conversation
    ├── ConversationHeld        409  somebody else has the conversation open
    ├── Conflict                409  a decision about a call that has changed, or was decided otherwise
    ├── QueueFull               429  too many prompts wait in this conversation
    ├── StoreUnavailable        503  the timeline can't be read or written
    ├── ShuttingDown            503  the host is about to end
    ├── EngineError             502  the model, or the way to it, failed; `retryable`
    └── ServerUnavailable            Python in a kernel found no chat server, or was refused

`code` is a stable snake_case word for programs, `status` the contract's number: HTTP's values, on every
transport. The sentences never hold a key, a token or the words of an upstream server.
"""

from __future__ import annotations

__all__ = [
    "BadRequest",
    "Conflict",
    "ConversationHeld",
    "EngineError",
    "KeyReused",
    "NotAllowed",
    "NotFound",
    "NotJSON",
    "QueueFull",
    "ServerUnavailable",
    "ShuttingDown",
    "StoreUnavailable",
    "TooLarge",
    "WebChatError",
]


class WebChatError(Exception):
    """The root: `message` is a sentence for a person, `code` a word for a program."""

    code = "error"
    status = 500
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class BadRequest(WebChatError):
    """The request can't be understood."""

    code = "bad_request"
    status = 400


class TooLarge(BadRequest):
    """A body, a prompt or an attachment over its limit."""

    code = "too_large"
    status = 413


class NotJSON(BadRequest):
    """A body whose Content-Type is not application/json."""

    code = "not_json"
    status = 415


class NotAllowed(BadRequest):
    """A well-formed override that is unknown, or that the profile does not let the caller choose."""

    code = "not_allowed"
    status = 422


class KeyReused(BadRequest):
    """An idempotency key that was used with another body."""

    code = "idempotency_key_reused"
    status = 422


class NotFound(WebChatError):
    """An unknown profile or conversation."""

    code = "not_found"
    status = 404


class ConversationHeld(WebChatError):
    """Somebody else has the conversation open; it has one holder at a time."""

    code = "conversation_held"
    status = 409
    retryable = True


class Conflict(WebChatError):
    """What was decided about is not what is there any more, or was decided otherwise."""

    code = "conflict"
    status = 409


class QueueFull(WebChatError):
    """Too many prompts wait in this conversation already."""

    code = "queue_full"
    status = 429
    retryable = True


class StoreUnavailable(WebChatError):
    """The disk, or the database on it, refused."""

    code = "store_unavailable"
    status = 503
    retryable = True


class ShuttingDown(WebChatError):
    """The host is about to end and takes no more prompts."""

    code = "shutting_down"
    status = 503
    retryable = True


class EngineError(WebChatError):
    """The model, or the way to it, failed.

    `retryable` says whether the same prompt may work later without a change of the configuration.
    """

    code = "model_error"
    status = 502

    def __init__(self, message: str, *, code: str, retryable: bool) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable


class ServerUnavailable(WebChatError):
    """Python in a kernel found no chat server, has no credential for it, or was refused by it."""

    code = "server_unavailable"
    status = 503
