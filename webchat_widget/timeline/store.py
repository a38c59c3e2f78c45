"""What a store of timelines promises; `sqlite` keeps it in a file, `memory` until the process ends.

A conversation's rows, its unfinished runs, its turns and its idempotency keys live and change together:
one `Batch` is one transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from webchat_widget.requests import TurnsQuery
from webchat_widget.turns import Message, ToolSchema
from webchat_widget.typing import JSONObject

from .entities import Row

__all__ = [
    "Batch",
    "HandsOver",
    "KeyRecord",
    "Loaded",
    "PendingRun",
    "Summary",
    "TimelineStore",
    "TurnRecord",
    "TurnsPage",
]


class KeyRecord(Struct, frozen=True):
    """The first answer to an idempotency key. `created` is Unix ms; `digest` that of the request."""

    user: str
    key: str
    digest: str
    status: int
    body: JSONObject
    created: int


class PendingRun(Struct, frozen=True):
    """An accepted prompt that has not come to its end: what is needed to run it after a restart.

    `checkpoint` is where a run that had begun stands, from the calls of the last answer on.
    """

    run_id: str
    seq: int
    started: bool
    request: dict[str, Any]
    checkpoint: JSONObject | None = None


class TurnRecord(Struct, frozen=True, kw_only=True):
    """One look at a run's dealings with its model: `phase` is `pre_inference` (the whole input of a request),
    `post_inference` (what came, a message of role `thinking` first where it thought aloud) or `post_tools`
    (the results of its calls).

    `n` counts the run's requests to the engine from 1. `model` is the one that was asked; `finish` says how
    an answer ended (docs/contract.md, 4). `seq` is the coordinator's to give.
    """

    run_id: str
    n: int
    phase: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    model: str | None = None
    finish: JSONObject | None = None
    seq: int = 0


class TurnsPage(Struct, frozen=True):
    """Records in the order of their `seq`, as GET /turns gives them; `more`: older ones were left out."""

    turns: list[JSONObject]
    more: bool = False


class Batch(Struct, frozen=True, kw_only=True):
    """One transaction. Rows are whole: the caller merged them already."""

    conv_id: str
    version: int
    rows: tuple[Row, ...] = ()
    pending: tuple[PendingRun, ...] = ()
    checkpoints: tuple[tuple[str, JSONObject], ...] = ()
    """Runs' ids and where they stand now; nothing happens to a run that is not there any more."""
    ended: tuple[str, ...] = ()
    turns: tuple[tuple[str, tuple[Message, ...]], ...] = ()
    """Runs' ids and the messages that they add to the model's memory."""
    records: tuple[TurnRecord, ...] = ()
    """Parts that can't be encoded are replaced by a message that says so: a record fails no batch."""
    grants: tuple[str, ...] = ()
    """Names of tools that this conversation may call from now on without asking."""
    key: KeyRecord | None = None
    title: str | None = None
    """Taken where the conversation has none yet."""


class Loaded(Struct, frozen=True):
    """All of a conversation that its host needs in order to go on."""

    version: int
    rows: list[Row]
    pending: list[PendingRun]
    memory: list[Message]
    settings: JSONObject
    grants: tuple[str, ...] = ()
    complete: bool = True
    """False where there are unfinished runs that were left out, because nothing may be written at present."""


class Summary(Struct, frozen=True):
    """A conversation in a list; times are Unix ms."""

    conv_id: str
    title: str
    created_at: int
    updated_at: int


class TimelineStore(Protocol):
    """Every call raises StoreUnavailable where the disk, or the database on it, refuses, and ConversationHeld
    where it needs a conversation that somebody else has open. What can only be read is read: `load` leaves
    its unfinished runs out, which could not be brought to their ends."""

    @property
    def notices(self) -> list[str]:
        """What a person should know of the file, in sentences; nothing where all is well."""
        ...

    def write(self, batch: Batch) -> Awaitable[None]:
        """Commit a batch; done means on disk. Batches are committed in the order of the calls."""
        ...

    async def load(self, conv_id: str) -> Loaded | None:
        """A conversation, or None where it is unknown."""
        ...

    async def turns(self, query: TurnsQuery) -> TurnsPage:
        """What models were sent and gave in a conversation, the newest that `query` asks for, at least one of
        them and no more than fit in some 30 MB. Of an unknown conversation there are none."""
        ...

    async def unfinished(self) -> list[str]:
        """The conversations with runs that have not ended."""
        ...

    async def key(self, user: str, key: str) -> KeyRecord | None:
        """The record of an idempotency key; whether it is too old to count is the caller's to say.

        Where nobody knows who asks, as in a kernel, `user` is "": its keys are everybody's, and everybody's
        are its own. A conversation that moves, and a page with it, is known by another name at its new place.
        """
        ...

    async def save_settings(self, conv_id: str, settings: JSONObject, now: int) -> None:
        """Replace a conversation's settings; `now` is Unix ms."""
        ...

    async def conversations(self, query: str = "", limit: int = 500) -> list[Summary]:
        """Conversations that hold at least one row, newest first, whose title or id contains `query`."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, and let go of the file."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A store that can leave a conversation to a kernel, and takes it back in when it is asked for it."""

    async def hand_over(self, conv_id: str) -> bool:
        """Move a conversation to where a kernel looks for it; done means on disk. False: it is unknown.

        Raises StoreUnavailable and ConversationHeld; the conversation is then where it was.
        """
        ...
