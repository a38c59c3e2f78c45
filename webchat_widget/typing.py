"""Names for the shapes that travel: JSON values, SEM events, entities."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

__all__ = ["Entity", "JSONObject", "SemEvent", "Usage"]

JSONObject = dict[str, Any]


class Usage(TypedDict):
    """Tokens, as the model's server counted them."""

    inputTokens: int
    outputTokens: int
    cachedTokens: int


class SemEvent(TypedDict):
    """The `event` of a SEM frame (docs/contract.md, 3)."""

    type: str
    id: str
    seq: int
    createdSeq: NotRequired[int]
    data: JSONObject
    metadata: NotRequired[JSONObject]


class Entity(TypedDict):
    """One row of a timeline as `/timeline` gives it (docs/contract.md, 5). Times are Unix ms."""

    id: str
    kind: str
    createdAt: int
    updatedAt: int
    createdSeq: int
    version: int
    props: JSONObject
