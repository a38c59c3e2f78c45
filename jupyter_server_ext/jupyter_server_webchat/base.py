"""What the handlers share: the service, a body with a limit, and errors as JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from webchat_widget.errors import NotJSON, TooLarge, WebChatError
from webchat_widget.runtime.service import ChatService

__all__ = ["BodyHandler", "StrictOrigin", "WebChatHandler", "error_body"]


def error_body(status: int, error: BaseException | None) -> dict[str, Any]:
    """`{message, reason, code}` for any way in which a request can fail. Never a traceback."""
    reason = HTTPStatus(status).phrase
    body = {"message": reason, "reason": reason, "code": reason.lower().replace(" ", "_").replace("-", "_")}
    if isinstance(error, WebChatError):
        body |= {"message": error.message, "code": error.code}
        if error.field:
            body["field"] = error.field
    elif isinstance(error, web.HTTPError) and error.log_message:
        body["message"] = error.log_message % error.args if error.args else error.log_message
    return body


class StrictOrigin:
    """For every handler of ours: an Origin or a Referer that is no URL is one that is not allowed."""

    def check_origin(self, *args: Any, **kwargs: Any) -> bool:
        """As Jupyter's, which takes for granted that it can be parsed."""
        try:
            return bool(super().check_origin(*args, **kwargs))  # type: ignore[misc]
        except ValueError:
            return False

    def check_referer(self) -> bool:
        """The same."""
        try:
            return bool(super().check_referer())  # type: ignore[misc]
        except ValueError:
            return False


class WebChatHandler(StrictOrigin, ExtensionHandlerMixin, APIHandler):
    """Parses, asks the service, answers."""

    @property
    def service(self) -> ChatService:
        """The one door."""
        service: ChatService = self.settings["webchat_service"]
        return service

    @property
    def owner(self) -> str:
        """Whose idempotency keys these are. A token without a cookie is a new anonymous user with every
        request, so all who hold the token are one."""
        return "" if self.token_authenticated else str(self.current_user.username)

    def answer(self, body: Any, status: int = 200) -> None:
        """Finish with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(msgspec.json.encode(body))

    def argument(self, name: str) -> str | None:
        """A query argument exactly as it was sent."""
        value: str | None = self.get_query_argument(name, None, strip=False)
        return value

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors as JSON, with the contract's status where the error has one."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, WebChatError):
            status_code = error.status
        if status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.set_header("Retry-After", "2")
        self.answer(error_body(status_code, error), status_code)

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """An error that we raised on purpose needs a line, not a traceback."""
        if isinstance(error, WebChatError):
            self.log.warning("webchat: %s %s: %s", self.request.method, self.request.path, error.message)
        else:
            super().log_exception(kind, error, trace)


@web.stream_request_body
class BodyHandler(WebChatHandler):
    """A handler that takes a body, of which it holds no more than its limit."""

    limit_setting = "webchat_max_body_bytes"

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._body = bytearray()
        self._too_large = False

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body. What is over the limit is read and dropped, so that an answer gets through."""
        if len(self._body) + len(chunk) > self._limit:
            self._too_large = True
            self._body.clear()
        elif not self._too_large:
            self._body += chunk

    def body(self) -> bytes:
        """The body. Raises TooLarge; NotJSON where it is not labelled as JSON."""
        if self._too_large:
            raise TooLarge(f"The request is larger than {self._limit:,} bytes.", code="body_too_large")
        kind = self.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if self._body and kind != "application/json":
            raise NotJSON("Send the body with Content-Type: application/json.")
        return bytes(self._body)

    @property
    def _limit(self) -> int:
        limit: int = self.settings[self.limit_setting]
        return limit
