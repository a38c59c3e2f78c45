"""Streamed text as JavaScript counts it.

Offsets on the wire are UTF-16 code units, for that is what `string.length` gives a browser; Python counts
code points. The two differ for every character beyond U+FFFF.
"""

from __future__ import annotations

import re

__all__ = ["Rope", "clean", "utf16_len", "utf16_prefix"]

_UNSAFE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Replace what no reader can take: NUL and lone surrogates become U+FFFD."""
    return text if text.isascii() and "\x00" not in text else _UNSAFE.sub("\ufffd", text)


def utf16_len(text: str) -> int:
    """How many UTF-16 code units `text` has."""
    return len(text) if text.isascii() else len(text) + sum(c > "\uffff" for c in text)


def utf16_prefix(text: str, units: int) -> str:
    """The first `units` code units of `text`; a pair that the cut would halve is left out."""
    if text.isascii():
        return text[:units]
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore")


class Rope:
    """Text that grows at its end: appending costs what is appended, not what is there.

    `units` is its length in UTF-16 code units.
    """

    __slots__ = ("_parts", "units")

    def __init__(self, text: str = "") -> None:
        self._parts = [text] if text else []
        self.units = utf16_len(text)

    def text(self) -> str:
        """The whole text."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def append(self, text: str) -> None:
        """Add `text` at the end."""
        self._parts.append(text)
        self.units += utf16_len(text)

    def splice(self, offset: int, text: str) -> bool:
        """Apply one append delta: `text` belongs at `offset` (UTF-16 code units).

        What is there already wins: the text becomes `text[:offset] + delta` only where that is longer.
        Returns False where `offset` lies beyond the end, which is a gap, and then changes nothing.
        """
        if offset == self.units:
            self.append(text)
        elif offset > self.units:
            return False
        elif offset + utf16_len(text) > self.units:
            self.replace(utf16_prefix(self.text(), offset) + text)
        return True

    def replace(self, text: str) -> None:
        """Make `text` the whole text."""
        self._parts = [text]
        self.units = utf16_len(text)
