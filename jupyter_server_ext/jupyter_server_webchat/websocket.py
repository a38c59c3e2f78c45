"""GET /ws: the socket that frames travel on."""

from __future__ import annotations

from typing import Any

import msgspec
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from webchat_widget.errors import BadRequest, WebChatError
from webchat_widget.requests import check_conv_id
from webchat_widget.runtime.pool import Connection
from webchat_widget.runtime.service import ChatService

from .base import StrictOrigin, error_body
from .profiles import chosen_profile

__all__ = ["SemSocketHandler"]


class SemSocketHandler(StrictOrigin, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """One reader of one conversation. Everything that can be refused is refused before the upgrade."""

    auth_resource = "webchat:ws"
    _connection: Connection | None = None

    def set_default_headers(self) -> None:
        """JupyterHandler's make no sense on a socket."""

    @ws_authenticated
    async def get(self) -> None:
        """Check everything, then upgrade."""
        user = self.current_user
        allowed = await ensure_async(self.authorizer.is_authorized(self, user, "read", "webchat:ws"))
        if not allowed:
            raise web.HTTPError(403)
        if not self.check_origin():  # Tornado's own check takes for granted that it can be parsed
            raise web.HTTPError(403)
        self._conv_id = check_conv_id(self.get_query_argument("conv_id", None, strip=False))
        self._profile = chosen_profile(self, self._service)
        deltas = self.get_query_argument("deltas", "cumulative")
        if deltas not in ("append", "cumulative"):
            raise BadRequest("deltas must be append or cumulative.", code="bad_query", field="deltas")
        self._append = deltas == "append"
        await self._service.check_reader(self._conv_id, self._profile)
        await super().get()

    async def open(self, *args: Any, **kwargs: Any) -> None:
        """Join the conversation: `ws.hello` is the first frame."""
        super().open(*args, **kwargs)
        try:
            self._connection = await self._service.join(
                self._conv_id, self._profile, self, append=self._append
            )
        except WebChatError as error:
            self.close(1013, error.code)  # try again later
            return
        if self.ws_connection is None:  # it went while we loaded
            self.on_close()

    def on_message(self, message: str | bytes) -> None:
        """A reader says nothing but `ping`, bare, as `{"type": "ws.ping"}` or as a SEM frame."""
        if isinstance(message, bytes):
            self.close(1003, "text only")
        elif not _is_ping(message):
            self.close(1008, "only pings are understood")
        elif self._connection is not None:
            self._connection.answer(self._service.pong(self._conv_id))

    def on_close(self) -> None:
        """The reader has gone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(1000, "closed by the reader")

    async def send(self, frame: str) -> None:
        """`Reader.send`: done when the kernel's buffer has taken the frame."""
        try:
            await self.write_message(frame)
        except WebSocketClosedError as error:
            raise ConnectionError("the socket is closed") from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A refusal, as JSON."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, WebChatError):
            status_code = error.status
        self.set_status(status_code)
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(error_body(status_code, error)))

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """A refusal needs no traceback."""
        if not isinstance(error, WebChatError):
            super().log_exception(kind, error, trace)

    @property
    def _service(self) -> ChatService:
        service: ChatService = self.settings["webchat_service"]
        return service


def _is_ping(message: str) -> bool:
    if message == "ping":
        return True
    try:
        value = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    if isinstance(value, dict) and isinstance(value.get("event"), dict):
        value = value["event"]
    return isinstance(value, dict) and value.get("type") == "ws.ping"
