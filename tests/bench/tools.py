"""What the way to a tool in a kernel costs: a call from the server, against a bare execute_request."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.server.kernels import Heard, Kernel, manager

__all__ = ["latencies"]

_CALLS = 50

_HOSTED = """
from webchat_widget.notebook.host import kernel_host
class Quiet:
    def progress(self, value, text=""): pass
    def stdout(self, text): pass
    def status(self, status): pass
async def measure(calls):
    called, spent = registry_of([main]).get("main"), []
    for _ in range(calls):
        began = time.perf_counter()
        await called.call({{"n": 1}}, Quiet())
        spent.append((time.perf_counter() - began) * 1000)
    return spent
measured = kernel_host().submit(measure({}))
"""


async def latencies(folder: Path) -> dict[str, list[float]]:
    """Milliseconds of a bare request, and of calls: from the server and from the kernel itself, on the main
    thread and beside it, and of the question whether to ask."""
    kernel = await Kernel.start(manager(folder), folder)
    try:
        main, beside = await kernel.offer(
            "def main(n: int): return n + 1\n@tool(thread=True)\ndef beside(n: int): return n + 1",
            "main",
            "beside",
        )

        async def bare() -> None:
            sent = kernel.client.execute(
                "", silent=True, store_history=False, user_expressions={"n": "1 + 1"}
            )
            while (await kernel.client.get_shell_msg())["parent_header"]["msg_id"] != sent:
                pass

        return {
            "an execute_request": await _measured(bare),
            "from the server, on the main thread": await _measured(lambda: main.call({"n": 1}, Heard())),
            "from the server, beside it": await _measured(lambda: beside.call({"n": 1}, Heard())),
            "from the kernel itself, on the main thread": await _hosted(kernel),
            "from the server, whether to ask": await _measured(lambda: main.asks({"n": 1})),
        }
    finally:
        await kernel.end()


async def _hosted(kernel: Kernel) -> list[float]:
    await kernel.run(_HOSTED.format(_CALLS + 5))
    while await kernel.value("measured.done()") != "True":
        await asyncio.sleep(0.1)
    spent: list[float] = json.loads(await kernel.value("measured.result()"))
    return spent[5:]


async def _measured(call: Callable[[], Awaitable[object]]) -> list[float]:
    spent = []
    for _ in range(_CALLS + 5):
        began = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - began) * 1000)
    return spent[5:]
