"""A blocking call on a thread of its own, for a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["run_in_thread", "said_by"]

_T = TypeVar("_T")


async def run_in_thread(call: Callable[[], _T]) -> _T:
    """What `call` returns or raises; it runs on a new daemon thread, with the caller's context variables.

    `asyncio.to_thread` has a few threads for everybody, and Python does not exit before they are done; here
    nobody waits for a call that won't end. A cancelled caller leaves the thread behind: it ends with its
    call, at the latest with the process, and its result is dropped. Nothing limits how many are left so.

    What would end more than the call (SystemExit, KeyboardInterrupt, CancelledError), or what no future
    carries (StopIteration), is raised as a RuntimeError.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_T] = loop.create_future()
    context = copy_context()

    def tell(settle: Callable[[Any], None], outcome: object) -> None:
        if not ended.cancelled():
            settle(outcome)

    def work() -> None:
        settle: Callable[[Any], None]
        outcome: object
        try:
            settle, outcome = ended.set_result, context.run(call)
        except BaseException as error:
            settle, outcome = ended.set_exception, _harmless(error)
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(tell, settle, outcome)

    threading.Thread(target=work, name="webchat-call", daemon=True).start()
    return await ended


def said_by(error: BaseException) -> str:
    """An exception in words; by its type alone where it is a stranger's whose `__str__` fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__


def _harmless(error: BaseException) -> Exception:
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(said_by(error))
    failure.__cause__ = error
    return failure
