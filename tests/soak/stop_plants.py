"""What a server is started with when it is to be stopped: tools that last, and bugs.

All of it runs in the server's process (`plants.sow`), before the extension is loaded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from webchat_widget.tools.decorator import tool

__all__ = [
    "TOOLS",
    "deaf_tools",
    "ground",
    "late_delta",
    "open_connection",
    "open_tool",
    "queue_ignored",
    "unsaved_end",
]

_HELD: set[asyncio.Task[None]] = set()


# -- what they all stand on -----------------------------------------------------------------------------


@tool(approval="never")
def linger(mark: str) -> Iterator[str]:
    """Work until told to end, step by step."""
    Path(f"{mark}.begun").touch()
    try:
        while True:
            print("still at it")
            yield "at work"
            time.sleep(0.01)
    finally:
        Path(f"{mark}.ended").touch()


@tool(approval="never")
async def await_long(mark: str) -> None:
    """Wait until told to end."""
    Path(f"{mark}.begun").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(f"{mark}.ended").touch()


@tool(approval="never")
def deaf(mark: str) -> str:
    """Work on, whoever says what, and speak when nobody listens any more."""
    Path(f"{mark}.begun").touch()
    for _ in range(30):
        print("la la la")
        time.sleep(0.01)
    Path(f"{mark}.ended").touch()
    return "done at last"


@tool(approval="ask")
def guarded(mark: str) -> str:
    """What nobody ever allows here."""
    Path(f"{mark}.begun").touch()
    return "done without a yes"


TOOLS: Mapping[str, Callable[..., Any]] = {
    "linger": linger,
    "await_long": await_long,
    "deaf": deaf,
    "guarded": guarded,
}


def ground() -> None:
    """These tools, and a disk that takes up to 20 ms for a write."""
    from jupyter_server_webchat import app
    from webchat_widget.timeline.sqlite import statements
    from webchat_widget.tools.function import function_tool
    from webchat_widget.tools.registry import Tool, ToolRegistry

    tools: list[Tool] = [function_tool(fn) for fn in TOOLS.values()]
    app.ToolRegistry = lambda own: ToolRegistry([*own, *tools])  # type: ignore[assignment, misc]
    write = statements.write

    def slowly(*args: Any) -> None:
        time.sleep(random.uniform(0, 0.02))
        write(*args)

    statements.write = slowly


# -- the bugs -------------------------------------------------------------------------------------------


def late_delta() -> None:
    """A piece of text comes after the end of its run."""
    from webchat_widget.events import TextDelta
    from webchat_widget.runtime.conversation import Conversation
    from webchat_widget.runtime.run import Run

    run_to_its_end = Conversation._run

    async def run(self: Conversation, run: Run) -> None:
        await run_to_its_end(self, run)
        id = f"{run.id}:text:1"
        if self.stream.timeline.row(id) is not None:
            asyncio.get_running_loop().call_later(0.1, self.stream.delta, TextDelta(id, "assistant", "late"))

    Conversation._run = run  # type: ignore[method-assign]


def open_connection() -> None:
    """The model's answer is read on, although nobody wants the rest."""
    from webchat_widget.engines.openai import OpenAIEngine

    stream = OpenAIEngine.stream

    async def beside(self: OpenAIEngine, turn: Any) -> AsyncIterator[Any]:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def read() -> None:
            try:
                async for event in stream(self, turn):
                    heard.put_nowait(event)
            except Exception as error:
                heard.put_nowait(error)
            heard.put_nowait(None)

        _HELD.add(asyncio.create_task(read()))
        while (event := await heard.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    OpenAIEngine.stream = beside  # type: ignore[method-assign]


def unsaved_end() -> None:
    """A run has ended before its end is on a disk that is slower still."""
    from webchat_widget.runtime.coordinator import StreamCoordinator
    from webchat_widget.timeline.sqlite import statements

    emit, write = StreamCoordinator.emit, statements.write

    def hasty(self: StreamCoordinator, *events: Any, **parts: Any) -> Awaitable[None]:
        saved = emit(self, *events, **parts)
        if "ended" not in parts:
            return saved
        at_once: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at_once.set_result(None)
        return at_once

    def slowly(*args: Any) -> None:
        time.sleep(0.1)
        write(*args)

    StreamCoordinator.emit = hasty  # type: ignore[method-assign]
    statements.write = slowly


def queue_ignored() -> None:
    """A prompt that was taken out of the queue runs nevertheless."""
    from webchat_widget.runtime.conversation import Conversation

    stop = Conversation.stop

    async def forgetful(self: Conversation, run_id: str | None) -> None:
        waiting = [run for run in self._queue if run.id == run_id]
        await stop(self, run_id)
        for run in waiting:
            run.dropped = False
        self._queue.extend(waiting)

    Conversation.stop = forgetful  # type: ignore[method-assign]


def open_tool() -> None:
    """The rows of calls that ran are left as they are."""
    from webchat_widget.tools.calls import Calls

    nothing: Callable[..., list[Any]] = lambda self: []  # noqa: E731
    Calls.close = nothing  # type: ignore[method-assign]


def deaf_tools() -> None:
    """A tool on its thread is never told that nobody waits for it."""
    from webchat_widget.tools.function import _Attempt

    deaf: Callable[..., None] = lambda self: None  # noqa: E731
    _Attempt.cancel = deaf  # type: ignore[method-assign]
