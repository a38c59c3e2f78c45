"""A kernel of a real Jupyter server, and someone who runs cells in it."""

from __future__ import annotations

from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from tests.support.jupyter import Jupyter

__all__ = ["Notebook"]

_SETUP = """
import threading, time
from webchat_widget import tool
from webchat_widget.notebook.functions import registry_of
from webchat_widget.notebook.identity import kernel_id
from webchat_widget.notebook.remote import RemoteChat, find_server
from webchat_widget.notebook.toolbox import offer

chat = RemoteChat(find_server())

def register(conv_id, *functions, **contexts):
    tools = registry_of(functions)
    offer(conv_id, tools)
    chat.register(conv_id, kernel_id(), tools, contexts)
"""


class Notebook:
    """A kernel of the server, and a client of it."""

    def __init__(self, server: Jupyter) -> None:
        self._server = server
        self.id = server.post_json("api/kernels", {})["id"]
        self._connect()

    def _connect(self) -> None:
        self.client = BlockingKernelClient()
        self.client.load_connection_file(str(self._server.folder / "runtime" / f"kernel-{self.id}.json"))
        self.client.start_channels(hb=False)  # a machine under load misses beats
        self.client.wait_for_ready(60)
        self.run(_SETUP)

    def run(self, code: str) -> str:
        """Run a cell to its end; what it printed."""
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self.client.execute_interactive(code, timeout=60, output_hook=hear)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def restart(self) -> None:
        """As Jupyter does."""
        self.close()
        self._server.post_json(f"api/kernels/{self.id}/restart", {})
        self._connect()

    def close(self) -> None:
        self.client.stop_channels()
