"""What the way to a tool in a kernel costs: a call from the server, against a bare execute_request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.server.kernels import Heard, Kernel, manager

__all__ = ["latencies"]

_CALLS = 50


async def latencies(folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each call: on the main thread, beside it, of the question whether to ask, and bare."""
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
            "a call on the main thread": await _measured(lambda: main.call({"n": 1}, Heard())),
            "a call beside it": await _measured(lambda: beside.call({"n": 1}, Heard())),
            "whether to ask": await _measured(lambda: main.asks({"n": 1})),
        }
    finally:
        await kernel.end()


async def _measured(call: Callable[[], Awaitable[object]]) -> list[float]:
    spent = []
    for _ in range(_CALLS + 5):
        began = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - began) * 1000)
    return spent[5:]
