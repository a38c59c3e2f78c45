"""The kernel's end of tool calls that a chat on the Jupyter server makes.

They come on the control channel, which ipykernel reads on a thread of its own, and run as they would if the
chat ran here: on the main thread, or beside it where the tool says so. So a call is heard while a cell runs
(the cell may be `run.wait()`, which serves the main thread's calls), one that waits can be taken back, and
ipykernel 6, which has no subshells, is as good as 7. An `execute_request` would wait for the cell; in a
subshell it would take `input()` away from it.

A request is a message `webchat_tool` {protocol, call, op, …}, with the ops

- `asks` {conv_id, name, arguments} → `asks`: bool, `version` of the function
- `call` {conv_id, name, arguments, run_id, version?} → `taken`, then any number of {stdout?, progress?,
  status?, events? [{kind, id, props}]}, then `output` {text, mime}
- `keep`: a call that waits for the main thread is still wanted
- `cancel`: it is not

A reply is a `webchat_tool` on the same channel with the same `call`; where a request fails it holds `error`
{kind, message, name?, traceback?}, of kind `raised`, `arguments`, `cancelled`, `unknown`, `changed`
(the function has another version than the one that was asked for), `late` or `protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

from webchat_widget.errors import WebChatError
from webchat_widget.sem.text import clean
from webchat_widget.tools.loop import CALLING_RUN
from webchat_widget.tools.output import Output, bounded
from webchat_widget.tools.own_events import MAX_BYTES, OwnRow
from webchat_widget.tools.registry import BadArguments, Tool, ToolCancelled, ToolRegistry
from webchat_widget.tools.row_queue import MAX_ROWS, MAX_SIZE, RowQueue
from webchat_widget.typing import JSONObject

from .host import KernelHost, kernel_host

__all__ = ["MESSAGE", "PROTOCOL", "Toolbox", "kernel_toolbox", "offer"]

MESSAGE = "webchat_tool"
PROTOCOL = 1
"""Both as in jupyter_server_webchat.kernel_tools: the hosts do not know each other."""

_LEASE_SECONDS = 15.0
"""For so long a call waits for the main thread without a word from the server, which may have died."""
_PACE_SECONDS = 0.05
"""Between two messages with what a call reports."""
_CHARS = 200_000
"""Of a call's printed text, and of its result's: more than a run keeps."""
_TRACE_CHARS = 10_000
_END_SECONDS = 1.0
"""For so long a call that is cancelled may take to be taken back, or interrupted."""

Say = Callable[[JSONObject], None]
"""Sends a reply; on any thread."""


def offer(conv_id: str, tools: ToolRegistry) -> None:
    """Let the server call these tools for this conversation, in place of those that were offered before.

    Raises WebChatError in a kernel that can't be called so.
    """
    kernel_toolbox().offer(conv_id, tools)


@cache
def kernel_toolbox() -> Toolbox:
    """This process's toolbox."""
    return Toolbox(kernel_host())


class Toolbox:
    """The tools that this kernel offers, by conversation, and the calls that are under way."""

    def __init__(self, host: KernelHost) -> None:
        self._host = host
        self._offered: dict[str, ToolRegistry] = {}
        self._calls: dict[str, _Call] = {}

    def offer(self, conv_id: str, tools: ToolRegistry) -> None:
        """See `offer`."""
        self._listen()
        self._offered[conv_id] = tools

    def _listen(self) -> None:
        kernelbase = sys.modules.get("ipykernel.kernelbase")
        if kernelbase is None or not kernelbase.Kernel.initialized():
            raise WebChatError(
                "Functions of this process can't be called from the Jupyter server: it is no ipykernel.",
                code="no_ipykernel",
            )
        kernelbase.Kernel.instance().control_handlers[MESSAGE] = self._heard

    def _heard(self, stream: Any, ident: Any, message: JSONObject) -> None:
        """A request, on the control thread; it is answered on that thread's loop, in order."""
        loop = asyncio.get_running_loop()
        send = sys.modules["ipykernel.kernelbase"].Kernel.instance().session.send
        request: JSONObject = message["content"]
        call = str(request.get("call"))

        def say(content: JSONObject) -> None:
            with contextlib.suppress(RuntimeError):  # the kernel ends
                loop.call_soon_threadsafe(
                    lambda: send(stream, MESSAGE, {**content, "call": call}, parent=message, ident=ident)
                )

        self._host.post(self.take, request, say)

    def take(self, request: JSONObject, say: Say) -> None:
        """A request, on the host's loop."""
        match request:
            case {"protocol": int(spoken)} if spoken != PROTOCOL:
                say(_error("protocol", "The kernel has another version of webchat-widget than the server."))
            case {"op": "asks" | "call" as op, "call": str(id), "conv_id": str(conv_id), "name": str(name)}:
                tool = self._offered.get(conv_id, ToolRegistry()).get(name)
                self._calls[id] = _Call(op, request, tool, say, self._host)
                self._calls[id].task.add_done_callback(lambda _: self._calls.pop(id, None))
            case {"op": "keep", "call": str(id)} if id in self._calls:
                self._calls[id].keep()
            case {"op": "cancel", "call": str(id)} if id in self._calls:
                self._calls[id].cancel()


class _Call:
    """A request for a tool, from its arrival to its last word."""

    def __init__(self, op: str, request: JSONObject, tool: Tool | None, say: Say, host: KernelHost) -> None:
        self._name = request["name"]
        self._arguments: JSONObject = request.get("arguments") or {}
        self._run_id = str(request.get("run_id") or "")
        self._version = request.get("version")
        self._tool = tool
        self._say = say
        self._host = host
        self.keep()
        self.task = asyncio.create_task(self._asks() if op == "asks" else self._run())

    def keep(self) -> None:
        """It is still wanted."""
        self._wanted_until = time.monotonic() + _LEASE_SECONDS

    def cancel(self) -> None:
        """It is not."""
        self.task.cancel()

    async def _asks(self) -> None:
        try:
            tool = self._found()
            self._say({"asks": await tool.asks(self._arguments), "version": _version(tool)})
        except (Exception, asyncio.CancelledError) as error:
            self._say(_failure(error))

    async def _run(self) -> None:
        """Run the tool, and say how it ended. One that was cancelled says so when it can no more begin."""
        CALLING_RUN.set(self._run_id)
        reports = _Reports(self._say, self._host)
        work: asyncio.Task[Output] | None = None
        try:
            work = asyncio.create_task(self._asked_for().call(self._arguments, reports))
            self._say({"taken": True})
            while not (await asyncio.wait({work}, timeout=_LEASE_SECONDS / 5))[0]:
                if reports.waits and time.monotonic() > self._wanted_until:
                    raise _Refused("late", "The server did not say that it still waits for this call.")
            output = bounded(work.result(), _CHARS)
            reports.send()
            self._say({"output": {"text": output.text, "mime": output.mime}})
        except (Exception, asyncio.CancelledError) as error:
            if work is not None and not work.done():
                work.cancel()
                await asyncio.wait({work}, timeout=_END_SECONDS)
            reports.send()
            self._say(_failure(error))

    def _found(self) -> Tool:
        if self._tool is None:
            raise _Refused(
                "unknown", f"This kernel offers no tool {self._name[:100]!r} to this conversation."
            )
        return self._tool

    def _asked_for(self) -> Tool:
        """The tool, unless a cell that was run since has made another of it: a yes was not for that."""
        tool = self._found()
        if self._version not in (None, _version(tool)):
            raise _Refused("changed", f"The function {self._name} has changed since it was asked for.")
        return tool


class _Refused(Exception):
    """What this end has against a request."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Reports:
    """The `Report` of a call: sends what it is told a few times a second, and no more text than is kept."""

    def __init__(self, say: Say, host: KernelHost) -> None:
        self._say = say
        self._host = host
        self._lock = threading.Lock()
        self._printed: list[str] = []
        self._room = _CHARS
        self._rows = RowQueue(MAX_ROWS + 1, MAX_SIZE + MAX_BYTES)
        """More than a run keeps, so that the run can say so."""
        self._news: JSONObject = {}
        self._sends = False
        self._sent = 0.0
        self.waits = False
        """Whether the call waits for the main thread."""

    def progress(self, value: float | None, text: str = "") -> None:
        """See `Report`."""
        known = value is not None and math.isfinite(value)
        with self._lock:
            self._news["progress"] = {"value": value if known else None, "text": clean(text[:_CHARS])}
        self._wake()

    def status(self, status: str) -> None:
        """See `Report`."""
        self.waits = status == "waiting"
        with self._lock:
            self._news["status"] = status
        self._wake()

    def stdout(self, text: str) -> None:
        """See `Report`."""
        with self._lock:
            if self._room <= 0:
                return
            self._printed.append(text[: self._room])
            self._room -= len(text)
        self._wake()

    def event(self, row: OwnRow) -> None:
        """See `Report`."""
        with self._lock:
            self._rows.put(row)
        self._wake()

    def send(self) -> None:
        """Send what is new."""
        with self._lock:
            news, self._news = self._news, {}
            if self._printed:
                news["stdout"] = clean("".join(self._printed))
                self._printed = []
            if rows := self._rows.take():
                news["events"] = [{"kind": row.kind, "id": row.id, "props": row.props} for row in rows]
            self._sends = False
            self._sent = time.monotonic()
        if news:
            self._say(news)

    def _wake(self) -> None:
        with self._lock:
            if self._sends:
                return
            self._sends = True
            pause = max(0.0, self._sent + _PACE_SECONDS - time.monotonic())
        self._host.post(lambda: asyncio.get_running_loop().call_later(pause, self.send))


def _version(tool: Tool) -> str | None:
    return getattr(tool, "version", None)


def _failure(error: BaseException) -> JSONObject:
    match error:
        case _Refused():
            return _error(error.kind, str(error))
        case BadArguments():
            return _error("arguments", str(error))
        case ToolCancelled():
            return _error("cancelled", str(error))
        case asyncio.CancelledError():
            return _error("cancelled", "The call was cancelled.")
    try:
        message = str(error)
    except Exception:  # a stranger's exception may fail at anything
        message = ""
    trace = "".join(traceback.format_exception(error))
    return _error("raised", message, name=type(error).__name__, traceback=clean(trace[-_TRACE_CHARS:]))


def _error(kind: str, message: str, **more: str) -> JSONObject:
    return {"error": {"kind": kind, "message": clean(message[:_TRACE_CHARS]), **more}}
