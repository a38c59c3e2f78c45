"""The kernel as a host: the runtime on a loop and a thread of its own, live while a cell runs.

A task in the kernel's own loop would stand still while a cell runs. What runs here sees none of the user's
context variables, installs no signal handlers, and writes nothing to the cells' output.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jupyter_core.paths import jupyter_data_dir

from webchat_widget.errors import ShuttingDown, WebChatError
from webchat_widget.timeline.files import FOLDER

__all__ = ["KernelHost", "kernel_host"]

_CLOSE_SECONDS = 3.0
"""Jupyter kills a kernel that has not ended 5 s after it was asked to."""

_T = TypeVar("_T")


class KernelHost:
    """A loop on a daemon thread, which starts with the first use. `folder` holds a file per conversation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = _logger()
        self._ends: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._context = contextvars.Context()
        self._closed = ""
        """Why nothing runs here any more, as a sentence."""

    def register(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a coroutine run when the host closes."""
        self._ends.append(end)

    # -- into the loop, from any thread ----------------------------------------------------------------

    def post(self, call: Callable[..., object], *arguments: Any) -> None:
        """Have `call` run on the loop soon. Never waits; nothing happens where the host has closed."""
        with contextlib.suppress(ShuttingDown):
            # The loop's own context, not the caller's: a copy of that would carry the running cell along.
            self._running().call_soon_threadsafe(call, *arguments, context=self._context.copy())

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Have a coroutine run on the loop. Raises ShuttingDown where the host has closed."""
        try:
            loop = self._running()
        except ShuttingDown:
            work.close()
            raise
        return self._context.copy().run(asyncio.run_coroutine_threadsafe, work, loop)

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop and wait for it, from any thread but the loop's own."""
        try:
            self.check_thread()
        except WebChatError:
            work.close()
            raise
        return self.submit(work).result()

    def check_thread(self) -> None:
        """Raise WebChatError on the loop's own thread, where a call would wait for itself."""
        if threading.current_thread() is self._thread:
            raise WebChatError(
                "This would wait for itself: an engine's own code can't use the chat that it answers in.",
                code="would_deadlock",
            )

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._closed:
                raise ShuttingDown(self._closed)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._context.run(_belong_to_no_cell)
                self._thread = threading.Thread(
                    target=self._context.copy().run,
                    args=(_serve, self._loop),
                    name="webchat-host",
                    daemon=True,
                )
                self._thread.start()
                atexit.register(self.close)
            return self._loop

    def close(self) -> None:
        """End runs as interrupted, store everything, and stop the thread: within 3 s."""
        with self._starting:
            self._closed = "This kernel is shutting down."
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        atexit.unregister(self.close)
        ended = asyncio.run_coroutine_threadsafe(self._close(), loop)
        with contextlib.suppress(TimeoutError):
            ended.result(_CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(1)

    def stay_behind(self) -> None:
        """This process is a fork of the one that the host lives in, whose thread and files stay there."""
        self._starting = threading.Lock()  # somebody may have held it when the process was forked
        self._closed = (
            "This process was forked from the one in which the chat runs, and can't use it: return to that "
            "one what you want to say."
        )
        self._loop = self._thread = None
        atexit.unregister(self.close)

    async def _close(self) -> None:
        await asyncio.gather(*(end() for end in self._ends), return_exceptions=True)


@cache
def kernel_host() -> KernelHost:
    """This process's host."""
    host = KernelHost(Path(jupyter_data_dir(), *FOLDER))
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(after_in_child=host.stay_behind)
    return host


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: run the loop until it is stopped, then end what is left in it."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        while True:
            try:
                return runner.get_loop().run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # of a strange engine: it ends the task that raised it, and no other


def _belong_to_no_cell() -> None:
    """What this context publishes answers no cell.

    ipykernel 7.4 sends a page's next message on a comm to the shell that published last on it. For a thread
    of ours that would be the main one, and the page would wait for the running cell. The variable is private,
    so a kernel without it is left as it is.
    """
    kernelbase = sys.modules.get("ipykernel.kernelbase")
    with contextlib.suppress(AttributeError):
        if kernelbase is not None and kernelbase.Kernel.initialized():
            kernelbase.Kernel.instance()._shell_parent.set({})


def _logger() -> logging.Logger:
    """The kernel's own log, which goes to Jupyter's terminal: our faults are no output of a cell."""
    kernelbase = sys.modules.get("ipykernel.kernelbase")
    if kernelbase is not None and kernelbase.Kernel.initialized():
        log: logging.Logger = kernelbase.Kernel.instance().log
        return log
    return logging.getLogger("webchat_widget")
