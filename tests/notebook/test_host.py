"""The kernel as a host: a loop of its own that no cell disturbs, and that disturbs no cell."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.jupyter import Jupyter
from tests.support.waiting import until
from webchat_widget import ChatWidget
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import ShuttingDown, WebChatError
from webchat_widget.events import EngineEvent, Finish
from webchat_widget.notebook import host
from webchat_widget.notebook.home import home_of
from webchat_widget.notebook.host import KernelHost, kernel_host
from webchat_widget.turns import Turn

from .conftest import BelongTo, forget_the_kernel

CELL = contextvars.ContextVar("CELL", default="none")


async def answer(value: object) -> object:
    return value


class Idle:
    """What a cell can do for a while."""

    def sleep(self) -> None:
        time.sleep(0.3)

    def spin(self) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass


class TestTheLoop:
    @pytest.mark.parametrize("busy", [Idle().sleep, Idle().spin], ids=["sleeps", "spins"])
    def test_it_runs_while_the_main_thread(self, busy: Callable[[], None]) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = kernel_host().submit(tick())
        until(lambda: ticks, "the loop ticks")
        before = ticks
        busy()
        assert ticks - before >= 5
        ticking.cancel()

    def test_it_sees_nothing_of_the_cell_that_called(self) -> None:
        seen: list[str] = []

        async def look() -> None:
            seen.append(CELL.get())

        CELL.set("first")  # also the one that starts the thread
        kernel_host().call(look())
        CELL.set("second")
        kernel_host().call(look())
        kernel_host().post(lambda: seen.append(CELL.get()))
        until(lambda: len(seen) == 3, "all have looked")
        assert seen == ["none"] * 3

    def test_what_one_call_sets_no_other_sees(self) -> None:
        async def set_and_get(value: str) -> str:
            before = CELL.get()
            CELL.set(value)
            return before

        assert [kernel_host().call(set_and_get(value)) for value in "ab"] == ["none", "none"]

    def test_a_call_from_its_own_thread_is_refused(self) -> None:
        async def inside() -> None:
            kernel_host().call(answer(1))

        with pytest.raises(WebChatError, match="wait for itself") as error:
            kernel_host().call(inside())
        assert error.value.code == "would_deadlock"

    def test_an_engine_that_asks_its_own_chat_is_told(self) -> None:
        class Curious(ScriptedEngine):
            async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
                chat.entities  # noqa: B018 - a property that asks
                yield Finish("stop")

        chat = ChatWidget("c", engine=Curious())
        run = chat.send("hi").wait(10)
        assert run.status == "failed"
        assert run.error is not None
        assert "wait for itself" in run.error

    def test_an_error_comes_back(self) -> None:
        async def fail() -> None:
            raise LookupError("here")

        with pytest.raises(LookupError, match="here"):
            kernel_host().call(fail())

    def test_an_exit_ends_what_asked_for_it_and_not_the_loop(self) -> None:
        async def leave() -> None:
            raise SystemExit

        with pytest.raises(SystemExit):
            kernel_host().call(leave())
        assert kernel_host().call(answer(1)) == 1

    def test_it_starts_once(self) -> None:
        threads: list[threading.Thread] = []

        async def where() -> None:
            threads.append(threading.current_thread())

        callers = [threading.Thread(target=lambda: kernel_host().call(where())) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(threads) == 8
        assert len(set(threads)) == 1


def interrupt() -> None:
    """What Jupyter's stop button does to a cell."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.fixture
def listening() -> Iterator[None]:
    """A process that was started in the background may have been told to ignore interrupts."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("listening")
class TestInterrupts:
    def test_one_during_a_call_leaves_the_host_usable(self) -> None:
        async def interrupted() -> None:
            interrupt()
            await asyncio.Event().wait()

        with pytest.raises(KeyboardInterrupt):
            kernel_host().call(interrupted())
        assert kernel_host().call(answer(1)) == 1

    def test_one_during_a_wait_leaves_the_run_running(self) -> None:
        go = threading.Event()
        chat = ChatWidget("c", engine=ScriptedEngine(["one ", go, "two"], "three"))
        run = chat.send("hi")
        later = threading.Timer(0.2, interrupt)
        later.start()
        with pytest.raises(KeyboardInterrupt):
            run.wait(20)
        later.join()
        assert run.status == "started"
        go.set()
        assert run.wait(10).text == "one two"
        assert chat.send("again").wait(10).text == "three"


class Stubborn(ScriptedEngine):
    """It has begun, and won't be told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        self.begun.set()
        time.sleep(4)  # noqa: ASYNC251 - the fault itself
        yield Finish("stop")


class TestTheEnd:
    def test_what_runs_ends_as_interrupted_and_is_on_disk(self, folder: Path) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine(["half of ", threading.Event()]))
        run = chat.send("hi")
        chat.send("and another")
        until(lambda: run.text == "half of ", "the text streams")
        begun = time.monotonic()
        kernel_host().close()
        assert time.monotonic() - begun < 3
        forget_the_kernel()
        rows = {row["id"]: row["props"] for row in ChatWidget("c", engine=ScriptedEngine("later")).entities}
        assert rows[run.run_id]["stopReason"] == "interrupted"
        assert rows[f"{run.run_id}:text:1"]["content"] == "half of "
        assert rows[f"{run.run_id}:text:1"]["status"] == "interrupted"

    def test_what_waited_is_run_by_the_next_kernel(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine([threading.Event()]))
        chat.send("first")
        waiting = chat.send("second")
        kernel_host().close()
        forget_the_kernel()
        chat = ChatWidget("c", engine=ScriptedEngine("an answer to the second"))
        until(lambda: chat.text == "an answer to the second", "the next kernel answers")
        assert any(row["id"] == f"{waiting.run_id}:user" for row in chat.entities)

    def test_an_engine_that_will_not_stop_holds_it_up_for_a_while_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert host._CLOSE_SECONDS < 4  # and a second for the thread: Jupyter waits for 5
        monkeypatch.setattr(host, "_CLOSE_SECONDS", 1)
        engine = Stubborn()
        ChatWidget("c", engine=engine).send("hi")
        assert engine.begun.wait(10)
        thread = next(thread for thread in threading.enumerate() if thread.name == "webchat-host")
        begun = time.monotonic()
        kernel_host().close()
        assert time.monotonic() - begun < 3
        thread.join(10)

    def test_nothing_begins_after_it(self) -> None:
        heard: list[int] = []
        kernel_host().call(answer(1))
        kernel_host().close()
        kernel_host().close()
        kernel_host().post(heard.append, 1)
        with pytest.raises(ShuttingDown):
            kernel_host().call(answer(1))
        assert not heard

    def test_a_host_that_nobody_used_has_nothing_to_end(self, tmp_path: Path) -> None:
        before = threading.active_count()
        KernelHost(tmp_path).close()
        assert threading.active_count() == before

    def test_its_thread_and_those_of_its_files_are_gone(self) -> None:
        before = set(threading.enumerate())
        ChatWidget("c", where="kernel").entities  # noqa: B018 - a property that asks
        ours = set(threading.enumerate()) - before
        assert {thread.name for thread in ours} >= {"webchat-host", "webchat-timeline"}
        assert all(thread.daemon for thread in ours)
        kernel_host().close()
        until(lambda: not any(thread.is_alive() for thread in ours), "all threads have ended")

    def test_what_one_conversation_refuses_keeps_no_other_from_ending(self) -> None:
        ended: list[bool] = []

        async def fail() -> None:
            raise OSError("the disk")

        async def end() -> None:
            ended.append(True)

        kernel_host().register(fail)
        kernel_host().register(end)
        kernel_host().call(answer(1))
        kernel_host().close()
        assert ended


def python(code: str, *, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A Python of its own, with the test's environment."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


STREAMING = """
import threading, time
from webchat_widget import ChatWidget
from webchat_widget.engines.scripted import ScriptedEngine

chat = ChatWidget("c", engine=ScriptedEngine(["half of ", *["it "] * 3, threading.Event()]))
chat._receive(chat, {"op": "open", "rid": "page", "body": {"conv_id": "c"}}, [])
run = chat.send("hi")
while run.text != "half of it it it ":
    time.sleep(0.01)
"""


class TestTheEndOfTheProcess:
    def test_a_run_that_streams_is_ended_and_stored(self) -> None:
        begun = time.monotonic()
        out, err = (process := python(STREAMING, flags=("-W", "default"))).communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
        assert time.monotonic() - begun < 8
        self.is_there("interrupted")

    def test_a_kill_leaves_what_was_written(self, folder: Path) -> None:
        process = python(f"{STREAMING}\nprint('streams', flush=True)\ntime.sleep(60)")
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "streams\n", process.communicate()
            files = folder / "webchat" / "conversations"
            until(
                lambda: any(b"half of it it it" in path.read_bytes() for path in files.iterdir()),
                "the text is on disk",
            )
        finally:
            process.kill()
            process.communicate()
        self.is_there("interrupted")

    def is_there(self, how: str) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine())
        run, _, text, *_ = chat.entities
        assert (run["kind"], run["props"]["status"], run["props"]["stopReason"]) == ("run", "failed", how)
        assert (text["props"]["content"], text["props"]["status"]) == ("half of it it it ", how)

    @pytest.mark.parametrize(
        "code",
        [
            "ChatWidget()",
            "chat = ChatWidget(); chat.cycle = [chat]",
            "chat = ChatWidget(); chat.close(); del chat",
            "chat = ChatWidget(store='memory'); chat.send('hi')",
            "[ChatWidget(new=True) for _ in range(20)]",
            "chat = ChatWidget(); chat._receive(chat, {'op': 'health', 'rid': 'r', 'body': {}}, [])",
            "import atexit; chat = ChatWidget(); atexit.register(chat.close)",
            "chat = ChatWidget()\nimport atexit\n@atexit.register\ndef late():\n    chat.text",
            "import sys; chat = ChatWidget(); sys.modules[__name__].x = chat; sys.exit()",
        ],
    )
    def test_it_exits_at_once_and_in_silence(self, code: str) -> None:
        process = python(f"from webchat_widget import ChatWidget\n{code}", flags=("-W", "default"))
        begun = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - begun < 5
        assert (process.returncode, out, err) == (0, "", "")


def test_a_widget_of_the_server_starts_no_thread(server: Jupyter, belong_to: BelongTo) -> None:
    belong_to(server)
    before = set(threading.enumerate())
    chat = ChatWidget("c")
    assert chat.where == "server"
    chat.entities  # noqa: B018 - a property that asks
    chat.conv_id = "d"
    chat.close()
    assert set(threading.enumerate()) == before


def test_normal_use_prints_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    chat = ChatWidget("c", engine=ScriptedEngine("Hello."))
    with caplog.at_level(logging.DEBUG):
        chat.send("hi").wait(10)
        chat.stop()
        chat._receive(chat, {"op": "open", "rid": "r", "body": {"conv_id": "c"}}, [])
        chat._receive(chat, "nonsense", [])
        assert chat.text == "Hello."
        chat.transcript()
        chat.close()
    kernel_host().close()
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_it_is_one_for_the_process() -> None:
    assert kernel_host() is kernel_host()
    assert home_of("c", memory=False) is home_of("c", memory=False)


FORK = """
import multiprocessing

from webchat_widget import ChatWidget, ScriptedEngine, WebChatError

chat = ChatWidget("c", engine=ScriptedEngine("one", "two"))
print(chat.send("hi").wait(10).text)

def use(pipe):
    try:
        chat.send("from the child")
    except WebChatError as error:
        pipe.send(error.message)

here, there = multiprocessing.Pipe()
child = multiprocessing.get_context("fork").Process(target=use, args=(there,))
child.start()
print(here.recv() if here.poll(20) else "it hangs")
child.join(20)
print(child.exitcode)
print(chat.send("hi").wait(10).text)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_forked_process_is_told_that_the_chat_is_not_its_own() -> None:
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines() == [
        "one",
        "This process was forked from the one in which the chat runs, and can't use it: return to that one "
        "what you want to say.",
        "0",
        "two",
    ]
    assert "Traceback" not in run.stderr
