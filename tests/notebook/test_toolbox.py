"""The kernel's end of calls from the server, without either."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from webchat_widget import tool
from webchat_widget.errors import WebChatError
from webchat_widget.notebook import toolbox
from webchat_widget.notebook.host import KernelHost, kernel_host
from webchat_widget.notebook.toolbox import PROTOCOL, Toolbox
from webchat_widget.tools.function import FunctionTool, function_tool
from webchat_widget.tools.loop import CALLING_RUN
from webchat_widget.tools.output import Output
from webchat_widget.tools.registry import Report, ToolRegistry
from webchat_widget.typing import JSONObject


class Host(KernelHost):
    """The host's loop is that of the test."""

    def post(self, call: Any, *arguments: Any) -> None:
        self.loop.call_soon_threadsafe(call, *arguments)

    loop: asyncio.AbstractEventLoop


class Line:
    """A server, as far as a toolbox sees it."""

    def __init__(self, box: Toolbox) -> None:
        self.box = box
        self.said: list[JSONObject] = []

    def ask(self, op: str, **request: Any) -> None:
        self.box.take({"protocol": PROTOCOL, "call": "1", "op": op, **request}, self.said.append)

    async def last(self) -> JSONObject:
        """The reply that ends the call."""
        async with asyncio.timeout(10):
            while not self.said or not self.said[-1].keys() & {"output", "error", "asks"}:
                await asyncio.sleep(0.005)
        return self.said[-1]


@pytest_asyncio.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Toolbox]:
    """A toolbox whose kernel needs no control channel."""
    host = Host(kernel_host().folder)
    host.loop = asyncio.get_running_loop()
    monkeypatch.setattr(Toolbox, "_listen", lambda self: None)
    yield Toolbox(host)


@pytest.fixture
def line(box: Toolbox) -> Line:
    return Line(box)


def offered(box: Toolbox, *functions: Any) -> None:
    box.offer("c", ToolRegistry(function_tool(function) for function in functions))


class Waiting(FunctionTool):
    """A tool for which the main thread has no time before `go`."""

    def __init__(self) -> None:
        super().__init__(lambda: "ran")
        self.name = "busy"
        self.go = asyncio.Event()
        self.cancelled = False

    async def call(self, arguments: JSONObject, report: Report) -> Output:
        report.status("waiting")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        report.status("running")
        return await super().call(arguments, report)


def test_a_process_that_is_no_kernel() -> None:
    with pytest.raises(WebChatError, match="no ipykernel") as error:
        toolbox.offer("c", ToolRegistry())
    assert error.value.code == "no_ipykernel"


async def test_a_call(box: Toolbox, line: Line) -> None:
    def double(n: int) -> int:
        print("doubling")
        return 2 * n

    offered(box, double)
    line.ask("call", conv_id="c", name="double", arguments={"n": "4"}, run_id="r")
    assert await line.last() == {"output": {"text": "doubling\n8", "mime": None}}
    assert line.said[0] == {"taken": True}
    assert "".join(said.get("stdout", "") for said in line.said) == "doubling\n"


async def test_it_knows_the_run_that_calls(box: Toolbox, line: Line) -> None:
    def who() -> str:
        return CALLING_RUN.get()

    offered(box, who)
    line.ask("call", conv_id="c", name="who", run_id="r-1")
    assert (await line.last())["output"]["text"] == "r-1"
    assert CALLING_RUN.get() == ""


@pytest.mark.parametrize("place", [("c", "other"), ("other", "double")])
async def test_what_is_not_offered(box: Toolbox, line: Line, place: tuple[str, str]) -> None:
    def double(n: int) -> int:
        return 2 * n

    offered(box, double)
    conv_id, name = place
    line.ask("call", conv_id=conv_id, name=name, arguments={"n": 1})
    assert (await line.last())["error"]["kind"] == "unknown"


async def test_another_protocol(box: Toolbox, line: Line) -> None:
    line.ask("call", conv_id="c", name="double", protocol=PROTOCOL + 1)
    assert (await line.last())["error"]["kind"] == "protocol"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "call"},
        {"op": "call", "call": 1},
        {"op": "keep", "call": "9"},
        {"op": "cancel", "call": "9"},
    ],
)
async def test_what_makes_no_sense_is_passed_over(box: Toolbox, request_: JSONObject) -> None:
    said: list[JSONObject] = []
    box.take(request_, said.append)
    assert said == []


async def test_a_call_that_nobody_waits_for_any_more(
    box: Toolbox, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server has died: it is not made when the main thread has time for it at last."""
    monkeypatch.setattr(toolbox, "_LEASE_SECONDS", 0.05)
    busy = Waiting()
    box.offer("c", ToolRegistry([busy]))
    line.ask("call", conv_id="c", name="busy")
    assert (await line.last())["error"]["kind"] == "late"
    await asyncio.sleep(0)
    assert busy.cancelled


async def test_a_call_that_is_waited_for_keeps_its_place(
    box: Toolbox, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "_LEASE_SECONDS", 0.2)
    busy = Waiting()
    box.offer("c", ToolRegistry([busy]))
    line.ask("call", conv_id="c", name="busy")
    for _ in range(10):
        await asyncio.sleep(0.05)
        line.ask("keep")
    busy.go.set()
    assert (await line.last())["output"]["text"] == "ran"
    assert [said["status"] for said in line.said if "status" in said][-1] == "running"


async def test_a_cancel_is_answered_at_once(box: Toolbox, line: Line) -> None:
    going, go = threading.Event(), threading.Event()

    def hang() -> None:
        going.set()
        go.wait(10)

    offered(box, hang)
    line.ask("call", conv_id="c", name="hang")
    await asyncio.to_thread(going.wait, 10)
    line.ask("cancel")
    assert (await line.last())["error"]["kind"] == "cancelled"
    go.set()


async def test_an_exception_that_can_not_be_shown(box: Toolbox, line: Line) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def fail() -> None:
        raise Odd

    offered(box, fail)
    line.ask("call", conv_id="c", name="fail")
    error = (await line.last())["error"]
    assert (error["kind"], error["name"], error["message"]) == ("raised", "Odd", "")


async def test_reports_are_few_and_complete(box: Toolbox, line: Line) -> None:
    @tool(thread=True)
    def chatter() -> Any:
        for number in range(5000):
            print(number)
            yield number / 5000, "working"
        yield float("nan"), "at \ud800 last"

    offered(box, chatter)
    line.ask("call", conv_id="c", name="chatter")
    await line.last()
    printed = "".join(said.get("stdout", "") for said in line.said)
    assert printed == "".join(f"{number}\n" for number in range(5000))
    assert [said["progress"] for said in line.said if "progress" in said][-1] == {
        "value": None,
        "text": "at \ufffd last",
    }
    assert len(line.said) < 100


async def test_printed_text_is_limited(box: Toolbox, line: Line) -> None:
    def flood() -> str:
        for _ in range(100):
            print("x" * 10_000)
        return "y" * 1_000_000

    offered(box, flood)
    line.ask("call", conv_id="c", name="flood")
    assert len((await line.last())["output"]["text"]) < 201_000
    assert sum(len(said.get("stdout", "")) for said in line.said) == 200_000


async def test_asks(box: Toolbox, line: Line) -> None:
    @tool(approval=lambda days: days > 7)
    def wipe(days: int) -> None: ...

    offered(box, wipe)
    line.ask("asks", conv_id="c", name="wipe", arguments={"days": 8})
    assert await line.last() == {"asks": True, "version": None}
    line.said.clear()
    line.ask("asks", conv_id="c", name="wipe", arguments={"days": "many"})
    assert (await line.last())["error"]["kind"] == "arguments"
