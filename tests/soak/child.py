"""A Jupyter server with the chat alone, to be killed often: it starts in a few tenths of a second."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.soak.plants import sow
from tests.support.jupyter import Jupyter, Process, free_port

__all__ = ["Child", "Died", "Forked"]

_OTHERS = ("jupyterlab", "notebook", "notebook_shim", "jupyter_lsp", "jupyter_server_terminals")
_ALONE = [f"--ServerApp.jpserver_extensions={name}=False" for name in _OTHERS]
_PATIENCE = 60
# A server is forked from a process that has imported all that it needs, which is what takes its time.
_NURSERY = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(
    [
        "jupyter_server.serverapp",
        "jupyter_server_webchat.app",
        "openai.resources.chat.completions",
        "tests.soak.kills",
        "tests.soak.keys",
        "tests.soak.proxy",
        "tests.soak.readers",
        "tests.soak.flat",
    ]
)


class Died(Exception):
    """The server has ended while somebody waited for it."""


class Child:
    """The server of a *folder*, with what `sow` puts into it: *plants*, functions of the module *harness*.

    It runs in the folder `work`; *config* is its `jupyter_server_config.json`. Where a plant kills it, the
    folder says when (`points.py`).
    """

    def __init__(
        self, folder: Path, harness: str, *plants: str, model: str, config: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.work = folder / "work"
        self.timeline_db = folder / "timeline.sqlite"
        self.work.mkdir(parents=True)
        sow(folder / "config", harness, *plants)
        (folder / "config" / "jupyter_server_config.json").write_text(json.dumps(config or {}))
        self._model = model
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive()

    async def start(self) -> float:
        """Start it; the monotonic time of its first answer. Raises Died."""
        self._process = _NURSERY.Process(
            target=_serve, args=(self._options(), self._environment(), self.folder), daemon=True
        )
        self._process.start()
        deadline = time.monotonic() + _PATIENCE
        async with self.client() as client:
            while time.monotonic() < deadline:
                try:
                    await client.get("health")
                    return time.monotonic()
                except httpx.TransportError:
                    if not self._process.is_alive():
                        raise Died from None
                    await asyncio.sleep(0.02)
        raise AssertionError(f"it does not answer within {_PATIENCE} s; see {self.folder / 'server.log'}")

    def kill(self) -> None:
        """KILL, and wait until it is gone, which may have come before."""
        assert self._process is not None
        self._process.kill()
        self._process.join()

    async def gone(self, seconds: float) -> bool:
        """Whether it ends by itself in that time."""
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self.alive

    async def stop(self) -> int | None:
        """TERM, and KILL where that does not help soon; its exit status."""
        assert self._process is not None
        self._process.terminate()
        if not await self.gone(20):
            self.kill()
        self._process.join()
        return self._process.exitcode

    def client(self) -> httpx.AsyncClient:
        """One who may do everything, below `webchat/`."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}/webchat/",
            headers={"Authorization": f"token {self.token}"},
            timeout=_PATIENCE,
            verify=False,
            trust_env=False,
        )

    def socket(self, conv_id: str) -> str:
        """Where the frames of a conversation are."""
        return f"ws://127.0.0.1:{self.port}/webchat/ws?conv_id={conv_id}&deltas=append"

    # -- parts ---------------------------------------------------------------------------------------

    def _options(self) -> list[str]:
        options: dict[str, object] = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "ServerApp.root_dir": self.work,
            "IdentityProvider.token": self.token,
            "WebChat.timeline_db": self.timeline_db,
        }
        return [*(f"--{name}={value}" for name, value in options.items()), *_ALONE]

    def _environment(self) -> dict[str, str]:
        dropped = ("OPENAI_", "WEBCHAT_", "JUPYTER", "JPY_", "PYTEST")
        own = {
            "JUPYTER_DATA_DIR": self.folder / "data",
            "JUPYTER_CONFIG_DIR": self.folder / "config",
            "JUPYTER_RUNTIME_DIR": self.folder / "runtime",
            "OPENAI_BASE_URL": self._model,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return inherited | {key: str(value) for key, value in own.items()}


class Forked(Jupyter):
    """The chat as an application of its own, with all that a `Jupyter` can."""

    def __init__(
        self, folder: Path, *, model: str, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
    ) -> None:
        own = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "sk-soak", "WEBCHAT_MODEL": "test-model"}
        super().__init__(folder, command="webchat", env={**own, **(env or {})}, args=[*_ALONE, *args])

    def _spawn(self) -> Process:
        return _Fork(self._command_line()[1:], self._env, self.folder)


class _Fork:
    """A `Process` out of the nursery."""

    def __init__(self, *life: Any) -> None:
        self._process = _NURSERY.Process(target=_serve, args=life, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, sig: int, /) -> None:
        os.kill(self.pid, sig)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("server", timeout or 0)
        return self._process.exitcode


def _serve(options: list[str], environment: dict[str, str], folder: Path) -> None:
    """The life of a server, in a process of its own."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder / "work")
    log = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from jupyter_server_webchat.app import main

    sys.argv = ["jupyter-webchat", *options]
    main(options)
