"""SEM frames: what travels to a reader, encoded once for all readers (docs/contract.md, 3 and 7)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from webchat_widget.typing import JSONObject, SemEvent

from .text import utf16_len, utf16_prefix

__all__ = ["APPENDED", "MAX_SEQ", "PROTOCOL", "Control", "Delta", "Frame", "envelope"]

PROTOCOL = 1
MAX_SEQ = 2**53 - 1
"""The largest integer that every JavaScript reader holds exactly."""

APPENDED = {"tool.delta": "stdout", "thinking.mode.update": "reasoning"}
"""The deltas that say which prop they append to; others append to `content`."""

_encode = msgspec.json.Encoder().encode


class Frame:
    """A frame that changes one entity and is committed before it is sent.

    The bytes of its event are made once, when the first reader needs them.
    """

    __slots__ = ("_bytes", "event")

    def __init__(self, event: SemEvent) -> None:
        self.event = event
        self._bytes: bytes | None = None

    def encoded(self) -> bytes:
        """The event as JSON."""
        if self._bytes is None:
            self._bytes = _encode(self.event)
        return self._bytes

    @property
    def size(self) -> int:
        """The bytes of its event."""
        return len(self.encoded())


class Control(Frame):
    """A frame about the connection (`ws.hello`, `ws.pong`): it has no `seq` and changes no entity."""

    def __init__(self, type: str, conv_id: str, data: JSONObject) -> None:
        super().__init__({"type": type, "id": f"{type}:{conv_id}", "data": data})  # type: ignore[typeddict-item]


class Delta:
    """More text for one entity. The only frame that may run ahead of the disk, or be merged."""

    __slots__ = ("_parts", "end", "id", "offset", "seq", "size", "type")

    def __init__(self, type: str, id: str, seq: int, offset: int, text: str, end: int, size: int) -> None:
        self.type = type
        self.id = id
        self.seq = seq
        self.offset = offset
        self.end = end
        self.size = size
        """The bytes of its text, as UTF-8."""
        self._parts = [text]

    @classmethod
    def of(cls, type: str, id: str, seq: int, offset: int, text: str) -> Delta:
        """A delta at `offset` UTF-16 code units."""
        size = len(text) if text.isascii() else len(text.encode())
        return cls(type, id, seq, offset, text, offset + utf16_len(text), size)

    def copy(self) -> Delta:
        """A delta of one's own, to merge others into."""
        return Delta(self.type, self.id, self.seq, self.offset, self.text, self.end, self.size)

    def follows(self, other: Delta) -> bool:
        """True where this one goes on where `other` ends, in the same entity."""
        return self.id == other.id and self.offset == other.end and self.type == other.type

    def take(self, later: Delta) -> None:
        """Merge `later`, which follows this one: first offset, joined text, last seq."""
        self._parts += later._parts
        self.end = later.end
        self.size += later.size
        self.seq = later.seq

    @property
    def text(self) -> str:
        """What is appended."""
        return "".join(self._parts)

    def encoded(self) -> bytes:
        """The event as JSON in append form: cost is that of the new text alone."""
        data: JSONObject = {"delta": self.text, "offset": self.offset}
        if self.type in APPENDED:
            data = {"append": {APPENDED[self.type]: data}}
        return _encode({"type": self.type, "id": self.id, "seq": self.seq, "data": data})

    def encoded_cumulative(self, text_of: Callable[[str], str]) -> bytes:
        """The event as JSON in the seeds' form, with the whole text so far, as `text_of(id)` gives it."""
        if self.type in APPENDED:  # it has one form only
            return self.encoded()
        data = {"delta": self.text, "cumulative": utf16_prefix(text_of(self.id), self.end)}
        return _encode({"type": self.type, "id": self.id, "seq": self.seq, "data": data})


def envelope(n: int, event: bytes) -> bytes:
    """Wrap an encoded event for one reader: `n` counts that reader's frames from 1."""
    return b'{"sem":true,"n":%d,"event":%b}' % (n, event)
