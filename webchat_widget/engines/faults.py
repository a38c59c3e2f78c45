"""What can go wrong between us and a model server, as sentences for a person.

The sentences are fixed: a server's own words may echo the key, and tell a person little.
"""

from __future__ import annotations

from types import TracebackType
from urllib.parse import urlsplit

from webchat_widget.errors import EngineError

__all__ = ["Faults", "host_of", "is_http"]


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


class Faults:
    """A context in which every fault of the SDK and of the connection becomes an EngineError.

    `model` is None while the server is asked for its list. Set `streaming` once the answer has begun: from
    then on a lost connection is an interruption.
    """

    def __init__(self, base_url: str, model: str | None, timeout: float) -> None:
        self._host = host_of(base_url)
        self._model = model
        self._timeout = timeout
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
            f"The model server at {self._host} sent nothing for {self._timeout:g} s. What came before is "
            "kept.",
            code="interrupted",
            retryable=True,
        )

    def _interrupted(self, error: Exception) -> EngineError | None:
        names = _names(error)
        if "TimeoutException" in names or "APITimeoutError" in names:
            return self.stalled()
        if "TransportError" in names or "APIConnectionError" in names or "StreamError" in names:
            return EngineError(
                f"The connection to the model server at {self._host} was cut. What came before is kept.",
                code="interrupted",
                retryable=True,
            )
        return self._refused(error)

    def _refused(self, error: Exception) -> EngineError | None:
        names = _names(error)
        status = getattr(error, "status_code", None)
        word = str(getattr(error, "code", "") or "")
        if "APITimeoutError" in names or "TimeoutException" in names:
            return self._error("model_timeout", f"did not answer within {self._timeout:g} s", True)
        if "APIConnectionError" in names or "TransportError" in names:
            return EngineError(
                f"Cannot reach the model server at {self._host}. Is it running, and is the address right "
                "(OPENAI_BASE_URL or c.WebChat.base_url)?",
                code="model_unreachable",
                retryable=True,
            )
        if status in (401, 403):
            return EngineError(
                f"The API key was rejected by {self._host}. Set a valid OPENAI_API_KEY where Jupyter is "
                "started, and start it again; for a chat in the kernel, in os.environ.",
                code="key_rejected",
                retryable=False,
            )
        if word == "context_length_exceeded":
            return EngineError(
                "The conversation is too long for this model. Begin a new one, or choose a model with a "
                "larger context.",
                code="context_too_long",
                retryable=False,
            )
        if status == 404 and self._model is None:
            return self._error(
                "no_model",
                "has no list of models. Name one (WEBCHAT_MODEL or c.WebChat.model), or correct the address "
                "(OPENAI_BASE_URL or c.WebChat.base_url; it often ends in /v1)",
                False,
            )
        if status == 404:
            return self._error(
                "model_unknown",
                f"does not know the model {self._model!r}. Name another (WEBCHAT_MODEL or c.WebChat.model), "
                "or correct the address (it often ends in /v1)",
                False,
            )
        if status == 429:
            if word == "insufficient_quota":
                return self._error("quota_used_up", "says that the quota of this API key is used up", False)
            return self._error("rate_limited", "asks to slow down (429). Try again in a while", True)
        if isinstance(status, int) and status >= 500:
            return self._error("model_server_error", f"failed with status {status}. Try again", True)
        if isinstance(status, int):
            return self._error(
                "model_refused_request",
                f"refused the request for {self._model or 'its list of models'!r} with status {status}",
                False,
            )
        if "OpenAIError" in names:
            return self._error("protocol_error", "sent an answer that is not the OpenAI protocol", True)
        return None

    def _error(self, code: str, what: str, retryable: bool) -> EngineError:
        return EngineError(f"The model server at {self._host} {what}.", code=code, retryable=retryable)


def _names(error: Exception) -> set[str]:
    """Names of the error's classes: the SDK raises its own and those of its HTTP library, which has changed
    its package's name between versions."""
    return {kind.__name__ for kind in type(error).__mro__}
