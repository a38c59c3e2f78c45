"""GET /ws: the socket that frames travel on."""

from __future__ import annotations

import contextlib
import socket
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
from webchat_widget.runtime.pool import TOO_SLOW, Connection
from webchat_widget.runtime.service import ChatService

from .base import StrictOrigin, error_body
from .heartbeat import Heartbeat
from .profiles import chosen_profile

__all__ = ["SemSocketHandler"]

_BUFFER = 128 * 1024
"""Bytes that the kernel may hold for a reader. Of its own accord it takes megabytes: nobody could then tell a
reader that is slow from one that has stalled, and what waits there can't be merged."""


class SemSocketHandler(StrictOrigin, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """One reader of one conversation. Everything that can be refused is refused before the upgrade."""

    auth_resource = "webchat:ws"
    ping_interval = 0  # neither Jupyter's pings nor Tornado's: a setting would switch them off
    _connection: Connection | None = None
    _heartbeat: Heartbeat | None = None
    _behind: int | None = None
    """What the reader had taken at the last ping, where more waited for it."""

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
        assert self.ws_connection is not None
        assert self.ws_connection.stream is not None
        self._stream = self.ws_connection.stream
        if self._stream.closed():
            return  # it went before it was let in, and was told to be closed then
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._heartbeat = Heartbeat(self.settings, self._ask, self._lost)
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
        self._heard()
        if isinstance(message, bytes):
            self.close(1003, "text only")
        elif not _is_ping(message):
            self.close(1008, "only pings are understood")
        elif self._connection is not None:
            self._connection.answer(self._service.pong(self._conv_id))

    def on_ping(self, data: bytes) -> None:
        """A sign of life."""
        self._heard()

    def on_pong(self, data: bytes) -> None:
        """The answer to one of our pings."""
        self._heard()

    def on_close(self) -> None:
        """The reader has gone."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(1000, "closed by the reader")

    async def send(self, frame: bytes) -> None:
        """`Reader.send`: done when the kernel's buffer has taken the frame."""
        try:
            await self.write_message(frame)  # as text: `binary` is False
        except WebSocketClosedError as error:
            raise ConnectionError("the socket is closed") from error

    @property
    def taken(self) -> int:
        """`Reader.taken`: the bytes that the kernel's buffer took, those of half a frame too.

        Tornado keeps it to itself; without, a frame must be taken whole.
        """
        return getattr(self._stream, "_total_write_done_index", 0)

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

    def _ask(self) -> None:
        """Ask for a sign of life. It is one that some was taken of what waited: the ping waits behind it."""
        if self._behind is not None and self.taken > self._behind:
            self._heard()
        self._behind = self.taken if self._stream.writing() else None
        with contextlib.suppress(WebSocketClosedError):
            self.ping(b"")

    def _heard(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.heard()

    def _lost(self) -> None:
        """Nobody is at the other end: a closing handshake would be waited for in vain."""
        self.log.info("webchat: a reader of %s was silent for too long", self._conv_id)
        self.close(TOO_SLOW, "silent")
        self._stream.close()

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
