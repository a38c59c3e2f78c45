"""Tools of a notebook's kernel, for conversations that run on this server.

A call is one exchange over a control channel of its own with webchat_widget.notebook.toolbox in the kernel,
where its words are explained. That end hears us while a cell runs, decides when a call begins, and takes back
one that has not begun; so nothing is sent twice. This end waits, and looks every half second whether the
process that it waits for is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
from jupyter_client.session import Session
from jupyter_server.utils import ensure_async
from msgspec import Struct

from webchat_widget.errors import NotFound, WebChatError
from webchat_widget.tools.loop import CALLING_RUN
from webchat_widget.tools.output import Output
from webchat_widget.tools.own_events import BadEvent, own_row
from webchat_widget.tools.registry import BadArguments, Report, ToolCancelled, ToolRegistry
from webchat_widget.turns import ToolSchema
from webchat_widget.typing import JSONObject

from .registration import Offered, Registration

__all__ = ["MESSAGE", "KernelTool", "KernelUnreachable", "kernel_gone", "kernel_tools"]

MESSAGE = "webchat_tool"
_PROTOCOL = 1
"""Both as in webchat_widget.notebook.toolbox: the hosts do not know each other."""

_PULSE_SECONDS = 0.5
_ASK_SECONDS = 3.0
"""For so long a kernel may think about whether to ask; then a person is asked."""
_SILENCE_SECONDS = 5.0
"""An idle kernel that has not even taken a call by then will not."""
_KEEP_SECONDS = 3.0
"""Between two words that a call which waits is still wanted."""
_END_SECONDS = 1.0
"""For so long a call that was cancelled is waited for."""
_AGAIN = "Run the cell that makes the chat again."

_ASKED: ContextVar[str | None] = ContextVar("webchat_asked_version", default=None)
"""Which version of its function was asked for in this call: `asks` and `call` are awaited by one task."""


class KernelUnreachable(WebChatError):
    """A call that a kernel did not take, or that ended with the kernel."""

    code = "kernel_unreachable"
    status = 503


class _Progress(Struct):
    value: float | None
    text: str


class _Event(Struct):
    kind: str
    id: str
    props: JSONObject


class _Failure(Struct):
    kind: str
    message: str
    name: str = "Exception"
    traceback: str = ""


class _Said(Struct):
    """A reply of the kernel's end."""

    taken: bool = False
    asks: bool | None = None
    version: str | None = None
    stdout: str = ""
    progress: _Progress | None = None
    status: str | None = None
    events: tuple[_Event, ...] = ()
    output: Output | None = None
    error: _Failure | None = None


def kernel_tools(kernels: Any, conv_id: str, registration: Registration) -> ToolRegistry:
    """The tools that a kernel offers to a conversation. Raises NotFound where there is no such kernel."""
    kernel = _Kernel(kernels, registration.kernel_id)
    return ToolRegistry(KernelTool(kernel, conv_id, offered) for offered in registration.tools)


def kernel_gone(kernels: Any, kernel_id: str) -> Callable[[], bool]:
    """Whether the kernel that there is now has gone for good. Raises NotFound where there is none."""
    kernel = _Kernel(kernels, kernel_id)
    return lambda: kernel.lost


class KernelTool:
    """A `Tool` that is a function in a kernel."""

    def __init__(self, kernel: _Kernel, conv_id: str, offered: Offered) -> None:
        self.name = offered.name
        self.schema = ToolSchema(offered.name, offered.description, offered.parameters)
        self._kernel = kernel
        self._conv_id = conv_id
        self.approval = offered.approval

    @property
    def lost(self) -> bool:
        """Whether its kernel is gone for good: the notebook may have brought another in its place."""
        return self._kernel.lost

    async def asks(self, arguments: JSONObject) -> bool:
        """Whether a person must say yes; the kernel looks at the arguments first. In doubt: yes.

        Raises BadArguments, and KernelUnreachable where the kernel's process goes meanwhile.
        """
        if self._kernel.lost:
            return False  # there is nothing to allow: the call will say so
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                with self._kernel.exchange("asks", **self._request(arguments)) as exchange:
                    said = await exchange.hear()
        except TimeoutError:
            return self.approval != "never"
        if said.error is not None and said.error.kind == "arguments":
            raise BadArguments(said.error.message)
        _ASKED.set(said.version)
        return self.approval != "never" if said.asks is None else said.asks

    async def call(self, arguments: JSONObject, report: Report) -> Output:
        """`Tool.call`; also raises KernelUnreachable."""
        request = {**self._request(arguments), "run_id": CALLING_RUN.get(), "version": _ASKED.get()}
        with self._kernel.exchange("call", **request) as exchange:
            try:
                while True:
                    said = await exchange.hear(lambda: report.status("waiting"))
                    if said.status is not None:
                        report.status(said.status)
                    if said.stdout:
                        report.stdout(said.stdout)
                    if said.progress is not None:
                        report.progress(said.progress.value, said.progress.text)
                    for event in said.events:
                        with contextlib.suppress(BadEvent):  # of a kernel whose version has other rules
                            report.event(own_row(event.kind, event.id, event.props))
                    if said.error is not None:
                        raise self._kernel.leaving(self.name) or _raised(self.name, said.error)
                    if said.output is not None:
                        return said.output
            except asyncio.CancelledError:
                await exchange.cancel()
                raise

    def _request(self, arguments: JSONObject) -> JSONObject:
        return {"conv_id": self._conv_id, "name": self.name, "arguments": arguments}


class _Kernel:
    """The process in which a kernel lived when its tools were registered. Another process of the same kernel,
    after a restart, knows nothing of them."""

    def __init__(self, kernels: Any, kernel_id: str) -> None:
        if kernel_id not in kernels:
            raise NotFound(
                "There is no such kernel on this server.", code="unknown_kernel", field="kernel_id"
            )
        self._kernels = kernels
        self._id = kernel_id
        self._manager = kernels.get_kernel(kernel_id)
        self._process = self._pid()
        self._lost = False

    @property
    def busy(self) -> bool:
        """Whether it runs a cell."""
        return getattr(self._manager, "execution_state", "idle") == "busy"

    @contextlib.contextmanager
    def exchange(self, op: str, **request: Any) -> Iterator[_Exchange]:
        """Send a request for a tool over a channel of its own. Raises KernelUnreachable."""
        if self.lost:
            raise self._gone(f"before {request['name']} could run")
        session = Session(config=self._manager.session.config, key=self._manager.session.key)
        stream = self._manager.connect_control(identity=session.bsession)
        try:
            exchange = _Exchange(self, session, stream, request["name"])
            exchange.send(op, **request)
            yield exchange
        finally:
            stream.stop_on_recv()
            stream.flush()  # a cancel may be on its way
            # After what the stream itself has put into the loop, or it would log about itself.
            asyncio.get_running_loop().call_soon(stream.close, 1000)

    async def check(self, meanwhile: str) -> None:
        """Raise KernelUnreachable where the process is not there any more."""
        if self.lost or not await ensure_async(self._manager.is_alive()):
            raise self._gone(meanwhile)
        self._manager.last_activity = datetime.now(UTC)  # what works for a chat is not culled as idle

    def leaving(self, name: str) -> KernelUnreachable | None:
        """What ends a call that Jupyter interrupts because it shuts the kernel down, or starts it again."""
        return self._gone(f"while {name} was running") if self._manager.shutting_down else None

    @property
    def lost(self) -> bool:
        """Whether another process, or none, has taken the place of this one; for good."""
        there = self._id in self._kernels and self._kernels.get_kernel(self._id) is self._manager
        self._lost = self._lost or not there or self._pid() != self._process
        return self._lost

    def _gone(self, meanwhile: str) -> KernelUnreachable:
        return KernelUnreachable(
            f"The kernel of this notebook was restarted or shut down, or has died, {meanwhile}. {_AGAIN}"
        )

    def _pid(self) -> int | None:
        return getattr(self._manager.provisioner, "pid", None)


class _Exchange:
    """A request and the replies to it."""

    def __init__(self, kernel: _Kernel, session: Session, stream: Any, name: str) -> None:
        self._kernel = kernel
        self._session = session
        self._stream = stream
        self._name = name
        self._call = uuid.uuid4().hex
        self._replies: asyncio.Queue[_Said] = asyncio.Queue()
        self._taken = self._waits = False
        self._clock = asyncio.get_running_loop().time
        self._began = self._kept = self._clock()
        stream.on_recv(self._received)

    def send(self, op: str, **request: Any) -> None:
        """Say something about the call."""
        content = {"protocol": _PROTOCOL, "call": self._call, "op": op, **request}
        self._session.send(self._stream, MESSAGE, content)

    async def hear(self, silent: Callable[[], None] = lambda: None) -> _Said:
        """The next reply; `silent` is called while a busy kernel says nothing. Raises KernelUnreachable
        where no reply will come."""
        while True:
            try:
                async with asyncio.timeout(_PULSE_SECONDS):
                    said = await self._replies.get()
            except TimeoutError:
                await self._look(silent)
                continue
            self._taken = True
            if said.status is not None:
                self._waits = said.status == "waiting"
            return said

    async def cancel(self) -> None:
        """Take the call back, or have it interrupted. Waits a moment for the kernel to say that it is so."""
        self.send("cancel")
        with contextlib.suppress(TimeoutError, KernelUnreachable):
            async with asyncio.timeout(_END_SECONDS):
                while not (said := await self.hear()).error and said.output is None:
                    pass

    async def _look(self, silent: Callable[[], None]) -> None:
        meanwhile = "while {} was running" if self._taken else "before {} could run"
        await self._kernel.check(meanwhile.format(self._name))
        now = self._clock()
        if not self._taken and self._kernel.busy:  # with something that lets no other thread run
            silent()
        elif not self._taken and now - self._began > _SILENCE_SECONDS:
            raise KernelUnreachable(f"The kernel of this notebook does not answer to {self._name}. {_AGAIN}")
        if self._waits and now - self._kept > _KEEP_SECONDS:
            self._kept = now
            self.send("keep")

    def _received(self, parts: list[bytes]) -> None:
        try:
            message = self._session.deserialize(self._session.feed_identities(parts)[1])
            said = msgspec.convert(message["content"], _Said)
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
            said = _Said(error=_Failure("protocol", ""))
        else:
            if message["msg_type"] != MESSAGE:
                return
        self._replies.put_nowait(said)


def _raised(name: str, failure: _Failure) -> Exception:
    """What a call raises here for what it raised there."""
    match failure.kind:
        case "arguments":
            return BadArguments(failure.message)
        case "cancelled":
            return ToolCancelled(failure.message)
        case "raised":
            # An exception is shown by the name of its type; the traceback is for the log.
            error: Exception = type(failure.name, (Exception,), {})(failure.message)
            error.add_note(failure.traceback)
            return error
        case "unknown":
            return KernelUnreachable(f"This notebook does not offer {name} any more. {_AGAIN}")
        case "changed":
            return KernelUnreachable(f"The function {name} has changed since you were asked. Ask again.")
        case "late":
            return KernelUnreachable(f"The kernel of this notebook was too busy to run {name}. Try again.")
    return KernelUnreachable(
        f"{name} can't be called: the kernel of this notebook and the Jupyter server have different versions "
        "of webchat-widget. Restart both."
    )
