"""A real Jupyter server in a process and a folder of its own, to start, stop, kill and start again."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import psutil

from tests.support.waiting import until

__all__ = ["Jupyter", "Process", "free_port"]

# What would put a pop-up over the page, or save a notebook behind a test's back.
_LAB_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
_IPYKERNEL6 = Path(__file__).resolve().parents[2] / "build" / "ipykernel6"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Jupyter:
    """``jupyter lab``, or with ``command="webchat"`` the chat as an application of its own.

    Settings, data, run-time files and the timeline live in *folder*, notebooks in ``folder/work``. *env* is
    laid over an environment in which no model is named. ``stop`` also ends kernels that a killed server left.
    """

    live: ClassVar[list[Jupyter]] = []

    def __init__(
        self,
        folder: Path,
        *,
        command: str = "lab",
        extension: bool = True,
        base_url: str = "/",
        password: str | None = None,
        new_tokens: bool = False,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        """With *new_tokens* each start makes another token, as it is where nobody sets one; with *password*
        there is none: one logs in at the form. Whether our *extension* is enabled counts at each start."""
        self.extension = extension
        self.folder, self.command, self.base_url = folder, command, base_url
        self.token = "" if password is not None else secrets.token_hex(16)
        self.password = password
        self._new_tokens = new_tokens
        self.port = free_port()
        self.work = folder / "work"
        self.timeline_db = folder / "timeline" / "webchat.sqlite"
        self.log = folder / "server.log"
        self._args = list(args)
        self._env = self._environment(env or {})
        self._process: Process | None = None
        self._children: list[psutil.Process] = []
        for made in (self.work, self.timeline_db.parent):
            made.mkdir(parents=True, exist_ok=True)
        for name, settings in _LAB_SETTINGS.items():
            path = folder / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))

    def configure(self, config: Mapping[str, Any]) -> Self:
        """What is in its `jupyter_server_config.json` from the next start on."""
        path = self.folder / "config" / "jupyter_server_config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
        return self

    # -- its life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, again on the same port and folder, and return when it answers."""
        assert self._process is None, "already started"
        if self._new_tokens:
            self.token = secrets.token_hex(16)
        self._process = self._spawn()
        Jupyter.live.append(self)
        until(self._answers, f"jupyter {self.command} answers on port {self.port}", timeout=60)
        return self

    def terminate(self) -> None:
        """TERM, and wait until it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """KILL: it has no time to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and all that it started, politely if it lets us."""
        if self._process is not None:
            with contextlib.suppress(AssertionError):
                self._end(signal.SIGTERM, patience=5)
        for child in self._children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(self._children, timeout=10)
        self._children.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- what one can ask of it ---------------------------------------------------------------------------

    def url(self, path: str = "", *, login: bool = False) -> str:
        """An address below ``base_url``; with *login* it carries the token, which leaves a cookie."""
        address = f"http://127.0.0.1:{self.port}{self.base_url}{path}"
        if not (login and self.token):
            return address
        return f"{address}{'&' if '?' in path else '?'}token={self.token}"

    def get_json(self, path: str) -> Any:
        """The answer of a route to a client with the token."""
        return json.loads(self._request(path))

    def post_json(self, path: str, body: Any) -> Any:
        """The answer of a route to a client with the token."""
        return json.loads(self._request(path, json.dumps(body).encode(), method="POST"))

    def put_json(self, path: str, body: Any) -> Any:
        """The same of a PUT."""
        return json.loads(self._request(path, json.dumps(body).encode(), method="PUT"))

    def add_ipykernel6(self) -> str:
        """Offer the kernel that many still have, which has no subshells; returns its name."""
        assert _IPYKERNEL6.is_dir(), "No ipykernel 6 here: `make test` installs it."
        name = "python-ipykernel6"
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3 (ipykernel 6)",
            "language": "python",
            "env": {"PYTHONPATH": str(_IPYKERNEL6)},  # the rest comes from the environment of the tests
        }
        path = self.folder / "data" / "kernels" / name / "kernel.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(spec))
        return name

    def shut_kernels_down(self) -> None:
        for kernel in self.get_json("api/kernels"):
            self._request(f"api/kernels/{kernel['id']}", method="DELETE")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_ns(self) -> int:
        """The processor time that the server and its threads have had, in nanoseconds."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)

    def timeline(self, conv_id: str) -> list[dict[str, Any]]:
        return list(self.get_json(f"webchat/timeline?conv_id={urllib.parse.quote(conv_id)}"))

    def stored(self, needle: str) -> bool:
        """Whether the files in which the server and its kernels keep conversations hold *needle*."""
        folders = (self.timeline_db.parent, self.folder / "data" / "webchat")
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return any(needle.encode() in path.read_bytes() for path in files)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # -- inside -------------------------------------------------------------------------------------------

    def _request(self, path: str, body: bytes | None = None, *, method: str = "GET") -> bytes:
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url(path), body, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return bytes(response.read())

    def _spawn(self) -> Process:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command_line(), cwd=self.work, env=self._env, stdout=log, stderr=log
            )

    def _command_line(self) -> list[str]:
        line = [str(Path(sys.executable).with_name(f"jupyter-{self.command}")), "--no-browser"]
        if os.geteuid() == 0:
            line.append("--allow-root")
        options: dict[str, object] = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.work,
            "ServerApp.base_url": self.base_url,
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "JupyterNotebookApp.expose_app_in_browser": True,
            "WebChat.timeline_db": self.timeline_db,
        }
        if not self.extension:
            options["ServerApp.jpserver_extensions"] = "jupyter_server_webchat=False"
        if self.password is not None:
            from jupyter_server.auth import passwd

            options["PasswordIdentityProvider.hashed_password"] = passwd(self.password)
        return [*line, *(f"--{name}={value}" for name, value in options.items()), *self._args]

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        dropped = ("OPENAI_", "WEBCHAT_", "JUPYTER", "JPY_", "PYTEST")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        own = {
            "JUPYTER_DATA_DIR": self.folder / "data",
            "JUPYTER_CONFIG_DIR": self.folder / "config",
            "JUPYTER_RUNTIME_DIR": self.folder / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": self.folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": self.folder / "workspaces",
            "IPYTHONDIR": self.folder / "ipython",
        }
        return {**inherited, **{key: str(value) for key, value in own.items()}, **more}

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"jupyter {self.command} ended at once:\n{self.log_text()[-3000:]}")
        try:
            with urllib.request.urlopen(self.url("api"), timeout=2) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False

    def _end(self, signum: signal.Signals, patience: float = 20) -> None:
        process, self._process = self._process, None
        assert process is not None, "not started"
        self._children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signum)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise AssertionError(f"jupyter {self.command} outlived {signum.name} by {patience} s") from None
        finally:
            Jupyter.live.remove(self)
