"""The kernel's main thread as a place for tools: there live the user's objects, and libraries that draw.

A call begins when that thread is idle, which the kernel's own loop tells, or while `serve` holds it, which is
what waits for an answer do. While a cell runs something else, it waits.

A call that is cancelled while it runs is interrupted as a cell is, by SIGINT: nothing else gets Python out of
a `sleep` or a loop. The signal must never hit the user's own code, so for the time of a call the handler is
ours, and it is given back only when no signal of ours is on its way any more.

A signal may get lost: while `os.system` runs, libc has the process ignore it. So it is sent again until it
was heard, and a second one that comes after all is for nobody.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import cache, partial
from typing import Any, Generic, TypeVar

__all__ = ["MainThread", "main_thread", "pause"]

_IDLE_SECONDS = 0.1
"""An idle thread begins sooner; what takes longer is told as waiting."""
_SIGNAL_SECONDS = 1.0
"""A signal takes microseconds to arrive, unless a tool put a handler of its own in the place of ours."""

_AGAIN_SECONDS = 0.2
"""A signal that nobody has heard by then is sent again."""

_T = TypeVar("_T")


class _Call(Generic[_T]):
    """A call on its way: waiting, running, over. The loop of its caller hears when it begins and ends."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self.loop = asyncio.get_running_loop()
        self._work = work
        self._context = copy_context()
        self.begun: asyncio.Future[None] = self.loop.create_future()
        self.ended: asyncio.Future[_T] = self.loop.create_future()
        self.state = "waiting"
        self.cancelled = False
        self.interruptible = False
        """Whether a KeyboardInterrupt would be raised in the caller's work, and not in what is around it."""

    def begin(self) -> None:
        """It runs as of now."""
        self.state = "running"
        self._tell(self.begun, self.begun.set_result, None)

    def run(self) -> None:
        """Do the work; whatever comes of it is for the caller."""
        settle: Callable[[Any], None]
        outcome: object
        try:
            try:
                self.interruptible = True
                if self.cancelled:  # the signal came just before
                    raise KeyboardInterrupt
                settle, outcome = self.ended.set_result, self._context.run(self._work)
            finally:
                self.interruptible = False
        except BaseException as error:
            self.interruptible = False  # the interrupt may have come between the two lines above
            settle, outcome = self.ended.set_exception, _harmless(error)
        self._tell(self.ended, settle, outcome)

    def _tell(self, future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: object) -> None:
        def tell() -> None:
            if not future.done():
                settle(outcome)

        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self.loop.call_soon_threadsafe(tell)


class MainThread:
    """`when_idle` has a function called on the thread as soon as that has nothing else to do."""

    def __init__(self, when_idle: Callable[[Callable[[], None]], object]) -> None:
        self._when_idle = when_idle
        self._waiting: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._stack: list[_Call[Any]] = []
        """The calls that run: a tool that waits for an answer may serve the next."""
        self._lock = threading.Lock()
        """Between the end of a call and its cancel on another thread."""
        self._signalled = False
        """Whether a signal of ours is on its way."""
        self._repeated = False
        """Whether one of ours may come that has been heard already."""
        self._missed = False
        """Whether somebody else's came while a call began or ended."""

    async def run(self, work: Callable[[], _T], status: Callable[[str], None] = lambda _: None) -> _T:
        """What `work` returns or raises; `status` hears `waiting` where it begins late, then `running`.

        Cancelled, one that runs gets a KeyboardInterrupt, and nobody waits for what it makes of that; one
        that waits never runs. What would end more than the call is raised as a RuntimeError.
        """
        call = _Call(work)
        self._waiting.put(call)
        self._when_idle(partial(self._turn, call))
        try:
            begun, _ = await asyncio.wait((call.begun,), timeout=_IDLE_SECONDS)
            if not begun:
                status("waiting")
                await call.begun
                status("running")
            return await call.ended
        except asyncio.CancelledError:
            self._cancel(call)
            raise

    def serve(self, seconds: float) -> None:
        """On the main thread: run the next call that comes within so many seconds, instead of sleeping."""
        try:
            self._run(self._waiting.get(timeout=seconds))
        except queue.Empty:
            return

    def _turn(self, call: _Call[Any]) -> None:
        """The thread is idle: a turn for each call that was put in, so that the queue gets empty."""
        with contextlib.suppress(queue.Empty):
            self._run(self._waiting.get_nowait())
        self._run(call)  # where an interrupt of `serve` has lost it

    def _run(self, call: _Call[Any]) -> None:
        if threading.current_thread() is not threading.main_thread():  # there are no signals elsewhere
            if self._begin(call):
                call.run()
            return
        former = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._interrupt)
        # From here on nothing is raised but in the work.
        if self._begin(call):
            call.run()
            self._end(call)
        missed, self._missed = self._missed, False
        signal.signal(signal.SIGINT, signal.SIG_DFL if former is None else former)
        if any(outer.cancelled for outer in self._stack):
            raise KeyboardInterrupt  # in the work of that one
        if missed and callable(former):
            former(signal.SIGINT, None)

    def _begin(self, call: _Call[Any]) -> bool:
        with self._lock:
            if call.state != "waiting":
                return False
            self._stack.append(call)
            call.begin()
            return True

    def _end(self, call: _Call[Any]) -> None:
        with self._lock:
            call.state = "over"
        patience = time.monotonic() + _SIGNAL_SECONDS
        while self._signalled and time.monotonic() < patience:
            time.sleep(0.0005)
        if self._repeated:
            time.sleep(0.0005)  # a signal that is sent arrives before this ends
        self._signalled = self._repeated = False
        self._stack.remove(call)

    def _cancel(self, call: _Call[Any]) -> None:
        with self._lock:
            if call.state == "running":
                call.cancelled = True
                if not self._signalled:
                    self._signalled = True
                    _signal_main_thread()
                call.loop.call_later(_AGAIN_SECONDS, self._signal_again, call)
            else:
                call.state = "over"
        call.ended.cancel()

    def _signal_again(self, call: _Call[Any]) -> None:
        with self._lock:
            heard = not self._signalled or signal.getsignal(signal.SIGINT) != self._interrupt
            if call.state != "running" or heard:
                return
            self._repeated = True
            _signal_main_thread()
        call.loop.call_later(_AGAIN_SECONDS, self._signal_again, call)

    def _interrupt(self, signum: int, frame: Any) -> None:
        """SIGINT while a call runs: ours, or that of a person who interrupts the kernel."""
        ours, self._signalled = self._signalled, False
        if not ours and self._repeated:
            self._repeated = False
            return
        if not ours:
            self._missed = True  # the cell around the call is to hear of it too
        if self._stack and self._stack[-1].interruptible:
            raise KeyboardInterrupt


def _signal_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Windows: heard with the next line of Python, a `sleep` is slept to its end
        _thread.interrupt_main(signal.SIGINT)


def _harmless(error: BaseException) -> Exception:
    """What a future carries, and what ends no more than the call."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def main_thread() -> MainThread | None:
    """This kernel's; None where this process is no Jupyter kernel, whose loop would tell when it is idle."""
    kernelbase = sys.modules.get("ipykernel.kernelbase")
    if kernelbase is None or not kernelbase.Kernel.initialized():
        return None
    return _of(kernelbase.Kernel.instance().io_loop)


@cache
def _of(io_loop: Any) -> MainThread:
    return MainThread(io_loop.add_callback)


def pause(seconds: float) -> None:
    """Sleep; on a kernel's main thread, let tools run meanwhile."""
    main = main_thread()
    if main is None or threading.current_thread() is not threading.main_thread():
        time.sleep(seconds)
    else:
        main.serve(seconds)
