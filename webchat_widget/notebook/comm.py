"""A widget's comm as a transport: `{op, rid, body}` in, replies and frames out (docs/contract.md, 9).

A comm is heard by every page that shows the widget, so a widget has one stream, which all of them share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import msgspec

from webchat_widget.errors import BadRequest, NotFound, TooLarge, WebChatError
from webchat_widget.requests import (
    check_conv_id,
    decode_json,
    parse_approval,
    parse_chat,
    parse_stop,
    parse_timeline_query,
)
from webchat_widget.runtime.pool import Connection
from webchat_widget.runtime.service import ChatService
from webchat_widget.sem.text import clean
from webchat_widget.typing import JSONObject

from .host import KernelHost
from .hosted import Hosted

__all__ = ["Port"]

_FRAMES_SECONDS = 1 / 30
_PIECE = 256_000
"""Characters of one message. A Jupyter server drops what is over 3 MB in 3 s (`iopub_data_rate_limit`)."""
_BYTES_PER_SECOND = 700_000
_SMALL = 20_000
"""Characters that thirty times a second are no matter."""
_FULL = 100
"""Frames that may wait here. More wait in the conversation's pool, which merges them."""
_FORGET_SECONDS = 120.0
_SWEEP_SECONDS = 30.0
_MAX_BODY = 2**20
"""Bytes of a request, as over HTTP."""
_RID = re.compile(r"[\x21-\x7e]{1,100}")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


class _Reply(msgspec.Struct):
    """The answer to one op."""

    body: Any
    status: int = 200
    headers: dict[str, str] = {}


class Outlet:
    """What goes out on one comm: answers at once and in order, frames in at most 30 messages a second.

    An answer may overtake frames, as it may where the two come on two connections. `send` must not raise.
    """

    def __init__(self, send: Callable[[JSONObject], None]) -> None:
        self._send = send
        self._answers: deque[tuple[JSONObject, str]] = deque()
        self._frames: list[JSONObject] = []
        self._next = 0.0
        """When frames may go out again."""
        self.sent = 0
        """Messages that went out, pieces counted."""
        self._room = asyncio.Event()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, message: JSONObject) -> None:
        """Queue an answer, or anything else that is no frame. Raises ValueError for what is no JSON."""
        self._answers.append((message, _encode(message).decode()))
        self._asked.set()
        self._work()

    async def frame(self, frame: JSONObject) -> None:
        """Queue a frame, when there is room."""
        while len(self._frames) >= _FULL:
            self._room.clear()
            await self._room.wait()
        self._frames.append(frame)
        self._work()

    def forget_frames(self) -> None:
        """The stream has ended, so what is left of it must not come after the opening of the next."""
        self._frames.clear()
        self._room.set()

    def _work(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="webchat-outlet")

    async def _drain(self) -> None:
        now = asyncio.get_running_loop().time
        while self._answers or self._frames:
            if self._answers:
                await self._put_out(*self._answers.popleft())
            elif (pause := self._next - now()) > 0:
                self._asked.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._asked.wait()
            else:
                message: JSONObject = {"frames": self._frames}
                self._frames = []
                self._room.set()
                self._next = now() + _FRAMES_SECONDS
                await self._put_out(message, _encode(message).decode())
        self._task = None

    async def _put_out(self, message: JSONObject, text: str) -> None:
        self.sent += 1
        if len(text) <= _PIECE:
            self._send(message)
            if len(text) > _SMALL:
                await asyncio.sleep(len(text) / _BYTES_PER_SECOND)
            return
        parts = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        name = uuid.uuid4().hex
        for index, part in enumerate(parts):
            self._send({"piece": {"of": name, "index": index, "count": len(parts)}, "text": part})
            self.sent += 1
            await asyncio.sleep(len(part) / _BYTES_PER_SECOND)


class Port:
    """One widget's end of its comm. `hosted` gives the conversation that it shows now; `send` publishes.

    `receive` may be called on any thread and only enqueues; all else happens on the host's loop.
    """

    def __init__(
        self,
        host: KernelHost,
        hosted: Callable[[], Hosted],
        send: Callable[[JSONObject], None],
        renderers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._host = host
        self._hosted = hosted
        self._renderers = renderers
        self._outlet = Outlet(send)
        self._streams: dict[str, float] = {}
        """When each page that opened the stream was heard last."""
        self._heard = 0.0
        self._used = False
        self._connection: Connection | None = None
        self._n = 0
        """The number of the newest frame. A stream that opens again goes on behind it, with a hole."""
        self._before = 0
        """What had been counted when this stream was opened."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._joining = asyncio.Lock()
        self._ops: dict[str, Callable[[str, JSONObject], Awaitable[_Reply]]] = {
            "health": self._health,
            "open": self._open,
            "close": self._close_stream,
            "ping": self._ping,
            "timeline": self._timeline,
            "chat": self._chat,
            "stop": self._stop,
            "approve": self._approve,
            "resume": self._resume,
            "profiles": self._profiles,
            "math": self._math,
            "renderers": self._draw,
        }

    def receive(self, content: Any) -> None:
        """A message of a page, whatever it is."""
        self._used = True
        self._host.post(self._take, content)

    def close(self) -> None:
        """The widget leaves the kernel as its host, or the kernel."""
        if self._used:
            self._host.post(self._leave)

    # -- Reader: where the conversation's pool sends to --------------------------------------------------

    async def send(self, frame: bytes) -> None:
        """`Reader.send`"""
        decoded: JSONObject = _decode(frame)
        if decoded["event"]["type"] != "ws.hello":  # each page gets its own, as the answer to `open`
            decoded["n"] += self._before
            await self._outlet.frame(decoded)
            self._n = decoded["n"]

    @property
    def taken(self) -> int:
        """`Reader.taken`: a long message goes out slowly, and no page is to blame."""
        return self._outlet.sent

    def end(self, code: int) -> None:
        """The pool has closed the stream: pages that still want it open it again."""
        self._connection = None
        self._streams.clear()
        self._outlet.forget_frames()
        self._outlet.put({"closed": code})

    # -- ops -----------------------------------------------------------------------------------------------

    def _take(self, content: Any) -> None:
        rid = content.get("rid") if isinstance(content, dict) else None
        if not isinstance(rid, str) or not _RID.fullmatch(rid):
            return  # nobody to answer
        task = asyncio.create_task(self._answer(rid, content), name="webchat-op")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, rid: str, content: JSONObject) -> None:
        try:
            self._put(rid, await self._do(rid, content))
        except WebChatError as error:
            self._put(rid, _refusal(error.status, error))
        except Exception:
            self._host.log.exception("webchat: %s failed", content.get("op"))
            self._put(rid, _refusal(500, None))

    def _put(self, rid: str, reply: _Reply) -> None:
        self._outlet.put({"rid": rid, "status": reply.status, "headers": reply.headers, "body": reply.body})

    async def _do(self, rid: str, content: JSONObject) -> _Reply:
        name = content.get("op")
        op = self._ops.get(name) if isinstance(name, str) else None
        if op is None:
            raise NotFound("There is no such operation.", code="unknown_op")
        return await op(rid, _checked(content.get("body")))

    async def _health(self, rid: str, body: JSONObject) -> _Reply:
        return _Reply((await self._service()).health())

    async def _open(self, rid: str, body: JSONObject) -> _Reply:
        conv_id = self._own(body)
        profile = str(body.get("profile") or "default")
        self._streams[rid] = self._now()
        try:
            hello = await self._join(conv_id, profile)
        except BaseException:
            self._streams.pop(rid, None)
            raise
        finally:
            self._hush()  # who asked, or the widget, may have left meanwhile
        return _Reply({"n": self._n, "hello": hello}) if rid in self._streams else _gone()

    async def _close_stream(self, rid: str, body: JSONObject) -> _Reply:
        self._streams.pop(str(body.get("stream")), None)
        self._hush()
        return _Reply({})

    async def _ping(self, rid: str, body: JSONObject) -> _Reply:
        stream = str(body.get("stream"))
        if stream not in self._streams:
            return _gone()
        self._streams[stream] = self._now()
        service = await self._service()
        return _Reply(service.pong(self._hosted().conv_id).event["data"])

    async def _timeline(self, rid: str, body: JSONObject) -> _Reply:
        self._own(body)
        names = ("conv_id", "since_version", "limit", "before", "unfinished")
        query = parse_timeline_query(*(_argument(body.get(name)) for name in names))
        page, epoch = await (await self._service()).timeline(query)
        headers = {
            "X-Timeline-Version": str(page.version),
            "X-Timeline-Epoch": epoch,
            "X-Timeline-More": "true" if page.more else "false",
        }
        return _Reply(page.entities, headers=headers)

    async def _chat(self, rid: str, body: JSONObject) -> _Reply:
        self._own(body)
        profile = str(body.pop("profile", None) or "default")
        reply = await (await self._service()).chat(parse_chat(_encode(body), profile=profile))
        return _Reply(reply.body, reply.status, {"Idempotency-Replayed": "true"} if reply.replayed else {})

    async def _stop(self, rid: str, body: JSONObject) -> _Reply:
        conv_id = self._own(body)
        await (await self._service()).stop(conv_id, parse_stop(_encode(body)))
        return _Reply({"status": "stopped", "conv_id": conv_id})

    async def _approve(self, rid: str, body: JSONObject) -> _Reply:
        conv_id = self._own(body)
        call_id = str(body.pop("call_id", ""))
        decision = parse_approval(_encode(body))
        await (await self._service()).approve(conv_id, call_id, decision)
        status = "denied" if decision.decision == "deny" else decision.decision
        return _Reply({"status": status, "call_id": call_id})

    async def _resume(self, rid: str, body: JSONObject) -> _Reply:
        conv_id = self._own(body)
        pause_id = str(body.get("pause_id"))
        await (await self._service()).resume(conv_id, pause_id)
        return _Reply({"status": "continued", "pause_id": pause_id})

    async def _profiles(self, rid: str, body: JSONObject) -> _Reply:
        conv_id = self._own(body)
        return _Reply((await self._service()).profiles(conv_id))

    async def _math(self, rid: str, body: JSONObject) -> _Reply:
        return _Reply(_typesetter())

    async def _draw(self, rid: str, body: JSONObject) -> _Reply:
        """Wherever the chat runs: what draws its rows is of this kernel."""
        return _Reply(dict(self._renderers))

    # -- parts -----------------------------------------------------------------------------------------------

    async def _join(self, conv_id: str, profile: str) -> JSONObject:
        """See to it that the conversation's frames come here; returns a hello."""
        service = await self._service()
        async with self._joining:
            if self._connection is None:
                # The pool's own hello, which no page gets: a hole to who was forgotten and still listens.
                self._before, self._n = self._n, self._n + 1
                self._connection = await service.join(conv_id, profile, _Reader(self), append=True)
        return await service.hello(conv_id, profile)

    async def _service(self) -> ChatService:
        return await self._hosted().ready()

    def _own(self, body: JSONObject) -> str:
        """The conversation that is asked about: a page asks its widget about no other."""
        conv_id = check_conv_id(body.get("conv_id"))
        if conv_id != self._hosted().conv_id:
            raise NotFound("This widget shows another conversation now.", code="other_conversation")
        return conv_id

    def _now(self) -> float:
        self._heard = asyncio.get_running_loop().time()
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        return self._heard

    def _sweep(self) -> None:
        """Forget the pages that are silent while others are heard.

        Not those that are silent for a while: a kernel may hear nobody at all for as long as a cell runs.
        """
        self._sweeper = None
        oldest = self._heard - _FORGET_SECONDS
        self._streams = {stream: heard for stream, heard in self._streams.items() if heard >= oldest}
        self._hush()

    def _hush(self) -> None:
        """Nobody listens any more: stop sending."""
        if not self._streams and self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close(1000, "nobody listens")
            self._outlet.forget_frames()

    def _leave(self) -> None:
        self._streams.clear()
        self._hush()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None


class _Reader:
    """What the pool knows of a port; it outlives its closing by nothing."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._open = True

    async def send(self, frame: bytes) -> None:
        """Hand a frame on."""
        await self._port.send(frame)

    @property
    def taken(self) -> int:
        """What has gone out."""
        return self._port.taken

    def close(self, code: int, reason: str) -> None:
        """Tell the pages, where it was not the port itself that hung up."""
        opened, self._open = self._open, False
        if opened and code != 1000:
            self._port.end(code)


def _checked(body: Any) -> JSONObject:
    """The body by the same rules as one over HTTP."""
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="bad_json")
    try:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise BadRequest("The body is no JSON.", code="bad_json") from None
    if len(text) > _MAX_BODY:
        raise TooLarge(f"The request is larger than {_MAX_BODY:,} bytes.", code="body_too_large")
    return decode_json(text)


def _argument(value: Any) -> str | None:
    """A value of a body as a route's address has it."""
    if value is None:
        return None
    return "true" if value is True else str(value)


def _refusal(status: int, error: WebChatError | None) -> _Reply:
    reason = HTTPStatus(status).phrase
    if error is None:
        message = "Something went wrong inside the chat; the log of Jupyter says what."
        return _Reply({"message": message, "reason": reason, "code": "internal_error"}, status)
    # It may name a file, whose name need be no Unicode.
    body = {"message": clean(error.message), "reason": reason, "code": error.code}
    if error.field:
        body["field"] = error.field
    return _Reply(body, status)


def _gone() -> _Reply:
    return _Reply({"message": "The stream is not open.", "reason": "Gone", "code": "gone"}, 410)


@cache
def _typesetter() -> str:
    return (files("webchat_widget") / "static" / "math.js").read_text(encoding="utf-8")
