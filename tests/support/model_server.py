"""A real HTTP server that speaks the OpenAI protocol, and can misbehave on purpose.

The whole project talks to it over a socket, as it would to a provider::

    with ModelServer() as model:
        model.script(Reply("Hello there."), Reply(status=401))
        ...  # OPENAI_BASE_URL=model.url

A queued :class:`Reply` answers one completion; with an empty queue the answer echoes the prompt. A
:class:`Gate` in ``Reply.hold`` lets a test release a stream chunk by chunk, and ``disconnected`` tells who
hung up before the end. It needs the standard library only; ``python -m tests.support.model_server``
starts one to play with by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

__all__ = ["Disconnect", "Gate", "ModelServer", "Reply", "Request", "words"]

Fault = Literal["cut", "stall", "html", "malformed", "error_event", "keepalive"]

_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: (
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens.",
    ),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    403: ("permission_error", None, "The key {key} may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
}
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many",
}
_BATCH = 64


def words(text: str) -> list[str]:
    """Cut *text* the way a model streams it: a word with the white space that follows it."""
    return re.findall(r"\S+\s*|\s+", text)


class Gate:
    """Holds a stream until the test lets it go on: ``step(n)`` for *n* chunks, ``open()`` for the rest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits = 0
        self._open = False
        self._held = False
        self._wake: Callable[[], None] | None = None

    def step(self, count: int = 1) -> None:
        with self._changed:
            self._permits += count
            self._notify()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._notify()

    def wait_held(self, timeout: float = 30) -> None:
        """Return when a stream stands before the gate with all its permitted chunks sent."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held and not self._permits, timeout):
                raise TimeoutError("no stream came to the gate")

    async def _pass(self) -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        while True:
            with self._changed:
                if self._open or self._permits:
                    self._permits = max(0, self._permits - 1)
                    self._held = False
                    return
                event.clear()
                self._wake = lambda: loop.call_soon_threadsafe(event.set)
                self._held = True
                self._changed.notify_all()
            try:
                await event.wait()
            finally:
                self._wake = None

    def _notify(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the server's loop is gone
                self._wake()
        self._changed.notify_all()


@dataclass
class Reply:
    """What the model answers to one request.

    ``after`` is the number of chunks that leave before a fault (default: half of them). ``keepalive`` puts a
    comment line before each chunk; with ``after`` it sends nothing but comments from there on.
    ``finish_reason=None`` ends the stream in good order but without one, which is no success.
    """

    text: str = ""
    chunks: Sequence[str] | None = None
    delay: float = 0.0
    tool_calls: Sequence[Mapping[str, Any]] = ()
    reasoning: str = ""
    finish_reason: str | None = "stop"
    usage: Mapping[str, Any] | None = None
    status: int = 200
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    after: int | None = None
    hold: Gate | None = None


@dataclass(frozen=True)
class Request:
    """One HTTP request as it arrived; ``headers`` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.body.get("messages") or []):
            if message.get("role") == "user":
                content = message.get("content") or ""
                if isinstance(content, str):
                    return content
                return "".join(part.get("text", "") for part in content if isinstance(part, dict))
        return ""


@dataclass(frozen=True)
class Disconnect:
    """A client hung up while its answer was still on the way."""

    request: Request
    chunks_sent: int


def echo(request: Request) -> Reply:
    """The answer when nothing is scripted; the same prompt always gives the same text."""
    return Reply(f"You said: {request.prompt}")


class ModelServer:
    """The server, on a thread and loop of its own; ``stop`` and ``start`` keep the port."""

    def __init__(
        self,
        *,
        port: int = 0,
        models: Iterable[str] = ("test-model",),
        api_key: str | None = None,
        answer: Callable[[Request], Reply] = echo,
    ) -> None:
        """With *api_key*, any other key is answered 401."""
        self.port = port
        self.models = list(models)
        self.api_key = api_key
        self.answer = answer
        self.requests: list[Request] = []
        self.disconnected: list[Disconnect] = []
        self._queue: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._halt: asyncio.Event | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    # -- for the test -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def completions(self) -> list[Request]:
        """The requests for an answer, without those for the list of models."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def script(self, *replies: Reply | str) -> None:
        """Queue answers for the requests to come."""
        self._queue.extend(Reply(reply) if isinstance(reply, str) else reply for reply in replies)

    def reset(self) -> None:
        """Forget the script and all that was seen."""
        self._queue.clear()
        self.requests.clear()
        self.disconnected.clear()

    def wait_disconnected(self, count: int = 1, timeout: float = 10) -> list[Disconnect]:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.disconnected) >= count, timeout):
                raise TimeoutError(f"{len(self.disconnected)} of {count} clients hung up")
            return list(self.disconnected)

    def wait_requests(self, count: int = 1, timeout: float = 10) -> list[Request]:
        """Wait until *count* completions were asked for."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.completions) >= count, timeout):
                raise TimeoutError(f"{len(self.completions)} of {count} completions were asked for")
            return self.completions

    def start(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("already started")
        ready: list[BaseException | None] = []
        started = threading.Event()

        def main() -> None:
            try:
                asyncio.run(self._serve(lambda: (ready.append(None), started.set())))
            except BaseException as error:  # carried to the thread that called start()
                ready.append(error)
                started.set()

        self._thread = threading.Thread(target=main, name="model-server", daemon=True)
        self._thread.start()
        started.wait()
        if ready[0] is not None:
            self._thread = None
            raise ready[0]
        return self

    @property
    def running(self) -> bool:
        return self._thread is not None

    def stop(self) -> None:
        """Close the port and drop every connection; from here on clients are refused."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._halt is not None:
            self._loop.call_soon_threadsafe(self._halt.set)
            thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- the wire ---------------------------------------------------------------------------------------

    async def _serve(self, ready: Callable[[], object]) -> None:
        self._loop, self._halt = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._halt.wait()
        server.close()
        for task, writer in list(self._connections.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            early = b""
            while (request := await _read_request(reader, early)) is not None:
                with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                early = await self._respond(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._connections[task]
            writer.close()

    async def _respond(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """Answer; returns the first byte of a next request that came early."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        reply: Reply | None = None
        if request.path.endswith("/chat/completions"):
            reply = self._queue.popleft() if self._queue else self.answer(request)
        if self.api_key is not None and key != self.api_key:
            reply = Reply(status=401)
        if reply is None and request.path.endswith("/models") and request.method == "GET":
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models
            ]
            await _send(writer, 200, json.dumps({"object": "list", "data": listed}).encode())
            return b""
        if reply is None:
            reply = Reply(status=404, message=f"Unknown request URL: {request.path}")
        if reply.status != 200:
            await _send(writer, reply.status, _error_body(reply, request, key), headers=reply.headers)
            return b""
        if reply.fault == "html":
            page = b"<!doctype html><html><body><h1>Sign in to the proxy</h1></body></html>"
            await _send(writer, 200, page, content_type="text/html")
            return b""
        if not request.body.get("stream"):
            await _send(writer, 200, json.dumps(_completion(reply, request)).encode(), headers=reply.headers)
            return b""
        return await self._stream(reply, request, reader, writer)

    async def _stream(
        self, reply: Reply, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        sent = 0

        async def pump() -> None:
            nonlocal sent
            async for payload, chunks in _paced(reply, request):
                writer.write(payload)
                await writer.drain()
                sent += chunks

        headers = {"Cache-Control": "no-cache", "Transfer-Encoding": "chunked", **reply.headers}
        writer.write(_head(200, "text/event-stream; charset=utf-8", headers))
        pumping, hangup = asyncio.ensure_future(pump()), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({pumping, hangup}, return_when=asyncio.FIRST_COMPLETED)
            if not pumping.done() and hangup.done() and hangup.exception() is None and hangup.result():
                await pumping  # a pipelined request, not a hang-up
            if pumping.done() and pumping.exception() is None:
                if reply.fault == "cut":
                    writer.transport.abort()
                    raise ConnectionAbortedError
                return hangup.result() if hangup.done() and hangup.exception() is None else b""
            with self._changed:
                self.disconnected.append(Disconnect(request, sent))
                self._changed.notify_all()
            raise ConnectionResetError
        finally:
            for task in (pumping, hangup):
                task.cancel()
            await asyncio.gather(pumping, hangup, return_exceptions=True)


async def _paced(reply: Reply, request: Request) -> AsyncIterator[tuple[bytes, int]]:
    """The events of *reply* as bytes for the socket, at its pace and with its fault; and how many chunks."""
    opening, body, closing = _events(reply, request)
    fault_at: int | None = None
    if reply.fault in ("cut", "stall", "malformed", "error_event"):
        fault_at = len(body) // 2 if reply.after is None else reply.after
    elif reply.fault == "keepalive":
        fault_at = reply.after
    comment = _chunk(b": keep-alive\n\n") if reply.fault == "keepalive" else b""
    yield opening, 0
    slow = reply.delay > 0 or reply.hold is not None
    due: list[bytes] = []
    for event in body if fault_at is None else body[:fault_at]:
        if not slow:
            due.append(comment + event)
            if len(due) == _BATCH:
                yield b"".join(due), len(due)
                due.clear()
            continue
        if reply.hold is not None:
            await reply.hold._pass()
        if reply.delay > 0:
            await asyncio.sleep(reply.delay)
        yield comment + event, 1
    if due:
        yield b"".join(due), len(due)
    if reply.hold is not None and (fault_at is not None or closing):
        await (
            reply.hold._pass()
        )  # the end is a step of its own, so that a test can look at the whole text streaming
    if fault_at is None:
        yield closing, 0
    elif reply.fault == "stall":
        await asyncio.Event().wait()
    elif reply.fault == "keepalive":
        while True:
            yield comment, 0
            await asyncio.sleep(0.05)
    elif reply.fault == "malformed":
        yield _chunk(b'data: {"choices": [{"delta": {"content": "half\n\n') + b"0\r\n\r\n", 0
    elif reply.fault == "error_event":
        error = {"message": reply.message or "The server had an error.", "type": "server_error", "code": None}
        yield _chunk(b"data: " + json.dumps({"error": error}).encode() + b"\n\n") + b"0\r\n\r\n", 0


def _events(reply: Reply, request: Request) -> tuple[bytes, list[bytes], bytes]:
    """Opening, one entry per chunk, closing: each already framed for a chunked response."""
    frame = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 0, "model": _model(request)}

    def event(delta: Mapping[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return _chunk(b"data: " + json.dumps({**frame, "choices": choices, **more}).encode() + b"\n\n")

    body = [event({"reasoning_content": part}) for part in words(reply.reasoning)]
    body += [event({"content": part}) for part in _content(reply)]
    for index, call in enumerate(_tool_calls(reply)):
        first = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        body.append(event({"tool_calls": [first]}))
        arguments = call["function"]["arguments"]
        for start in range(0, len(arguments), 8):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 8]}}
            body.append(event({"tool_calls": [piece]}))
    closing = b""
    finish = _finish(reply)
    if finish is not None:
        closing += event({}, finish)
    if reply.usage is not None or (request.body.get("stream_options") or {}).get("include_usage"):
        closing += event(None, usage=_usage(reply))
    closing += (_chunk(b"data: [DONE]\n\n") if finish is not None else b"") + b"0\r\n\r\n"
    return event({"role": "assistant", "content": ""}), body, closing


def _completion(reply: Reply, request: Request) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(_content(reply)) or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
    head = {"id": "chatcmpl-test", "object": "chat.completion", "created": 0, "model": _model(request)}
    return {**head, "choices": [choice], "usage": _usage(reply)}


def _content(reply: Reply) -> Sequence[str]:
    return words(reply.text) if reply.chunks is None else reply.chunks


def _tool_calls(reply: Reply) -> list[dict[str, Any]]:
    calls = []
    for index, call in enumerate(reply.tool_calls):
        given = call.get("arguments", {})
        arguments = given if isinstance(given, str) else json.dumps(given)
        function = {"name": call["name"], "arguments": arguments}
        calls.append({"id": call.get("id", f"call_{index}"), "type": "function", "function": function})
    return calls


def _finish(reply: Reply) -> str | None:
    return "tool_calls" if reply.tool_calls and reply.finish_reason == "stop" else reply.finish_reason


def _usage(reply: Reply) -> Mapping[str, Any]:
    count = len(_content(reply))
    return reply.usage or {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}


def _model(request: Request) -> str:
    return str(request.body.get("model", "test-model"))


def _error_body(reply: Reply, request: Request, key: str) -> bytes:
    kind, code, text = _ERRORS.get(reply.status, ("server_error", None, "The server had an error."))
    message = reply.message or text.format(key=key, model=_model(request))
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


async def _read_request(reader: asyncio.StreamReader, early: bytes) -> Request | None:
    try:
        head = early + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target.split("?", 1)[0], headers, json.loads(body) if body else {})


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> None:
    writer.write(_head(status, content_type, {"Content-Length": str(len(body)), **(headers or {})}) + body)
    await writer.drain()


def _head(status: int, content_type: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def main() -> None:
    parser = argparse.ArgumentParser(description="A local model server for tests and benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each chunk")
    parser.add_argument("--tokens", type=int, help="answer with so many words instead of an echo")
    options = parser.parse_args()

    def answer(request: Request) -> Reply:
        if options.tokens is None:
            return Reply(echo(request).text, delay=options.delay)
        return Reply(chunks=[f"word{index} " for index in range(options.tokens)], delay=options.delay)

    with ModelServer(port=options.port, answer=answer) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
