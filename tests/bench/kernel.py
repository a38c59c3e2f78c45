"""A kernel that hosts a chat, driven over its comm as a page drives it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

__all__ = ["Kernel", "running_kernel"]

_PATIENCE = 60


class Kernel:
    """A kernel with one widget that has been displayed, and a page's end of its comm."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._client = client
        self.pid = manager.provisioner.pid
        said = self.run(
            "from webchat_widget import ChatWidget\n"
            "chat = ChatWidget('bench', where='kernel', store='memory')\n"
            "import json; state = chat.get_state()\n"
            "sizes = {name: len(str(value)) for name, value in state.items()}\n"
            "print(json.dumps([chat.comm.comm_id, sizes]))"
        )
        self.comm_id, self.state = json.loads(said)

    def run(self, code: str) -> str:
        """Run a cell to its end; what it printed."""
        printed: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self._client.execute_interactive(code, timeout=_PATIENCE, output_hook=hook)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def begin(self, code: str) -> None:
        """Run a cell without waiting for its end."""
        self._client.execute(code)

    def subshell(self) -> str:
        """A thread of the kernel that handles a page's messages while a cell runs, as JupyterLab asks for."""
        message = self._client.session.msg("create_subshell_request", {})
        self._client.control_channel.send(message)
        while True:
            reply = self._client.control_channel.get_msg(timeout=_PATIENCE)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return str(reply["content"]["subshell_id"])

    def ask(self, op: str, body: dict[str, Any], subshell: str | None = None) -> str:
        """Send an operation; its rid."""
        rid = str(uuid.uuid4())
        data = {"method": "custom", "content": {"op": op, "rid": rid, "body": body}}
        message = self._client.session.msg("comm_msg", {"comm_id": self.comm_id, "data": data})
        if subshell:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)
        return rid

    def heard(self) -> Iterator[dict[str, Any]]:
        """What the widget says, as it comes."""
        while True:
            message = self._client.iopub_channel.get_msg(timeout=_PATIENCE)
            if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == self.comm_id:
                data = message["content"]["data"]
                if data.get("method") == "custom":
                    yield data["content"]

    def reply(self, rid: str) -> Any:
        """The body that answers an operation."""
        for message in self.heard():
            if message.get("rid") == rid:
                assert message["status"] < 300, message
                return message["body"]

    def cpu_ns(self) -> int:
        """The processor time of the kernel and its threads, in nanoseconds."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)

    def wait_quiet(self) -> None:
        """Wait until the kernel uses no time."""
        before = -1
        while (now := self.cpu_ns()) != before:
            before = now
            time.sleep(0.2)


@contextmanager
def running_kernel(model_url: str, folder: Path) -> Iterator[Kernel]:
    """A kernel of this environment that talks to the model at `model_url`; its files go to `folder`."""
    manager = KernelManager(kernel_name="python3")
    env = {**os.environ, "OPENAI_BASE_URL": model_url, "JUPYTER_DATA_DIR": str(folder)}
    manager.start_kernel(env=env)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=_PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
