"""A real kernel without a front-end: cells that run a chat, and a page that is played by hand."""

from __future__ import annotations

import json
import os
import queue
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.waiting import until

SETUP = """
import asyncio, json, logging, signal, sys, threading, time
from webchat_widget import ChatWidget, ScriptedEngine
"""


@dataclass
class Cell:
    """What became of a cell."""

    stdout: str = ""
    stderr: str = ""
    error: str = ""
    shown: list[str] = field(default_factory=list)


class Kernel:
    """A kernel, and all that it has published."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager()
        dropped = ("OPENAI_", "WEBCHAT_", "JUPYTER", "JPY_", "PYTEST")
        env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            env[name] = str(folder / name)
        self.manager.start_kernel(env=env)
        self._connect()
        self.published: list[dict[str, Any]] = []

    def _connect(self) -> None:
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)

    def restart(self) -> None:
        """Shut it down as Jupyter does, and start it again; it is killed where it takes more than 5 s."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self._connect()
        self.published.clear()

    def end(self) -> None:
        """Shut it down, politely."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()

    def run(self, code: str) -> Cell:
        """Run a cell to its end, without an error."""
        cell = self.outcome(self.begin(code))
        assert not cell.error, cell.error
        return cell

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel, as JSON."""
        return json.loads(self.run(f"print(json.dumps({expression}))").stdout)

    def begin(self, code: str) -> str:
        """Send a cell, and wait until it runs; returns the id of the request."""
        sent = str(self.client.execute(code))
        self.until(lambda message: parent(message) == sent and message["msg_type"] == "execute_input")
        return sent

    def outcome(self, sent: str) -> Cell:
        """Wait for the end of a cell."""
        self.until(lambda message: parent(message) == sent and state(message) == "idle", timeout=60)
        cell = Cell()
        for message in self.published:
            if parent(message) != sent:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
                case "error":
                    cell.error = "\n".join(content["traceback"])
                case "execute_result" | "display_data":
                    cell.shown.append(content["data"]["text/plain"])
        return cell

    def runs(self, sent: str) -> bool:
        """Whether a cell has not come to its end, as far as was published."""
        self.listen(0)
        return not any(parent(message) == sent and state(message) == "idle" for message in self.published)

    def until(self, wanted: Callable[[dict[str, Any]], Any], timeout: float = 30) -> dict[str, Any]:
        """The first published message that is wanted."""
        seen = 0

        def found() -> dict[str, Any] | None:
            nonlocal seen
            self.listen(0.1)
            unseen, seen = self.published[seen:], len(self.published)
            return next(filter(wanted, unseen), None)

        message = until(found, "a message of the kernel", timeout)
        assert message is not None
        return message

    def listen(self, seconds: float) -> None:
        """Take in what is there, or comes within so many seconds."""
        try:
            while True:
                self.published.append(self.client.get_iopub_msg(timeout=seconds))
                seconds = 0
        except queue.Empty:
            pass

    # -- a page --------------------------------------------------------------------------------------------

    def subshell(self) -> str:
        """A new one, as JupyterLab asks for it for the comms of widgets."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        reply = self.client.control_channel.get_msg(timeout=10)
        return str(reply["content"]["subshell_id"])

    def tell(self, comm_id: str, op: str, subshell: str | None = None, **body: Any) -> str:
        """Ask as a page does; returns the rid."""
        rid = str(uuid.uuid4())
        data = {"method": "custom", "content": {"op": op, "rid": rid, "body": body}}
        message = self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return rid

    def reply(self, rid: str, timeout: float = 30) -> dict[str, Any]:
        """The answer to a question."""
        message = self.until(lambda message: said(message).get("rid") == rid, timeout)
        return said(message)


def parent(message: dict[str, Any]) -> Any:
    """The request that a message belongs to."""
    return message["parent_header"].get("msg_id")


def state(message: dict[str, Any]) -> Any:
    """busy or idle, of a message that says so."""
    return message["content"].get("execution_state")


def said(message: dict[str, Any]) -> dict[str, Any]:
    """The content of a custom message of a widget; empty for any other."""
    if message["msg_type"] != "comm_msg":
        return {}
    content = message["content"]["data"].get("content", {})
    return content if isinstance(content, dict) else {}


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
