"""A chat in a real kernel without a front-end: cells, and a page that is played by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .kernel import Cell, Kernel, parent, said

SETUP = """
import asyncio, json, logging, signal, sys, threading, time
from webchat_widget import ChatWidget, ScriptedEngine
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for all tests here."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.run(SETUP)
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared: Kernel) -> Kernel:
    """The kernel, with nothing published yet."""
    shared.listen(0)
    shared.published.clear()
    return shared


def make_chat(kernel: Kernel, *script: str) -> str:
    """Make a widget `chat` with a scripted engine, in a conversation of its own; returns its comm's id."""
    kernel.run(f"chat = ChatWidget(new=True, engine=ScriptedEngine({', '.join(script)}))")
    opened = [m["content"] for m in kernel.published if m["msg_type"] == "comm_open"]
    return str(next(c["comm_id"] for c in opened if "_channel" in c["data"]["state"]))


class TestCells:
    def test_send_and_wait(self, kernel: Kernel) -> None:
        make_chat(kernel, "'Hello.'", "'Again.'")
        cell = kernel.run("run = chat.send('hi').wait(10)\nprint(run.status, run.text)\nchat")
        assert (cell.stdout, cell.stderr, cell.shown) == ("finished Hello.\n", "", ["ChatWidget()"])
        cell = kernel.run("print((await chat.send('and')).text)")
        assert (cell.stdout, cell.stderr) == ("Again.\n", "")
        assert kernel.value("[row['kind'] for row in chat.entities]") == ["run", "message", "message"] * 2
        assert kernel.value("[chat.where, chat.text]") == ["kernel", "Again."]

    def test_an_interrupt_ends_the_wait_and_not_the_run(self, kernel: Kernel) -> None:
        make_chat(kernel, "['one ', (go := threading.Event()), 'two']")
        waits = kernel.begin("run = chat.send('hi')\nprint('waits')\nrun.wait()")
        kernel.until(lambda message: message["msg_type"] == "stream" and parent(message) == waits)
        kernel.manager.interrupt_kernel()
        assert "KeyboardInterrupt" in kernel.outcome(waits).error
        assert kernel.run("go.set()\nprint(run.wait(10).text)").stdout == "one two\n"

    def test_what_goes_wrong_is_no_output_of_a_cell(self, kernel: Kernel) -> None:
        make_chat(kernel, "[ZeroDivisionError('canary')]")
        cell = kernel.run("print(chat.send('hi').wait(10).error)")
        assert cell.stdout.startswith("Something went wrong inside the chat")
        kernel.listen(0)
        assert "canary" not in str([m for m in kernel.published if m["msg_type"] in ("stream", "error")])


class TestAPage:
    def test_its_first_words_are_heard_while_a_cell_runs(self, kernel: Kernel) -> None:
        """`comm_open` came from the main shell; ipykernel 7.4 would have the answer wait for the cell."""
        comm_id = make_chat(kernel, "'Hello.'", "'Again.'")
        conv_id = kernel.value("chat.conv_id")
        subshell = kernel.subshell()
        cell = kernel.begin("time.sleep(2)")
        first = kernel.reply(kernel.tell(comm_id, "open", subshell, conv_id=conv_id))
        assert first["body"]["n"] == 1
        for _ in range(2):  # by now the kernel has published on its own, from its own thread
            kernel.reply(kernel.tell(comm_id, "chat", subshell, conv_id=conv_id, prompt="hi"))
        kernel.until(lambda message: "run.finished" in types(message))
        kernel.reply(kernel.tell(comm_id, "timeline", subshell, conv_id=conv_id))
        assert kernel.runs(cell), "all of that while the cell runs"
        assert not [parent(message) for message in kernel.published if said(message) and parent(message)]
        assert kernel.outcome(cell) == Cell()

    def test_frames_come_while_a_cell_runs(self, kernel: Kernel) -> None:
        comm_id = make_chat(kernel, "['a', *[0.05, 'b'] * 10]")
        kernel.reply(kernel.tell(comm_id, "open", conv_id=kernel.value("chat.conv_id")))
        cell = kernel.begin(
            "chat.send('hi')\nbusy = time.monotonic() + 2\nwhile time.monotonic() < busy: pass"
        )
        kernel.until(lambda message: "run.finished" in types(message))
        assert kernel.runs(cell)
        frames = [frame for message in kernel.published for frame in said(message).get("frames", ())]
        assert [frame["n"] for frame in frames] == list(range(2, len(frames) + 2))
        kernel.outcome(cell)

    def test_without_a_subshell_it_is_heard_after_the_cell(self, kernel: Kernel) -> None:
        comm_id = make_chat(kernel, "'Hello.'")
        cell = kernel.begin("time.sleep(0.5)")
        rid = kernel.tell(comm_id, "health")
        kernel.reply(rid)
        assert not kernel.runs(cell)

    def test_hostile_messages_leave_the_kernel_as_it_is(self, kernel: Kernel) -> None:
        comm_id = make_chat(kernel, "'Hello.'")
        for content in (None, [], "text", {"op": "health"}, {"id": "1"}):
            data = {"method": "custom", "content": content}
            message = kernel.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
            kernel.client.shell_channel.send(message)
        kernel.reply(kernel.tell(comm_id, "health"))
        replies = [said(message) for message in kernel.published if "status" in said(message)]
        assert [reply["status"] for reply in replies] == [200]
        assert not [message for message in kernel.published if message["msg_type"] in ("stream", "error")]


def types(message: dict[str, Any]) -> list[str]:
    """The types of the frames in a message."""
    return [frame["event"]["type"] for frame in said(message).get("frames", ())]


LOOK = """
def look():
    return {
        "loop": id(asyncio.get_running_loop()),
        "policy": id(asyncio.get_event_loop_policy()),
        "signals": {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()},
        "stdout": [id(sys.stdout), id(sys.stderr), id(sys.__stdout__), id(sys.displayhook)],
        "logging": [repr(h) for h in logging.getLogger().handlers] + [logging.getLogger().level],
        "hooks": [repr(sys.excepthook), id(threading.excepthook), id(sys.unraisablehook)],
        "trace": [repr(sys.gettrace()), repr(sys.getprofile()), sys.getswitchinterval()],
        "asyncgen": repr(sys.get_asyncgen_hooks()),
    }
"""


class TestNeighbours:
    def test_a_chat_leaves_the_kernel_as_it_is(self, tmp_path: Path) -> None:
        kernel = Kernel(tmp_path)
        try:
            kernel.run(SETUP + LOOK)
            before = kernel.value("look()")
            make_chat(kernel, "'Hello.'")
            kernel.run("chat.send('hi').wait(10)\nawait chat._home.send('hi', conv_id=chat.conv_id)")
            assert kernel.value("look()") == before
            kernel.run("chat.close()")
            assert kernel.value("look()") == before
        finally:
            kernel.end()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_loops_within_loops(self, when: str, tmp_path: Path) -> None:
        """Many notebooks begin with it; it patches the class of every loop."""
        nest = "import nest_asyncio2\nnest_asyncio2.apply()\n"
        kernel = Kernel(tmp_path)
        try:
            kernel.run(SETUP + (nest if when == "before" else ""))
            make_chat(kernel, "['one ', 0.1, 'two']", "'three'", "'four'")
            kernel.run("run = chat.send('hi')\n" + (nest if when == "after" else ""))
            assert kernel.run("print(run.wait(10).text)").stdout == "one two\n"
            assert kernel.run("print((await chat.send('hi')).text)").stdout == "three\n"
            cell = kernel.run(
                "async def ask(): return (await chat.send('hi')).text\nprint(asyncio.run(ask()))"
            )
            assert (cell.stdout, cell.stderr) == ("four\n", "")
        finally:
            kernel.end()

    def test_policies_and_loops_of_others(self, kernel: Kernel) -> None:
        kernel.run(
            "class Policy(asyncio.DefaultEventLoopPolicy):\n"
            "    made = 0\n"
            "    def new_event_loop(self):\n"
            "        Policy.made += 1\n"
            "        return super().new_event_loop()\n"
            "former = asyncio.get_event_loop_policy()\n"
            "asyncio.set_event_loop_policy(Policy())\n"
            "own = asyncio.new_event_loop()\n"
            "threading.Thread(target=own.run_forever, daemon=True).start()\n"
        )
        try:
            make_chat(kernel, "'one'", "'two'")
            code = (
                "async def ask(): return (await chat.send('hi')).text\n"
                "print(asyncio.run_coroutine_threadsafe(ask(), own).result(10))\n"
                "print(await ask())\n"
            )
            cell = kernel.run(code)
            assert (cell.stdout, cell.stderr) == ("one\ntwo\n", "")
        finally:
            kernel.run("own.call_soon_threadsafe(own.stop)\nasyncio.set_event_loop_policy(former)")


def test_a_restart_in_the_middle(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    try:
        kernel.run(SETUP)
        kernel.run("chat = ChatWidget('c', engine=ScriptedEngine(['half ', threading.Event()]))")
        kernel.run("run = chat.send('hi')\nwhile run.text != 'half ': time.sleep(0.01)")
        begun = time.monotonic()
        kernel.restart()
        assert time.monotonic() - begun < 10
        kernel.run(f"{SETUP}\nchat = ChatWidget('c', engine=ScriptedEngine('whole'))")
        run, _, text = kernel.value("[row['props'] for row in chat.entities]")
        assert (run["status"], run["stopReason"], text["content"]) == ("failed", "interrupted", "half ")
        assert kernel.run("print(chat.send('again').wait(10).text)").stdout == "whole\n"
    finally:
        kernel.end()
