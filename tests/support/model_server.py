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
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from tests.support import responses_protocol
from tests.support.gate import Gate
from tests.support.openai_protocol import Reply, Request, chunk, completion, error_body, events, words

__all__ = ["Disconnect", "Gate", "ModelServer", "Reply", "Request", "words"]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many",
}
_ANSWERED = ("/chat/completions", "/responses")
_BATCH = 64


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
        return [request for request in self.requests if request.path.endswith(_ANSWERED)]

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
        failures: list[BaseException] = []
        started = threading.Event()

        def main() -> None:
            try:
                asyncio.run(self._serve(started.set))
            except BaseException as error:  # carried to the thread that called start()
                failures.append(error)
                started.set()

        self._thread = threading.Thread(target=main, name="model-server", daemon=True)
        self._thread.start()
        started.wait()
        if failures:
            self._thread = None
            raise failures[0]
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
        if request.path.endswith(_ANSWERED):
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
            await _send(writer, reply.status, error_body(reply, request, key), headers=reply.headers)
            return b""
        if reply.fault == "dropped":
            writer.transport.abort()
            raise ConnectionAbortedError
        if reply.fault == "silent":
            await reader.read(1)
            raise ConnectionResetError
        if reply.fault == "html":
            page = b"<!doctype html><html><body><h1>Sign in to the proxy</h1></body></html>"
            await _send(writer, 200, page, content_type="text/html")
            return b""
        if not request.body.get("stream"):
            await _send(writer, 200, json.dumps(completion(reply, request)).encode(), headers=reply.headers)
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
    if reply.raw is not None:
        yield chunk(reply.raw) + b"0\r\n\r\n", 1
        return
    is_chat = request.path.endswith("/chat/completions")
    opening, body, closing = (events if is_chat else responses_protocol.events)(reply, request)
    fault_at: int | None = None
    if reply.fault in ("cut", "stall", "malformed", "error_event", "bad_utf8"):
        fault_at = len(body) // 2 if reply.after is None else reply.after
    elif reply.fault == "keepalive":
        fault_at = reply.after
    comment = chunk(b": keep-alive\n\n") if reply.fault == "keepalive" else b""
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
            await reply.hold.wait_open()
        if reply.delay > 0:
            await asyncio.sleep(reply.delay)
        yield comment + event, 1
    if due:
        yield b"".join(due), len(due)
    if reply.hold is not None and (fault_at is not None or closing):
        await (
            reply.hold.wait_open()
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
        yield chunk(b'data: {"choices": [{"delta": {"content": "half\n\n') + b"0\r\n\r\n", 0
    elif reply.fault == "bad_utf8":
        text = b'{"type": "response.output_text.delta", "delta": "\xff", "choices": [{"delta": "\xff"}]}'
        yield chunk(b"data: %s\n\n" % text) + b"0\r\n\r\n", 0
    elif reply.fault == "error_event":
        error = {
            "message": reply.message or "The server had an error.",
            "type": "server_error",
            "code": reply.code,
        }
        event = chunk(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
        yield (event if is_chat else responses_protocol.error_event(error)) + b"0\r\n\r\n", 0


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
    headers = {"Content-Type": content_type, **headers}
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


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
