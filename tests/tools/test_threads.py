"""A call on a thread of its own: its result comes back, and nobody waits for one that won't end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.waiting import until
from webchat_widget.tools.threads import run_in_thread, said_by

CALLER = contextvars.ContextVar("CALLER", default="nobody")


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Calls may wait for it to be set, as it is when the test has ended."""
    leave = threading.Event()
    yield leave
    leave.set()


async def abandon(event: threading.Event, *, calls: int = 1) -> None:
    """Leave calls behind that wait for an event."""
    begun = threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        event.wait()

    waiting = [asyncio.ensure_future(run_in_thread(wait)) for _ in range(calls)]
    await asyncio.sleep(0)
    for _ in waiting:
        assert begun.acquire(timeout=5), "a call did not begin"
    for each in waiting:
        each.cancel()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(ended, asyncio.CancelledError)


async def test_it_is_a_daemon_thread_of_its_own() -> None:
    threads = [await run_in_thread(threading.current_thread) for _ in range(2)]
    assert len({threading.current_thread(), *threads}) == 3
    assert all(thread.daemon for thread in threads)


async def test_it_sees_the_caller_s_context_and_changes_nothing_in_it() -> None:
    def look() -> str:
        seen = CALLER.get()
        CALLER.set("the thread")
        return seen

    CALLER.set("the test")
    assert await run_in_thread(look) == "the test"
    assert CALLER.get() == "the test"


async def test_what_the_call_raises_is_raised() -> None:
    error = LookupError("here")

    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        await run_in_thread(fail)
    assert raised.value is error


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_what_would_end_more_than_the_call_only_fails(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("now")

    with pytest.raises(RuntimeError, match=f"{kind.__name__}: now") as raised:
        async with asyncio.timeout(5):
            await run_in_thread(fail)
    assert isinstance(raised.value.__cause__, kind)


async def test_those_that_were_left_behind_keep_no_other_from_running(hanging: threading.Event) -> None:
    await abandon(hanging, calls=50)
    async with asyncio.timeout(5):
        assert await run_in_thread(lambda: "at once") == "at once"


async def test_what_comes_after_a_cancel_is_dropped_in_silence(
    hanging: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(threading.enumerate())
    with caplog.at_level(logging.DEBUG):
        await abandon(hanging)
        hanging.set()
        until(lambda: set(threading.enumerate()) <= before, "the thread has ended")
        await asyncio.sleep(0)
    assert not caplog.records


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_comes_when_the_loop_has_closed_is_dropped_in_silence(
    hanging: threading.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(threading.enumerate())
    asyncio.run(abandon(hanging))
    hanging.set()
    until(lambda: set(threading.enumerate()) <= before, "the thread has ended")
    assert capfd.readouterr() == ("", "")


def test_a_process_ends_without_it() -> None:
    code = """
import asyncio, threading
from webchat_widget.tools.threads import run_in_thread

async def main():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    def hang():
        loop.call_soon_threadsafe(begun.set)
        threading.Event().wait(20)
    calling = asyncio.create_task(run_in_thread(hang))
    await begun.wait()

asyncio.run(main())
"""
    since = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert time.monotonic() - since < 5


def test_what_an_exception_says_whatever_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert said_by(KeyError("x")) == "KeyError: 'x'"
    assert said_by(Mute()) == "Mute"
