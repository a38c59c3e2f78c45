"""Tags that a model is asked to write into its answer, found while the answer streams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

__all__ = ["ATTRIBUTES", "Closed", "Code", "Inside", "Opened", "Outside", "Piece", "Tags", "attributes"]

_MAX_TAG = 500
"""Characters; what is longer is no tag."""
_FENCE = re.compile(r" {0,3}(```|~~~)")
_ATTRIBUTE = re.compile(r"""([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))""")
ATTRIBUTES = r'(?:"[^"<]*+"|[^"<>])*+'
"""What may stand in a tag behind its name and a space."""


class Outside(Struct, frozen=True, gc=False):
    """Text of the answer itself; never empty."""

    text: str


class Opened(Struct, frozen=True):
    """A tag begins. `source` is how it was written."""

    attributes: dict[str, str]
    source: str


class Inside(Struct, frozen=True, gc=False):
    """Text in the tag; never empty."""

    text: str


class Closed(Struct, frozen=True):
    """The tag ends; its `source` is empty where another begins instead."""

    source: str


Piece = Outside | Opened | Inside | Closed


class Tags:
    """Parts the pieces of one answer, however they are cut, at `<name …>` and `</name>`.

    A tag in code is text: in a fenced block, or behind an odd number of backticks in its line. A line that
    a tag has for itself goes with it. Nothing is held back but what may become a tag, and the white space
    before the first word.
    """

    def __init__(self, name: str) -> None:
        self._start, self._end = f"<{name}", f"</{name}>"
        self._tag = re.compile(rf"<{name}(\s{ATTRIBUTES})?>|</{name}\s*>", re.IGNORECASE)
        self._half = re.compile(rf'<{name}\s{ATTRIBUTES}(?:"[^"<]*+)?|</{name}\s*', re.IGNORECASE)
        self._code = Code()
        self._inside = False
        self._held = ""
        """What may become a tag."""
        self._space: list[str] = []
        """White space before the first word."""
        self._said = False
        self._tagged = False
        self._at_end_of_tag = False
        """The rest of the line goes, if it is blank."""

    def feed(self, text: str) -> Iterable[Piece]:
        """What is certain now; to be used up before the next piece."""
        if self._held or "<" in text:
            return self._parse(text)
        if text and self._said and not (self._inside or self._at_end_of_tag):  # as most pieces are
            self._code.see(text)
            return (Outside(text),)
        return self._text(text)

    def _parse(self, text: str) -> Iterator[Piece]:
        text, self._held = self._held + text, ""
        at = 0
        for tag in self._tag.finditer(text):
            yield from self._text(text[at : tag.start()])
            at = tag.start()
            if self._inside or not self._code.inside:
                at = tag.end()
                yield from self._turn(tag)
        half = text.rfind("<", at)
        if half >= 0 and self._may_become_tag(text[half:]):
            self._held = text[half:]
            yield from self._text(text[at:half])
        else:
            yield from self._text(text[at:])

    def end(self) -> Iterator[Piece]:
        """What was held back, as no more comes."""
        held, self._held = self._held, ""
        yield from self._text(held)
        space, self._space = "".join(self._space), []
        if space and not self._tagged:
            yield Outside(space)

    def _may_become_tag(self, text: str) -> bool:
        small = text.lower()
        return len(text) <= _MAX_TAG and (
            self._start.startswith(small)
            or self._end.startswith(small)
            or self._half.fullmatch(text) is not None
        )

    def _turn(self, tag: re.Match[str]) -> Iterator[Piece]:
        source = tag[0]
        ends = source[1] == "/"
        if self._inside:
            yield Closed(source if ends else "")
        self._inside = not ends
        self._tagged = True
        self._space = []
        self._at_end_of_tag = self._said and self._code.at_line_start
        if not ends:
            yield Opened(attributes(tag[1] or ""), source)

    def _text(self, text: str) -> Iterator[Piece]:
        if self._inside:
            if text:
                yield Inside(text)
            return
        if self._at_end_of_tag and text:
            text = text.lstrip(" \t")
            if not text:
                return
            self._at_end_of_tag = False
            text = text.removeprefix("\n")
        if not self._said:
            word = text.lstrip()
            self._space.append(text[: len(text) - len(word)])
            if not word:
                return
            self._said = True
            text = word if self._tagged else "".join((*self._space, word))
            self._space = []
        if text:
            self._code.see(text)
            yield Outside(text)


class Code:
    """Whether the end of a streamed Markdown text lies in code."""

    def __init__(self) -> None:
        self._fence = ""
        """What the open block began with."""
        self._head = ""
        """How the line begins."""
        self._ticks = 0
        """Backticks in the line."""

    @property
    def inside(self) -> bool:
        """A tag here would be an example."""
        return bool(self._fence) or self._ticks % 2 == 1

    @property
    def at_line_start(self) -> bool:
        """Nothing but white space stands in the line."""
        return not self._head.strip()

    def see(self, text: str) -> None:
        """More text has come."""
        if "\n" not in text:
            self._see_in_line(text)
            return
        first, *lines = text.split("\n")
        self._see_in_line(first)
        for line in lines:
            if (mark := _FENCE.match(self._head)) is not None and self._fence in ("", mark[1]):
                self._fence = "" if self._fence else mark[1]
            self._head, self._ticks = "", 0
            self._see_in_line(line)

    def _see_in_line(self, text: str) -> None:
        if len(self._head) < 8:
            self._head += text[: 8 - len(self._head)]
        self._ticks += text.count("`")


def attributes(written: str) -> dict[str, str]:
    """The attributes of a tag, by their names in lower case."""
    return {name.lower(): "".join(values) for name, *values in _ATTRIBUTE.findall(written)}
