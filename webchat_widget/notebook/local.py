"""Python in a kernel as a client of the chat that this kernel hosts: no wire in between, the same checks."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from webchat_widget.errors import BadRequest
from webchat_widget.requests import (
    EventRequest,
    TimelineQuery,
    parse_approval,
    parse_chat,
    parse_settings,
    parse_turns_query,
)
from webchat_widget.runtime.service import ChatService
from webchat_widget.typing import JSONObject

from .chat import Changes, Chat
from .host import KernelHost
from .hosted import Hosted

__all__ = ["LocalChat"]

_T = TypeVar("_T")


class LocalChat(Chat):
    """One hosted conversation. Raises WebChatError; ConversationHeld and StoreUnavailable from every call."""

    def __init__(self, host: KernelHost, hosted: Hosted) -> None:
        self._host = host
        self._hosted = hosted

    def post(
        self, prompt: str, *, conv_id: str, profile: str = "default", overrides: JSONObject | None = None
    ) -> JSONObject:
        """Hand in a prompt; done when it is on disk."""
        body = {
            "prompt": prompt,
            "conv_id": conv_id,
            "idempotency_key": str(uuid.uuid4()),
            "overrides": overrides,
        }
        request = parse_chat(_encoded(body), profile=profile)
        return self._ask(lambda service: service.chat(request)).body

    def stop(self, conv_id: str, run_id: str | None = None) -> None:
        """End the run that is under way, or that of the id."""
        self._ask(lambda service: service.stop(conv_id, run_id))

    def changes(self, conv_id: str, since: int = 0) -> Changes:
        """The rows that changed after version `since`."""
        page, epoch = self._ask(lambda service: service.timeline(TimelineQuery(conv_id, since=since)))
        return Changes(page.entities, page.version, epoch)

    def turns(
        self, conv_id: str, run_id: str | None = None, phase: str | None = None, limit: int | None = None
    ) -> list[JSONObject]:
        """What the model was sent and gave."""
        query = parse_turns_query(conv_id, run_id, phase, None if limit is None else str(limit))
        return self._ask(lambda service: service.turns(query)).turns

    def health(self) -> JSONObject:
        """What this kernel's chat says about itself."""

        async def health(service: ChatService) -> JSONObject:
            return service.health()

        return self._ask(health)

    def conversations(self) -> list[JSONObject]:
        """This one conversation, where something was said in it."""
        found = self._ask(lambda service: service.conversations())
        return [msgspec.to_builtins(summary) for summary in found]

    def configure(self, conv_id: str, settings: JSONObject) -> None:
        """What later runs of the conversation begin with."""
        chosen = parse_settings(_encoded(settings))
        self._ask(lambda service: service.configure(conv_id, chosen))

    def approve(self, conv_id: str, call_id: str, decision: str, digest: str, reason: str = "") -> None:
        """Decide on a tool call that asks."""
        decided = parse_approval(_encoded({"decision": decision, "digest": digest, "reason": reason}))
        self._ask(lambda service: service.approve(conv_id, call_id, decided))

    def resume(self, conv_id: str, pause_id: str) -> None:
        """Let a run go on that waits in step mode."""
        self._ask(lambda service: service.resume(conv_id, pause_id))

    def profiles(self, conv_id: str) -> list[JSONObject]:
        """The profiles that prompts of the conversation may name."""

        async def profiles(service: ChatService) -> list[JSONObject]:
            return service.profiles(conv_id)

        return self._ask(profiles)

    def emit(self, conv_id: str, event: EventRequest) -> str:
        """Make or change a row of a person's own kind."""
        return self._ask(lambda service: service.emit(conv_id, event))

    def _ask(self, question: Callable[[ChatService], Awaitable[_T]]) -> _T:
        async def ask() -> _T:
            return await question(await self._hosted.ready())

        return self._host.call(ask())


def _encoded(body: JSONObject) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise BadRequest("The text holds a lone surrogate, which is no character.", code="bad_json") from None
