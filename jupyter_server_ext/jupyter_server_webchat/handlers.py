"""The routes below `{base_url}webchat/` (rest-api.yml): parse, ask, answer."""

from __future__ import annotations

from typing import Any

import msgspec
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.handler import ExtensionHandlerJinjaMixin, ExtensionHandlerMixin
from tornado import web

from webchat_widget.errors import BadRequest
from webchat_widget.requests import (
    check_conv_id,
    parse_approval,
    parse_chat,
    parse_event,
    parse_settings,
    parse_stop,
    parse_timeline_query,
    parse_turns_query,
)

from .base import BodyHandler, StrictOrigin, WebChatHandler
from .kernel_tools import kernel_gone, kernel_tools
from .profiles import ProfileHandler, ProfilesHandler, chosen_profile
from .registration import parse_registration
from .websocket import SemSocketHandler

__all__ = ["ROUTES"]


class ChatHandler(BodyHandler):
    """POST /chat, POST /chat/{profile}"""

    limit_setting = "webchat_max_attachment_bytes"

    @web.authenticated
    @authorized(action="execute", resource="webchat:chat")
    async def post(self, profile: str | None = None) -> None:
        """Take a prompt."""
        request = parse_chat(
            self.body(),
            profile=chosen_profile(self, self.service, profile),
            header_key=self.request.headers.get("Idempotency-Key"),
        )
        reply = await self.service.chat(request, self.owner)
        if reply.replayed:
            self.set_header("Idempotency-Replayed", "true")
        self.answer(reply.body, reply.status)


class TimelineHandler(WebChatHandler):
    """GET /timeline"""

    @web.authenticated
    @authorized(action="read", resource="webchat:timeline")
    async def get(self) -> None:
        """The rows of a conversation."""
        names = ("conv_id", "since_version", "limit", "before", "unfinished")
        query = parse_timeline_query(*(self.argument(name) for name in names))
        page, epoch = await self.service.timeline(query)
        self.set_header("X-Timeline-Version", str(page.version))
        self.set_header("X-Timeline-Epoch", epoch)
        self.set_header("X-Timeline-More", "true" if page.more else "false")
        self.answer(page.entities)


class TurnsHandler(WebChatHandler):
    """GET /turns"""

    @web.authenticated
    @authorized(action="read", resource="webchat:turns")
    async def get(self) -> None:
        """What the model was sent, and what came of it."""
        names = ("conv_id", "run_id", "phase", "limit")
        page = await self.service.turns(parse_turns_query(*(self.argument(name) for name in names)))
        self.set_header("X-Turns-More", "true" if page.more else "false")
        self.answer(page.turns)


class StopHandler(BodyHandler):
    """POST /conversations/{conv_id}/stop"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:stop")
    async def post(self, conv_id: str) -> None:
        """End a run."""
        check_conv_id(conv_id)
        await self.service.stop(conv_id, parse_stop(self.body()))
        self.answer({"status": "stopped", "conv_id": conv_id})


class HandoverHandler(BodyHandler):
    """POST /conversations/{conv_id}/handover"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:handover")
    async def post(self, conv_id: str) -> None:
        """Leave a conversation to a kernel."""
        check_conv_id(conv_id)
        self.body()  # nothing is asked for in it, but its limits hold
        known = await self.service.hand_over(conv_id)
        self.answer({"status": "handed_over" if known else "unknown", "conv_id": conv_id})


class SettingsHandler(BodyHandler):
    """PUT /conversations/{conv_id}/settings"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:settings")
    async def put(self, conv_id: str) -> None:
        """What later runs of a conversation begin with."""
        check_conv_id(conv_id)
        settings = parse_settings(self.body())
        await self.service.configure(conv_id, settings)
        self.answer(msgspec.to_builtins(settings))


class ToolsHandler(BodyHandler):
    """PUT /conversations/{conv_id}/tools"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:tools")
    async def put(self, conv_id: str) -> None:
        """What a notebook adds to its conversation: tools of its kernel, texts that prompts may name, and
        profiles."""
        check_conv_id(conv_id)
        registration = parse_registration(self.body())
        tools = kernel_tools(self.kernel_manager, conv_id, registration)
        contexts = {context.name: context.text for context in registration.contexts}
        gone = kernel_gone(self.kernel_manager, registration.kernel_id)
        self.service.equip(conv_id, tools, contexts, registration.profiles, gone)
        self.answer({"tools": tools.names})


class ApprovalHandler(BodyHandler):
    """POST /conversations/{conv_id}/approvals/{call_id}"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:approvals")
    async def post(self, conv_id: str, call_id: str) -> None:
        """Say yes or no to a tool call."""
        check_conv_id(conv_id)
        decision = parse_approval(self.body())
        await self.service.approve(conv_id, call_id, decision)
        status = "denied" if decision.decision == "deny" else decision.decision
        self.answer({"status": status, "call_id": call_id})


class PauseHandler(BodyHandler):
    """POST /conversations/{conv_id}/pauses/{pause_id}"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:pauses")
    async def post(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode."""
        check_conv_id(conv_id)
        self.body()  # nothing is asked for in it, but its limits hold
        await self.service.resume(conv_id, pause_id)
        self.answer({"status": "continued", "pause_id": pause_id})


class EventsHandler(BodyHandler):
    """POST /conversations/{conv_id}/events"""

    @web.authenticated
    @authorized(action="execute", resource="webchat:events")
    async def post(self, conv_id: str) -> None:
        """Make or change a row of a person's own kind, outside of any run."""
        check_conv_id(conv_id)
        self.answer({"id": await self.service.emit(conv_id, parse_event(self.body()))})


class ConversationsHandler(WebChatHandler):
    """GET /conversations"""

    @web.authenticated
    @authorized(action="read", resource="webchat:conversations")
    async def get(self) -> None:
        """All conversations, newest first."""
        self.answer(await self.service.conversations(self.argument("q") or ""))


class HealthHandler(WebChatHandler):
    """GET /health"""

    @web.authenticated
    @authorized(action="read", resource="webchat:health")
    async def get(self) -> None:
        """That this is a chat server, and who answers in it."""
        self.answer(self.service.health())


class PageHandler(StrictOrigin, ExtensionHandlerJinjaMixin, ExtensionHandlerMixin, JupyterHandler):
    """GET /: the widget as a page"""

    @web.authenticated
    @authorized(action="read", resource="webchat:page")
    async def get(self) -> None:
        """The page. Its conversation and profile are in its URL, which it reads itself: a bookmark opens what
        was said, also where its profile is gone."""
        conv_id = self.get_query_argument("conv_id", None)
        if conv_id is not None:
            try:
                check_conv_id(conv_id)
            except BadRequest as error:
                raise web.HTTPError(400, error.message) from None
        _ = self.xsrf_token  # makes the cookie that the page's POSTs need
        self.set_header("Cache-Control", "no-store")
        html = self.render_template("webchat.html", config={"baseUrl": self.base_url}, static=self._static)
        self.finish(html)

    @property
    def content_security_policy(self) -> str:
        """This page shares its origin with kernels: it may run its own files and nothing else."""
        inherited = super().content_security_policy
        own = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
            "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
        )
        return f"{inherited}; {own}"

    def _static(self, name: str) -> str:
        url: str = self.static_url(name)
        return url


class SlashHandler(StrictOrigin, JupyterHandler):
    """GET /webchat: the page's address without its slash"""

    @web.authenticated
    @authorized(action="read", resource="webchat:page")
    def get(self) -> None:
        """Go to the page."""
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{self.base_url}webchat/{query}")


_ID = r"([^/]+)"

ROUTES: list[tuple[Any, ...]] = [
    (r"webchat", SlashHandler),
    (r"webchat/", PageHandler),
    (r"webchat/health", HealthHandler),
    (r"webchat/chat", ChatHandler),
    (rf"webchat/chat/{_ID}", ChatHandler),
    (r"webchat/timeline", TimelineHandler),
    (r"webchat/turns", TurnsHandler),
    (r"webchat/ws", SemSocketHandler),
    (r"webchat/conversations", ConversationsHandler),
    (rf"webchat/conversations/{_ID}/stop", StopHandler),
    (rf"webchat/conversations/{_ID}/settings", SettingsHandler),
    (rf"webchat/conversations/{_ID}/handover", HandoverHandler),
    (rf"webchat/conversations/{_ID}/tools", ToolsHandler),
    (rf"webchat/conversations/{_ID}/approvals/{_ID}", ApprovalHandler),
    (rf"webchat/conversations/{_ID}/events", EventsHandler),
    (rf"webchat/conversations/{_ID}/pauses/{_ID}", PauseHandler),
    (r"webchat/api/chat/profiles", ProfilesHandler),
    (r"webchat/api/chat/profile", ProfileHandler),
]
