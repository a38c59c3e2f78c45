"""A kernel as a client of the server that started it, over plain HTTP.

A kernel knows the process that started it (`JPY_PARENT_PID`); that process has written its address and its
token to Jupyter's runtime directory, readable for its owner only. On a Hub the token is the user's own.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from jupyter_core.paths import jupyter_runtime_dir
from msgspec import Struct

from webchat_widget.errors import ConversationHeld, ServerUnavailable, WebChatError
from webchat_widget.profiles import Profile
from webchat_widget.requests import EventRequest
from webchat_widget.tools.registry import Tool
from webchat_widget.typing import JSONObject

from .chat import Changes, Chat

__all__ = ["RemoteChat", "Server", "find_server", "was_started_by_a_server"]

_CONNECT_SECONDS = 10.0


class Server(Struct, frozen=True):
    """Where a Jupyter server is: `url` ends in a slash; `token` is a credential for it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Server({self.url!r})"  # the token stays out of tracebacks and logs


def find_server() -> Server:
    """The server that started this kernel. Raises ServerUnavailable, with what to do."""
    try:
        info = json.loads(_description().read_text(encoding="utf-8"))
        url, token = str(info["url"]), str(info.get("token") or "")
    except (OSError, ValueError, KeyError, TypeError):
        raise ServerUnavailable(
            "This kernel was not started by a Jupyter server on this machine.", code="no_server"
        ) from None
    token = token or os.environ.get("JUPYTERHUB_API_TOKEN", "")
    if info.get("password") and not token:
        raise _no_access(token)
    return Server(url if url.endswith("/") else f"{url}/", token)


def was_started_by_a_server() -> bool:
    """Whether a Jupyter server, and not another program, started this kernel."""
    return _description().exists()


def _description() -> Path:
    """What the server that started this kernel wrote about itself."""
    return Path(jupyter_runtime_dir()) / f"jpserver-{os.environ.get('JPY_PARENT_PID', '')}.json"


class RemoteChat(Chat):
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

    def post(
        self, prompt: str, *, conv_id: str, profile: str = "default", overrides: JSONObject | None = None
    ) -> JSONObject:
        """Hand in a prompt; done when the server has it on disk."""
        path = f"chat/{quote(profile, safe='')}"
        body = {
            "prompt": prompt,
            "conv_id": conv_id,
            "idempotency_key": str(uuid.uuid4()),
            "overrides": overrides,
        }
        try:
            reply: JSONObject = self._call("POST", path, body)
        except ServerUnavailable as error:
            if error.code != "unreachable":
                raise
            reply = self._call("POST", path, body)  # the key makes a second try harmless
        return reply

    def stop(self, conv_id: str, run_id: str | None = None) -> None:
        """End the run that is under way, or that of the id."""
        path = f"conversations/{quote(conv_id, safe='')}/stop"
        self._call("POST", path, {"run_id": run_id} if run_id else {})

    def changes(self, conv_id: str, since: int = 0) -> Changes:
        """The rows that changed after version `since`."""
        query = urlencode({"conv_id": conv_id, "since_version": since})
        rows, headers = self._ask("GET", f"timeline?{query}")
        try:
            return Changes(rows, int(headers["X-Timeline-Version"]), headers["X-Timeline-Epoch"])
        except (KeyError, ValueError, TypeError):
            raise _no_extension() from None

    def turns(
        self, conv_id: str, run_id: str | None = None, phase: str | None = None, limit: int | None = None
    ) -> list[JSONObject]:
        """What the model was sent and gave."""
        asked = {"conv_id": conv_id, "run_id": run_id, "phase": phase, "limit": limit}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        turns: list[JSONObject] = self._call("GET", f"turns?{query}")
        return turns

    def health(self) -> JSONObject:
        """What the server says about itself."""
        health: JSONObject = self._call("GET", "health")
        return health

    def conversations(self) -> list[JSONObject]:
        """What the server keeps, newest first."""
        found: list[JSONObject] = self._call("GET", "conversations")
        return found

    def configure(self, conv_id: str, settings: JSONObject) -> None:
        """What later runs of the conversation begin with."""
        self._call("PUT", f"conversations/{quote(conv_id, safe='')}/settings", settings)

    def approve(self, conv_id: str, call_id: str, decision: str, digest: str, reason: str = "") -> None:
        """Decide on a tool call that asks."""
        path = f"conversations/{quote(conv_id, safe='')}/approvals/{quote(call_id, safe='')}"
        self._call("POST", path, {"decision": decision, "digest": digest, "reason": reason})

    def resume(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode."""
        self._call("POST", f"conversations/{quote(conv_id, safe='')}/pauses/{quote(pause_id, safe='')}", {})

    def profiles(self, conv_id: str) -> list[JSONObject]:
        """The profiles that prompts of the conversation may name."""
        profiles: list[JSONObject] = self._call("GET", f"api/chat/profiles?{urlencode({'conv_id': conv_id})}")
        return profiles

    def emit(self, conv_id: str, event: EventRequest) -> str:
        """Make or change a row of a person's own kind."""
        body = {"kind": event.kind, "id": event.id, "props": event.props}
        return str(self._call("POST", f"conversations/{quote(conv_id, safe='')}/events", body)["id"])

    def register(
        self,
        conv_id: str,
        kernel_id: str,
        tools: Iterable[Tool],
        contexts: Mapping[str, str],
        profiles: Iterable[Profile] = (),
    ) -> None:
        """Have the server call these tools in that kernel for the conversation, in place of earlier ones.

        `contexts` are texts by name, for prompts that say `@name`, and `profiles` are the conversation's own.
        """
        body = {
            "kernel_id": kernel_id,
            "tools": [_described(tool) for tool in tools],
            "contexts": [{"name": name, "text": text} for name, text in contexts.items()],
            "profiles": [msgspec.to_builtins(profile) for profile in profiles],
        }
        self._call("PUT", f"conversations/{quote(conv_id, safe='')}/tools", body)

    def hand_over(self, conv_id: str) -> None:
        """Ask the server to leave a conversation to this kernel: its file is then where a kernel looks."""
        self._call("POST", f"conversations/{quote(conv_id, safe='')}/handover", {})

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
                raise _refusal(error, self._server.token) from None
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


def _described(tool: Tool) -> JSONObject:
    """A tool as the server is told of it; the kernel decides whether to ask where the tool does not say."""
    schema = tool.schema
    return {
        "name": schema.name,
        "description": schema.description,
        "parameters": schema.parameters,
        "approval": getattr(tool, "approval", "predicate"),
    }


def _refusal(error: urllib.error.HTTPError, token: str) -> WebChatError:
    """What a status of the server means here."""
    try:
        body = json.loads(error.read())
        message, code = str(body["message"]), str(body["code"])
    except (OSError, ValueError, KeyError, TypeError):
        if error.code in (401, 403):
            return _no_access(token)
        return _no_extension()
    if error.code in (401, 403):
        return _no_access(token)
    if code == ConversationHeld.code:
        return ConversationHeld(message)
    refused = WebChatError(message, code=code)
    refused.status = error.code
    return refused


def _no_access(token: str) -> ServerUnavailable:
    if not token:
        return ServerUnavailable(
            "This Jupyter server wants a password, which a kernel does not have. Start the server with a "
            "token to talk to its chat from Python.",
            code="no_credential",
        )
    return ServerUnavailable(
        "The Jupyter server does not let this kernel in: its token has changed. Restart the kernel.",
        code="no_credential",
    )


def _no_extension() -> ServerUnavailable:
    return ServerUnavailable(
        "This Jupyter server runs without the webchat extension. Restart the server after `pip install "
        "webchat-widget`; `jupyter server extension list` shows whether it is enabled.",
        code="no_extension",
    )
