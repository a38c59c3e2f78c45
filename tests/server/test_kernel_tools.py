"""Calls from the server into real kernels, of ipykernel 7 and 6."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from jupyter_server_webchat import kernel_tools as module
from jupyter_server_webchat.kernel_tools import kernel_tools
from jupyter_server_webchat.registration import Registration
from tests.server.kernels import Heard, Kernel, manager, until
from webchat_widget.errors import NotFound, WebChatError
from webchat_widget.tools.registry import BadArguments, ToolCancelled

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUSY = "print('busy', flush=True)\nwhile not os.path.exists({path!r}): time.sleep(0.01)"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[False, True], ids=["7", "6"])
async def kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Kernel]:
    """A kernel that lives for all tests."""
    folder = tmp_path_factory.mktemp("kernel")
    kernel = await Kernel.start(manager(folder), folder, old=request.param)
    yield kernel
    await kernel.end()


@pytest_asyncio.fixture(loop_scope="module")
async def mortal(tmp_path: Path) -> AsyncIterator[Kernel]:
    """A kernel for one test, which may end it."""
    kernel = await Kernel.start(manager(tmp_path), tmp_path)
    yield kernel
    await kernel.end()


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_a_function_of_the_notebook(kernel: Kernel, heard: Heard) -> None:
    [area] = await kernel.offer(
        "factor = 2\ndef area(width: int, height: int = 3) -> int:\n    return factor * width * height",
        "area",
    )
    output = await area.call({"width": 4}, heard)
    assert output.text == "24"
    assert await area.asks({"width": 4})


async def test_it_runs_on_the_main_thread(kernel: Kernel, heard: Heard) -> None:
    code = "def where() -> str: return threading.current_thread().name"
    [where] = await kernel.offer(code, "where")
    assert (await where.call({}, heard)).text == "MainThread"


async def test_one_that_may_runs_beside_it(kernel: Kernel, heard: Heard, tmp_path: Path) -> None:
    [beside] = await kernel.offer("@tool(thread=True)\ndef beside() -> str: return 'now'", "beside")
    go = tmp_path / "go"
    cell = kernel.begin(BUSY.format(path=str(go)))
    await kernel.began(cell)
    assert (await beside.call({}, heard)).text == "now"
    assert heard.statuses == []
    go.touch()
    await kernel.ended(cell)


async def test_arguments_are_data(kernel: Kernel, heard: Heard) -> None:
    [echo] = await kernel.offer("def echo(text: str) -> str: return text", "echo")
    hostile = '\'); import os; os._exit(1) #\n"""\\u2028 {} %s \U0001f600'
    assert (await echo.call({"text": hostile}, heard)).text == hostile


async def test_what_it_raises(kernel: Kernel, heard: Heard) -> None:
    [fail] = await kernel.offer("def fail(): raise LookupError('no such country')", "fail")
    with pytest.raises(Exception, match="no such country") as raised:
        await fail.call({}, heard)
    assert type(raised.value).__name__ == "LookupError"
    assert "Traceback" in raised.value.__notes__[0]


async def test_arguments_that_do_not_fit(kernel: Kernel, heard: Heard) -> None:
    [area] = await kernel.offer("def area(width: int): return width", "area")
    with pytest.raises(BadArguments, match="width"):
        await area.call({"width": "wide"}, heard)
    with pytest.raises(BadArguments, match="width"):
        await area.asks({"width": "wide"})


async def test_progress_and_prints_while_it_runs(kernel: Kernel, heard: Heard, tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = f"""
def steps():
    print("first")
    yield 0.25, "a quarter"
    while not os.path.exists({str(go)!r}): time.sleep(0.01)
    print("last")
    return "all"
"""
    [steps] = await kernel.offer(code, "steps")
    call = asyncio.create_task(steps.call({}, heard))
    await until(lambda: heard.printed and heard.steps, "it tells while it runs")
    assert (heard.printed, heard.steps) == ("first\n", [(0.25, "a quarter")])
    go.touch()
    assert (await call).text == "first\nlast\nall", "the model is told what it printed too"
    assert heard.printed == "first\nlast\n"


async def test_a_rich_result(kernel: Kernel, heard: Heard) -> None:
    code = """
class Table:
    def _repr_html_(self): return "<table><tr><td>1</td></tr></table>"
    def __repr__(self): return "1 row"
def table(): return Table()
"""
    [table] = await kernel.offer(code, "table")
    output = await table.call({}, heard)
    assert output.text == "1 row"
    assert output.mime is not None
    assert output.mime["text/html"].startswith("<table>")


@pytest.mark.parametrize(
    "value", ["float('nan')", "chr(0xd800)", "'\\0'", "object()", "[float('inf')]", "None"]
)
async def test_any_result_arrives(kernel: Kernel, heard: Heard, value: str) -> None:
    [odd] = await kernel.offer(f"def odd(): return {value}", "odd")
    assert (await odd.call({}, heard)).text


async def test_a_predicate_is_asked_in_the_kernel(kernel: Kernel) -> None:
    code = """
@tool(approval=lambda days: days > 7)
def wipe(days: int): ...
@tool(approval=lambda: 1 / 0)
def odd(): ...
@tool(read_only=True)
def look(): ...
"""
    wipe, odd, look = await kernel.offer(code, "wipe", "odd", "look")
    assert not await wipe.asks({"days": 7})
    assert await wipe.asks({"days": 8})
    assert await odd.asks({})
    assert not await look.asks({})


async def test_a_call_waits_for_a_cell(kernel: Kernel, heard: Heard, tmp_path: Path) -> None:
    [now] = await kernel.offer("def now(): return 'now'", "now")
    go = tmp_path / "go"
    cell = kernel.begin(BUSY.format(path=str(go)))
    await kernel.began(cell)
    call = asyncio.create_task(now.call({}, heard))
    await until(lambda: heard.statuses, "it says that it waits")
    assert heard.statuses == ["waiting"]
    assert kernel.state == "busy"  # what we say to the kernel does not make it look idle
    go.touch()
    assert (await call).text == "now"
    assert heard.statuses == ["waiting", "running"]
    await kernel.ended(cell)


async def test_a_cancelled_call_that_waited_never_runs(kernel: Kernel, heard: Heard, tmp_path: Path) -> None:
    [mark] = await kernel.offer("marks = []\ndef mark(): marks.append(1)", "mark")
    go = tmp_path / "go"
    cell = kernel.begin(BUSY.format(path=str(go)))
    await kernel.began(cell)
    call = asyncio.create_task(mark.call({}, heard))
    await until(lambda: heard.statuses, "it waits")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.touch()
    await kernel.ended(cell)
    assert await kernel.run("print(marks)") == "[]\n"


async def test_stop_interrupts_it_and_nothing_else(kernel: Kernel, heard: Heard) -> None:
    code = """
ended = []
def sleep():
    print("asleep")
    try: time.sleep(60)
    except KeyboardInterrupt: ended.append("interrupted"); raise
"""
    [sleep] = await kernel.offer(code, "sleep")
    call = asyncio.create_task(sleep.call({}, heard))
    await until(lambda: heard.printed, "it sleeps")
    began = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.monotonic() - began < 0.5
    printed = await kernel.run("for _ in range(50): time.sleep(0.005)\nprint(ended)")
    assert printed == "['interrupted']\n"
    assert time.monotonic() - began < 5


async def test_a_person_interrupts_the_kernel(kernel: Kernel, heard: Heard) -> None:
    [sleep] = await kernel.offer("def sleep():\n    print('asleep')\n    time.sleep(60)", "sleep")
    call = asyncio.create_task(sleep.call({}, heard))
    await until(lambda: heard.printed, "it sleeps")
    await kernel.kernels.get_kernel(kernel.id).interrupt_kernel()
    with pytest.raises(ToolCancelled):
        await call


async def test_several_at_once(kernel: Kernel) -> None:
    code = """
@tool(thread=True)
def beside(n: int):
    time.sleep(0.2)
    return n
def main(n: int): return -n
"""
    beside, main = await kernel.offer(code, "beside", "main")
    began = time.monotonic()
    calls = [tool.call({"n": n}, Heard()) for n in range(8) for tool in (beside, main)]
    outputs = await asyncio.gather(*calls)
    assert [output.text for output in outputs] == [str(n) for m in range(8) for n in (m, -m)]
    assert time.monotonic() - began < 1.5


async def test_a_conversation_has_its_own(kernel: Kernel, heard: Heard) -> None:
    [mine] = await kernel.offer("def pick(): return 'mine'", "pick", conv="mine")
    [yours] = await kernel.offer("def pick(): return 'yours'", "pick", conv="yours")
    assert (await mine.call({}, heard)).text == "mine"
    assert (await yours.call({}, heard)).text == "yours"


async def test_the_users_kernel_stays_as_it_is(kernel: Kernel, heard: Heard) -> None:
    [say] = await kernel.offer("def say():\n    print('said')\n    return 'value'", "say")
    await kernel.run("42")
    look = (
        "(_, In[-1], Out.get(max(Out, default=0)), get_ipython().execution_count, builtins.input, sys.stdout)"
    )
    before = await kernel.value(look)
    names = await kernel.value("sorted(globals())")
    await say.call({}, heard)
    assert await kernel.value(look) == before
    assert await kernel.value("sorted(globals())") == names


async def test_a_flood_is_cut(kernel: Kernel, heard: Heard) -> None:
    code = "def flood():\n    for _ in range(1000): print('x' * 100_000)\n    return 'y' * 100_000_000"
    [flood] = await kernel.offer(code, "flood")
    lag = 0.0

    async def watch() -> None:
        nonlocal lag
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            lag = max(lag, time.monotonic() - before - 0.005)

    watcher = asyncio.create_task(watch())
    output = await flood.call({}, heard)
    watcher.cancel()
    assert 50_000 < len(heard.printed) <= 200_000
    assert 50_000 < len(output.text) < 201_000
    assert lag < 0.25  # it shares two processors with the flood


async def test_an_exchange_leaves_nothing_open(kernel: Kernel, heard: Heard) -> None:
    [now] = await kernel.offer("def now(): return 'now'", "now")
    await now.call({}, heard)
    before = psutil.Process().num_fds()
    for _ in range(50):
        await now.call({}, heard)
    await until(lambda: psutil.Process().num_fds() <= before + 5, "the channels are closed")


async def test_a_tool_that_is_not_offered_any_more(kernel: Kernel, heard: Heard) -> None:
    [gone] = kernel.register("gone", approval="never")
    with pytest.raises(WebChatError, match="does not offer gone any more") as error:
        await gone.call({}, heard)
    assert error.value.code == "kernel_unreachable"
    assert not await gone.asks({})


async def test_another_version(kernel: Kernel, heard: Heard) -> None:
    [now] = await kernel.offer("def now(): return 'now'", "now")
    await kernel.run("import webchat_widget.notebook.toolbox as t; t.PROTOCOL = 2")
    with pytest.raises(WebChatError, match="different versions"):
        await now.call({}, heard)
    await kernel.run("t.PROTOCOL = 1")
    assert (await now.call({}, heard)).text == "now"


async def test_an_unknown_kernel(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as error:
        kernel_tools(manager(tmp_path), "c", Registration("nobody"))
    assert error.value.code == "unknown_kernel"


async def test_a_kernel_without_our_package(
    mortal: Kernel, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.6)
    [tool] = mortal.register("tool")
    with pytest.raises(WebChatError, match="does not answer to tool"):
        await tool.call({}, heard)


async def test_a_kernel_that_dies(mortal: Kernel, heard: Heard) -> None:
    [die] = await mortal.offer("def die():\n    print('bye')\n    time.sleep(60)", "die")
    call = asyncio.create_task(die.call({}, heard))
    await until(lambda: heard.printed, "it runs")
    began = time.monotonic()
    os.kill(mortal.kernels.get_kernel(mortal.id).provisioner.pid, signal.SIGKILL)
    with pytest.raises(WebChatError, match="or has died, while die was running"):
        await call
    assert time.monotonic() - began < 2


async def test_a_kernel_that_is_restarted(mortal: Kernel, heard: Heard) -> None:
    sleep, now = await mortal.offer(
        "def sleep():\n    print('asleep')\n    time.sleep(60)\ndef now(): return 'now'", "sleep", "now"
    )
    call = asyncio.create_task(sleep.call({}, heard))
    await until(lambda: heard.printed, "it runs")
    restart = asyncio.create_task(mortal.restart())
    with pytest.raises(WebChatError, match="or has died, while sleep was running"):
        await call
    await restart
    assert not await now.asks({})  # nobody is asked to allow what can't be
    with pytest.raises(WebChatError, match="or has died, before now could run"):
        await now.call({}, heard)
    [now] = await mortal.offer("def now(): return 'again'", "now")
    assert (await now.call({}, heard)).text == "again"


async def test_a_kernel_that_is_shut_down(mortal: Kernel, heard: Heard) -> None:
    [sleep] = await mortal.offer("def sleep():\n    print('asleep')\n    time.sleep(60)", "sleep")
    call = asyncio.create_task(sleep.call({}, heard))
    await until(lambda: heard.printed, "it runs")
    await mortal.kernels.shutdown_kernel(mortal.id, now=True)
    with pytest.raises(WebChatError, match="shut down, or has died, while sleep was running"):
        await call


async def test_a_cell_that_lets_no_other_thread_run(
    mortal: Kernel, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.1)
    [now] = await mortal.offer("def now(): return 'now'", "now")
    go = tmp_path / "go"
    await mortal.began(mortal.begin(BUSY.format(path=str(go))))
    await until(lambda: mortal.state == "busy", "the server knows of the cell")
    pid = mortal.kernels.get_kernel(mortal.id).provisioner.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        call = asyncio.create_task(now.call({}, heard))
        await until(lambda: len(heard.statuses) > 1, "it is told as waiting, and not given up")
    finally:
        os.kill(pid, signal.SIGCONT)
    go.touch()
    assert (await call).text == "now"
    assert heard.statuses[0] == "waiting"


async def test_a_kernel_that_stands_still_harms_nobody(mortal: Kernel, heard: Heard) -> None:
    [now] = await mortal.offer("def now(): return 'now'", "now")
    pid = mortal.kernels.get_kernel(mortal.id).provisioner.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await now.call({}, heard)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (await now.call({}, heard)).text == "now"
