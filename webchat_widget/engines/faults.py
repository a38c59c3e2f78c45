"""What can go wrong between us and a model server, as sentences for a person.

The sentences are fixed: a server's own words may echo the key, and tell a person little. They are only
looked into, for servers agree on no codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from webchat_widget.errors import EngineError

from .retries import asked_wait

__all__ = [
    "Faults",
    "PartRefused",
    "Passing",
    "host_of",
    "is_http",
    "protocol_error",
    "reported",
    "unfinished",
]

_TOO_LONG = re.compile(
    r"context_length|exceed_context|maximum context|context (length|size|window)|prompt is too long", re.I
)
_FILTERED = re.compile(r"content_filter|content_policy")
_LIMITED = re.compile(r"rate_?limit|too_many_requests|\b429\b", re.I)


class Passing(EngineError):
    """A fault that may pass: worth another try as long as nothing of the answer has come.

    `notice` is what the server did, for "The model server at … `notice`"; `after` are the seconds that it
    asks to wait.
    """

    def __init__(self, message: str, *, code: str, notice: str, after: float | None = None) -> None:
        super().__init__(message, code=code, retryable=True)
        self.notice = notice
        self.after = after


class PartRefused(EngineError):
    """The server does not know an optional `part` of the request: worth another try without it."""

    def __init__(self, fault: EngineError, part: str) -> None:
        super().__init__(fault.message, code=fault.code, retryable=fault.retryable)
        self.part = part


def host_of(url: str) -> str:
    """Host and port of a URL, for a sentence; never its user, password or path."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "an address that is no URL"


def is_http(url: str) -> bool:
    """True where one can try to connect to it."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def protocol_error() -> EngineError:
    """What answers is something else, say a proxy; its words are not shown."""
    return EngineError(
        "The model server sent something that is not the OpenAI protocol. Is the address right "
        "(OPENAI_BASE_URL or c.WebChat.base_url; it often ends in /v1)?",
        code="protocol_error",
        retryable=True,
    )


def unfinished() -> EngineError:
    """The stream ended in good order, and the answer did not."""
    return Passing(
        "The model server ended its answer before it was finished. What came before is kept.",
        code="interrupted",
        notice="ended its answer before it had begun",
    )


def reported(error: Any) -> EngineError:
    """The fault behind an error object in the middle of a stream."""
    told = error if isinstance(error, dict) else {"message": error}
    word = " ".join(str(told[key]) for key in ("code", "type") if told.get(key))
    known = _known("The model server", word, str(told.get("message") or ""))
    if known is not None:
        return known
    if _LIMITED.search(word):
        return _limited("The model server", None)
    return Passing(
        "The model server reported an error in the middle of its answer.",
        code="model_server_error",
        notice="reported an error",
    )


class Faults:
    """A context in which every fault of the SDK and of the connection becomes an EngineError.

    `model` is None while the server is asked for its list; `optional` are the parts of the request that a
    server may not know, each with what its refusal looks like. Set `streaming` once the answer has begun:
    from then on a lost connection is an interruption.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None,
        timeout: float,
        optional: Mapping[str, re.Pattern[str]] | None = None,
    ) -> None:
        self._server = f"The model server at {host_of(base_url)}"
        self._host = host_of(base_url)
        self._model = model
        self._timeout = timeout
        self._optional = optional or {}
        self.streaming = False

    def __enter__(self) -> Faults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, EngineError):
            found = self._interrupted(error) if self.streaming else self._refused(error)
            if found is not None:
                raise found from None

    def stalled(self) -> EngineError:
        """The server keeps the connection, and says nothing."""
        return EngineError(
            f"{self._server} sent nothing for {self._timeout:g} s. What came before is kept.",
            code="interrupted",
            retryable=True,
        )

    def _interrupted(self, error: Exception) -> EngineError | None:
        names = _names(error)
        if "TimeoutException" in names or "APITimeoutError" in names:
            return self.stalled()
        if names & {"TransportError", "APIConnectionError", "StreamError", "DecodingError"}:
            return Passing(
                f"The connection to the model server at {self._host} was cut. What came before is kept.",
                code="interrupted",
                notice="cut the connection",
            )
        return self._refused(error)

    def _refused(self, error: Exception) -> EngineError | None:
        names = _names(error)
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return self._status(status, error)
        if "APITimeoutError" in names or "TimeoutException" in names:
            return self._error("model_timeout", f"did not answer within {self._timeout:g} s", True)
        if "APIConnectionError" in names or "TransportError" in names:
            return Passing(
                f"Cannot reach the model server at {self._host}. Is it running, and is the address right "
                "(OPENAI_BASE_URL or c.WebChat.base_url)?",
                code="model_unreachable",
                notice="cannot be reached",
            )
        if "OpenAIError" in names:
            return self._error("protocol_error", "sent an answer that is not the OpenAI protocol", True)
        return None

    def _status(self, status: int, error: Exception) -> EngineError:
        """A response that is no answer."""
        word = " ".join(str(value) for key in ("code", "type") if (value := getattr(error, key, None)))
        if status in (401, 403):
            return EngineError(
                f"The API key was rejected by {self._host}. Set a valid OPENAI_API_KEY where Jupyter is "
                "started, and start it again; for a chat in the kernel, in os.environ.",
                code="key_rejected",
                retryable=False,
            )
        known = _known(self._server, word, "" if status == 429 else str(error))
        if known is not None:
            return known
        if status == 404:
            return self._not_found()
        if status == 429:
            return _limited(self._server, _asked(error))
        if status in (408, 409) or status >= 500:
            return Passing(
                f"{self._server} failed with status {status}. Try again.",
                code="model_server_error",
                notice=f"failed with status {status}",
                after=_asked(error),
            )
        refused = self._error(
            "model_refused_request",
            f"refused the request for {self._model or 'its list of models'!r} with status {status}",
            False,
        )
        part = self._refused_part(error) if status in (400, 422) else None
        return refused if part is None else PartRefused(refused, part)

    def _not_found(self) -> EngineError:
        if self._model is None:
            return self._error(
                "no_model",
                "has no list of models. Name one (WEBCHAT_MODEL or c.WebChat.model), or correct the address "
                "(OPENAI_BASE_URL or c.WebChat.base_url; it often ends in /v1)",
                False,
            )
        return self._error(
            "model_unknown",
            f"does not know the model {self._model!r}. Name another (WEBCHAT_MODEL or c.WebChat.model), "
            "or correct the address (it often ends in /v1)",
            False,
        )

    def _refused_part(self, error: Exception) -> str | None:
        """The optional part of the request that the server refuses: as its `param`, or else in its words."""
        param = getattr(error, "param", None)
        words = str(param or error)
        return next((part for part, looks in self._optional.items() if looks.search(words)), None)

    def _error(self, code: str, what: str, retryable: bool) -> EngineError:
        return EngineError(f"{self._server} {what}.", code=code, retryable=retryable)


def _known(server: str, word: str, words: str) -> EngineError | None:
    """What has a code, or words, of its own, whatever the status is."""
    if _TOO_LONG.search(f"{word} {words}"):
        return EngineError(
            "The conversation is too long for this model. Begin a new one, or choose a model with a larger "
            "context.",
            code="context_too_long",
            retryable=False,
        )
    if "insufficient_quota" in word:
        return EngineError(
            f"{server} says that the quota of this API key is used up.",
            code="quota_used_up",
            retryable=False,
        )
    if _FILTERED.search(word):
        return EngineError(
            f"{server} refused the conversation: its content filter does not let it pass.",
            code="content_filtered",
            retryable=False,
        )
    return None


def _limited(server: str, after: float | None) -> EngineError:
    when = "in a while" if after is None else f"in {max(after, 1):.0f} s"
    return Passing(
        f"{server} asks to slow down (429). Try again {when}.",
        code="rate_limited",
        notice="asks to slow down (429)",
        after=after,
    )


def _asked(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    return None if response is None else asked_wait(response.headers)


def _names(error: Exception) -> set[str]:
    """Names of the error's classes: the SDK raises its own and those of its HTTP library, which has changed
    its package's name between versions."""
    return {kind.__name__ for kind in type(error).__mro__}
