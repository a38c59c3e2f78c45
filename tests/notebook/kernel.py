"""A real kernel without a front-end: cells, and a page that is played by hand."""

from __future__ import annotations

import json
import os
import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.jupyter import Jupyter
from tests.support.waiting import until

__all__ = ["Cell", "Kernel", "parent", "said"]

IPYKERNEL6 = Path(__file__).resolve().parents[2] / "build" / "ipykernel6"


@dataclass
class Cell:
    """What became of a cell."""

    stdout: str = ""
    stderr: str = ""
    error: str = ""
    shown: list[str] = field(default_factory=list)


class Kernel:
    """A kernel, an ipykernel 6 where it is to be `old`, and all that it has published. `path` is where Python
    looks first."""

    client: BlockingKernelClient
    id = ""
    """By what a server knows it."""

    def __init__(self, folder: Path, *, old: bool = False, path: str = "") -> None:
        self.manager = KernelManager()
        dropped = ("OPENAI_", "WEBCHAT_", "JUPYTER", "JPY_", "PYTEST")
        env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            env[name] = str(folder / name)
        if old or path:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(IPYKERNEL6) if old else "", path)))
        self.manager.start_kernel(env=env)
        self._connect()
        self.published: list[dict[str, Any]] = []

    @classmethod
    def of_server(cls, server: Jupyter, name: str = "python3") -> Kernel:
        """One that a Jupyter server starts, and ends."""
        kernel = cls.__new__(cls)
        kernel.id = server.post_json("api/kernels", {"name": name})["id"]
        file = server.folder / "runtime" / f"kernel-{kernel.id}.json"
        until(file.exists, str(file))
        kernel.client = BlockingKernelClient(connection_file=str(file))
        kernel.client.load_connection_file()
        kernel.client.start_channels(hb=False)  # a machine under load misses beats
        kernel.client.wait_for_ready(60)
        kernel.published = []
        return kernel

    def _connect(self) -> None:
        self.client = self.manager.client()
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
                case "execute_result" | "display_data" if "text/plain" in content["data"]:
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
