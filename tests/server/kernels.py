"""Real kernels under the manager that a Jupyter server has, in the loop of the test."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from jupyter_server_webchat.kernel_tools import MESSAGE, KernelTool, kernel_tools
from jupyter_server_webchat.registration import Offered, Registration
from webchat_widget.tools.own_events import OwnRow

__all__ = ["IPYKERNEL6", "Heard", "Kernel", "manager"]

IPYKERNEL6 = Path(__file__).resolve().parents[2] / "build" / "ipykernel6"
_PATIENCE = 30

SETUP = """
import asyncio, builtins, os, signal, sys, threading, time
from webchat_widget import tool
from webchat_widget.notebook.functions import registry_of
from webchat_widget.notebook.toolbox import offer
"""


def manager(folder: Path) -> AsyncMappingKernelManager:
    """A manager as the extension leaves it; `folder` is for its kernels' connection files."""
    kernels = AsyncMappingKernelManager(connection_dir=str(folder))
    if kernels.has_trait("untracked_message_types"):  # not in the oldest versions
        kernels.untracked_message_types = [*kernels.untracked_message_types, MESSAGE]
    return kernels


class Heard:
    """A `Report` that keeps what it is told."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.printed = ""
        self.steps: list[tuple[float | None, str]] = []
        self.rows: list[OwnRow] = []

    def progress(self, value: float | None, text: str = "") -> None:
        self.steps.append((value, text))

    def stdout(self, text: str) -> None:
        self.printed += text

    def event(self, row: OwnRow) -> None:
        self.rows.append(row)

    def status(self, status: str) -> None:
        self.statuses.append(status)


class Kernel:
    """A kernel, and a notebook's client of it."""

    def __init__(self, kernels: AsyncMappingKernelManager, id: str, client: AsyncKernelClient) -> None:
        self.kernels, self.id, self.client = kernels, id, client

    @classmethod
    async def start(cls, kernels: AsyncMappingKernelManager, folder: Path, *, old: bool = False) -> Kernel:
        """Start one; an ipykernel 6 where it is to be `old`."""
        dropped = ("OPENAI_", "WEBCHAT_", "JUPYTER", "JPY_", "PYTEST")
        env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            env[name] = str(folder / name)
        if old:
            env["PYTHONPATH"] = str(IPYKERNEL6)
        id = await kernels.start_kernel(env=env)
        kernel = cls(kernels, id, kernels.get_kernel(id).client())
        await kernel.connect()
        return kernel

    async def connect(self) -> None:
        self.client.start_channels()
        await self.client.wait_for_ready(_PATIENCE)
        await self.run(SETUP)

    async def restart(self) -> None:
        """As Jupyter does."""
        self.client.stop_channels()
        await self.kernels.restart_kernel(self.id)
        self.client = self.kernels.get_kernel(self.id).client()
        await self.connect()

    async def end(self) -> None:
        self.client.stop_channels()
        if self.id in self.kernels:
            await self.kernels.shutdown_kernel(self.id, now=True)
        self.kernels.context.destroy(linger=0)

    async def run(self, code: str, *, allow_stdin: bool = False) -> str:
        """Run a cell to its end; what it printed."""
        return await self.ended(self.begin(code, allow_stdin=allow_stdin))

    def begin(self, code: str, *, allow_stdin: bool = False) -> str:
        """Send a cell."""
        return str(self.client.execute(code, allow_stdin=allow_stdin))

    async def began(self, cell: str) -> None:
        """Wait until a cell runs, and has printed something."""
        while (await self._published(cell))["msg_type"] != "stream":
            pass

    async def ended(self, cell: str) -> str:
        """Wait for the end of a cell; what it printed since it was last looked at."""
        printed = ""
        while True:
            message = await self._published(cell)
            content = message["content"]
            assert message["msg_type"] != "error", content
            if message["msg_type"] == "stream":
                printed += content["text"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed

    async def _published(self, cell: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self.client.get_iopub_msg(timeout=_PATIENCE)
            if message["parent_header"].get("msg_id") == cell:
                return message

    async def offer(self, code: str, *names: str, conv: str = "c") -> list[KernelTool]:
        """Define functions in the kernel, offer them, and register them as the server does."""
        await self.run(f"{code}\noffer({conv!r}, registry_of([{', '.join(names)}]))")
        return self.register(*names, conv=conv)

    def register(self, *names: str, conv: str = "c", approval: str = "predicate") -> list[KernelTool]:
        """Register tools of these names, whether or not the kernel offers them."""
        offered = tuple(Offered(name, "", {"type": "object"}, approval) for name in names)  # type: ignore[arg-type]
        return list(kernel_tools(self.kernels, conv, Registration(self.id, offered)))

    async def value(self, expression: str) -> str:
        """What an expression prints, without a trace in the kernel."""
        reply = await self.client.execute_interactive(
            "", silent=True, store_history=False, user_expressions={"v": expression}, timeout=_PATIENCE
        )
        return str(reply["content"]["user_expressions"]["v"]["data"]["text/plain"])

    @property
    def state(self) -> str:
        """What the server takes the kernel to be doing."""
        return str(self.kernels.get_kernel(self.id).execution_state)


async def until(condition: Any, what: str) -> None:
    """Wait for something on the loop."""
    try:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None
