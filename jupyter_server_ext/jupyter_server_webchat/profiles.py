"""Which profile a request is about, and the routes by which a page picks one."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from webchat_widget.errors import NotFound
from webchat_widget.profiles import DEFAULT
from webchat_widget.requests import check_conv_id, parse_profile
from webchat_widget.runtime.service import ChatService

from .base import BodyHandler, WebChatHandler

__all__ = ["ProfileHandler", "ProfilesHandler", "chosen_profile"]

_COOKIE = "chat_profile"
_DAYS = 365


def chosen_profile(handler: web.RequestHandler, service: ChatService, in_path: str | None = None) -> str:
    """The slug that the path names, else `?profile=`, else the cookie, else the default one.

    One that is named need not be there, which is for the service to refuse. A cookie may be a year old, or
    from another server on this host, for cookies know no ports: one that is not there is passed over.
    """
    named = in_path or handler.get_query_argument("profile", None)
    if named:
        return named
    cookie = handler.get_cookie(_COOKIE)
    return cookie if cookie and service.has_profile(cookie) else DEFAULT


class ProfilesHandler(WebChatHandler):
    """GET /api/chat/profiles"""

    @web.authenticated
    @authorized(action="read", resource="webchat:profiles")
    async def get(self) -> None:
        """The server's profiles, and those of a conversation."""
        conv_id = self.argument("conv_id")
        self.answer(self.service.profiles(None if conv_id is None else check_conv_id(conv_id)))


class ProfileHandler(BodyHandler):
    """GET, POST /api/chat/profile"""

    @web.authenticated
    @authorized(action="read", resource="webchat:profiles")
    async def get(self) -> None:
        """The profile of this browser's prompts that name none."""
        self.answer({"slug": self._known(chosen_profile(self, self.service))})

    @web.authenticated
    @authorized(action="write", resource="webchat:profiles")
    async def post(self) -> None:
        """Remember one of the server's. Those of a conversation are none of all the others'."""
        slug = self._known(parse_profile(self.body()))
        self.set_cookie(
            _COOKIE,
            slug,
            expires_days=_DAYS,
            path=f"{self.base_url}webchat/",
            httponly=True,
            samesite="Strict",
            secure=self.request.protocol == "https",
        )
        self.answer({"slug": slug})

    def _known(self, slug: str) -> str:
        if not self.service.has_profile(slug):
            known = ", ".join(each["slug"] for each in self.service.profiles())
            raise NotFound(f"There is no profile {slug[:100]!r}. Profiles: {known}.", code="unknown_profile")
        return slug
