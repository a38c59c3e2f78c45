"""A kernel as a client of the server that started it, over plain HTTP.

A kernel knows the process that started it (`JPY_PARENT_PID`); that process has written its address and its
token to Jupyter's runtime directory, readable for its owner only. On a Hub the token is the user's own.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Generator, Iterator, Mapping
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jupyter_core.paths import jupyter_runtime_dir
from msgspec import Struct

from webchat_widget.errors import ServerUnavailable, WebChatError
from webchat_widget.typing import Entity, JSONObject

__all__ = ["RemoteChat", "RemoteRun", "Server", "find_server"]

_CONNECT_SECONDS = 10.0
_PATIENCE_SECONDS = 30.0
"""How long a wait goes on while the server can't be reached: a restart takes less."""
_FASTEST_POLL, _SLOWEST_POLL = 0.05, 0.5
_ENDED = frozenset({"finished", "stopped", "failed"})


class Server(Struct, frozen=True):
    """Where a Jupyter server is: `url` ends in a slash; `token` is a credential for it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Server({self.url!r})"  # the token stays out of tracebacks and logs


def find_server() -> Server:
    """The server that started this kernel. Raises ServerUnavailable, with what to do."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    described = Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json"
    try:
        info = json.loads(described.read_text(encoding="utf-8"))
        url, token = str(info["url"]), str(info.get("token") or "")
    except (OSError, ValueError, KeyError, TypeError):
        raise ServerUnavailable(
            "This kernel was not started by a Jupyter server on this machine, so there is no chat to talk to "
            "from Python. Open the notebook in JupyterLab or Jupyter Notebook.",
            code="no_server",
        ) from None
    token = token or os.environ.get("JUPYTERHUB_API_TOKEN", "")
    if info.get("password") and not token:
        raise ServerUnavailable(
            "This Jupyter server wants a password, which a kernel does not have: chat in the widget, or "
            "start the server with a token to chat from Python too.",
            code="no_credential",
        )
    return Server(url if url.endswith("/") else f"{url}/", token)


class Changes(Struct, frozen=True):
    """Rows that changed, the version up to which that is all, and the host's epoch."""

    entities: list[Entity]
    version: int
    epoch: str


class RemoteChat:
    """The routes of a chat server as calls. All of them block; each raises ServerUnavailable where the server
    can't be reached or is no chat server, and WebChatError for what the server itself refuses."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cookies = CookieJar()
        self._open = urllib.request.build_opener(
            # A proxy of the environment has no business between a kernel and its own server.
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(self._cookies),
        ).open

    def __repr__(self) -> str:
        return f"RemoteChat({self._server.url!r})"

    def send(self, prompt: str, *, conv_id: str, profile: str = "default") -> RemoteRun:
        """Send a prompt; done when the server has it on disk."""
        path = "chat" if profile == "default" else f"chat/{quote(profile, safe='')}"
        body = {"prompt": prompt, "conv_id": conv_id, "idempotency_key": str(uuid.uuid4())}
        try:
            reply = self._call("POST", path, body)
        except ServerUnavailable as error:
            if error.code != "unreachable":
                raise
            reply = self._call("POST", path, body)  # the key makes a second try harmless
        return RemoteRun(self, conv_id, reply["run_id"], reply["status"])

    def stop(self, conv_id: str, run_id: str | None = None) -> None:
        """End the run that is under way, or that of the id."""
        path = f"conversations/{quote(conv_id, safe='')}/stop"
        self._call("POST", path, {"run_id": run_id} if run_id else {})

    def timeline(self, conv_id: str) -> list[Entity]:
        """The rows of a conversation."""
        return self.changes(conv_id).entities

    def changes(self, conv_id: str, since: int = 0) -> Changes:
        """The rows that changed after version `since`."""
        query = urlencode({"conv_id": conv_id, "since_version": since})
        rows, headers = self._ask("GET", f"timeline?{query}")
        try:
            return Changes(rows, int(headers["X-Timeline-Version"]), headers["X-Timeline-Epoch"])
        except (KeyError, ValueError, TypeError):
            raise _no_extension() from None

    def health(self) -> JSONObject:
        """What the server says about itself."""
        health: JSONObject = self._call("GET", "health")
        return health

    def configure(self, conv_id: str, settings: JSONObject) -> None:
        """What later runs of the conversation begin with."""
        self._call("PUT", f"conversations/{quote(conv_id, safe='')}/settings", settings)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, path, body)[0]

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[Any, Mapping[str, str]]:
        """Body and headers of the answer."""
        request = urllib.request.Request(
            f"{self._server.url}webchat/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if self._server.token:
            request.add_header("Authorization", f"token {self._server.token}")
        try:
            if not self._server.token and method != "GET":  # a server that asks for nothing asks for this
                request.add_header("X-XSRFToken", self._xsrf())
            with self._open(request, timeout=_CONNECT_SECONDS) as reply:
                return json.loads(reply.read()), reply.headers
        except KeyboardInterrupt:
            # The frames below hold the token: a verbose traceback would print it into the notebook.
            raise KeyboardInterrupt from None
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnavailable(
                f"The Jupyter server at {self._server.url} does not answer "
                f"({type(error).__name__}). Is it running?",
                code="unreachable",
            ) from None
        except ValueError:
            raise _no_extension() from None

    def _xsrf(self) -> str:
        """The token that the page's cookie carries; the cookie also makes us the same user each time."""
        for _ in range(2):
            for cookie in self._cookies:
                if cookie.name == "_xsrf":
                    return cookie.value or ""
            self._open(f"{self._server.url}webchat/", timeout=_CONNECT_SECONDS).close()
        return ""


def _refusal(error: urllib.error.HTTPError) -> WebChatError:
    """What a status of the server means here."""
    try:
        body = json.loads(error.read())
        message, code = str(body["message"]), str(body["code"])
    except (OSError, ValueError, KeyError, TypeError):
        if error.code in (401, 403):
            return _no_access()
        return _no_extension()
    if error.code in (401, 403):
        return _no_access()
    refused = WebChatError(message, code=code)
    refused.status = error.code
    return refused


def _no_access() -> ServerUnavailable:
    return ServerUnavailable(
        "The Jupyter server does not let this kernel in. Restart the kernel after a restart of the server; "
        "chat in the widget until then.",
        code="no_credential",
    )


def _no_extension() -> ServerUnavailable:
    return ServerUnavailable(
        "This Jupyter server runs without the webchat extension. Restart the server after `pip install "
        "webchat-widget`; `jupyter server extension list` shows whether it is enabled.",
        code="no_extension",
    )


class RemoteRun:
    """A prompt that was sent. `status`: queued, started, finished, stopped or failed."""

    def __init__(self, chat: RemoteChat, conv_id: str, run_id: str, status: str) -> None:
        self._chat = chat
        self._conv_id = conv_id
        self._rows: dict[str, Entity] = {}
        self._status = status
        self._version = 0
        self._epoch = ""
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"<run {self._status}>"

    @property
    def status(self) -> str:
        """How it stands now."""
        self._refresh()
        return self._status

    @property
    def text(self) -> str:
        """The answer so far: the last text that the model wrote in this run."""
        self._refresh()
        texts = [row for id, row in self._rows.items() if id.startswith(f"{self.run_id}:text:")]
        return str(max(texts, key=lambda row: row["createdSeq"])["props"]["content"]) if texts else ""

    @property
    def error(self) -> str | None:
        """Why it failed, as a sentence; None where it did not."""
        self._refresh()
        said = self._rows.get(f"{self.run_id}:error")
        run = self._rows.get(self.run_id)
        if said is not None:
            return str(said["props"]["message"])
        return run["props"].get("error") if run else None

    def stop(self) -> None:
        """End it, or take it out of the queue."""
        self._chat.stop(self._conv_id, self.run_id)

    def wait(self, timeout: float | None = None) -> RemoteRun:
        """Wait for the end, at most `timeout` seconds, and return the run. A failed run does not raise.

        Raises TimeoutError, which leaves it running, and ServerUnavailable.
        """
        for pause in self._polls(timeout):
            time.sleep(pause)
        return self

    def __await__(self) -> Generator[Any, None, RemoteRun]:
        return self._wait().__await__()

    async def _wait(self) -> RemoteRun:
        polls = self._polls(None)
        while True:
            pause = await asyncio.to_thread(next, polls, None)
            if pause is None:
                return self
            await asyncio.sleep(pause)

    def _polls(self, timeout: float | None) -> Iterator[float]:
        """Ask until the run has ended; between two questions, yield how long to pause."""
        began = heard = time.monotonic()
        pause = _FASTEST_POLL
        while True:
            try:
                self._refresh()
                heard = time.monotonic()
            except WebChatError as error:
                if error.status < 500 or error.code == "run_lost":
                    raise
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise
            if self._status in _ENDED:
                return
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if left is not None and left <= 0:
                raise TimeoutError(f"The run has not ended within {timeout:g} s; it goes on.")
            yield pause if left is None else min(pause, left)
            pause = min(pause * 1.3, _SLOWEST_POLL)

    def _refresh(self) -> None:
        """Take in what changed. Two of these may be under way at once, so an older answer changes nothing."""
        if self._status in _ENDED:
            return
        changes = self._chat.changes(self._conv_id, self._version)
        if changes.epoch != self._epoch:  # the host was started again: only a look at everything tells
            if self._version:
                changes = self._chat.changes(self._conv_id)
            if not any(row["id"] == self.run_id for row in changes.entities):
                raise ServerUnavailable(
                    "The server does not know this run any more: its conversations were not kept.",
                    code="run_lost",
                )
            self._epoch = changes.epoch
        for row in changes.entities:
            if row["id"] != self.run_id and not row["id"].startswith(f"{self.run_id}:"):
                continue
            held = self._rows.get(row["id"])
            if held is None or row["version"] > held["version"]:
                self._rows[row["id"]] = row
        self._version = max(self._version, changes.version)
        if self._status not in _ENDED and self.run_id in self._rows:
            self._status = str(self._rows[self.run_id]["props"]["status"])
