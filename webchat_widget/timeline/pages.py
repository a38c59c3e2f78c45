"""Which rows a reader gets: GET /timeline, as a function (docs/contract.md, 4)."""

from __future__ import annotations

from msgspec import Struct

from webchat_widget.typing import Entity

from .entities import is_open

__all__ = ["Page", "page"]


class Page(Struct, frozen=True):
    """`version`: the page covers every change up to here; `more`: the limit left rows out."""

    entities: list[Entity]
    version: int
    more: bool


def page(
    entities: list[Entity],
    version: int,
    *,
    since: int | None = None,
    limit: int | None = None,
    before: int | None = None,
    unfinished: bool = False,
) -> Page:
    """Choose from all `entities`, which are in `createdSeq` order; so is what is returned.

    Alone: all. `limit`: the newest. `before` (a createdSeq): the page before it. `since`: rows that changed
    after that version; where `limit` cuts, those with the lowest versions, so that asking again goes on.
    `unfinished`: runs that have not ended, and what they have not brought to its end, wherever it is.
    """
    if unfinished:
        entities = [e for e in entities if is_open(e)]
    if since is not None:
        changed = [e for e in entities if e["version"] > since]
        if limit is None or len(changed) <= limit:
            return Page(changed, version, False)
        last = sorted(e["version"] for e in changed)[limit - 1]
        return Page([e for e in changed if e["version"] <= last], last, True)
    if before is not None:
        entities = [e for e in entities if e["createdSeq"] < before]
    if limit is None or len(entities) <= limit:
        return Page(entities, version, False)
    return Page(entities[-limit:], version, True)
