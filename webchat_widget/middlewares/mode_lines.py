"""The lines with which an agent asks for another mode, found while its answer streams."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .shortened import shortened
from .tags import ATTRIBUTES, Code, attributes

__all__ = ["MAX_NAME", "ModeLines"]

MAX_NAME = 100
_MAX_REASON = 500
_MAX_WISH = 800
"""Characters; what is longer is text."""
_WISH = re.compile(
    rf"[ \t]*+<agent_mode(\s{ATTRIBUTES})?>\s*+([^<\s][^<\n]{{0,{MAX_NAME - 1}}}+)\s*+</agent_mode\s*+>"
    r"[ \t]*+(\n|\Z)",
    re.IGNORECASE,
)
_TAG = "<agent_mode"
_HALF = re.compile(
    rf'{_TAG}(\s{ATTRIBUTES}("[^"<]*+)?)?(>[^<]*+(</?+[a-z_]*+\s*+(>[ \t]*+)?)?)?', re.IGNORECASE
)


class ModeLines:
    """Parts the pieces of one answer, however they are cut, into its text and the wishes in it.

    A wish is `<agent_mode reason="why">name</agent_mode>` with nothing else in its line, and not in a fenced
    block. Nothing is held back but what may become one, and the white space before the first word, which
    goes where a wish stands before it.
    """

    def __init__(self) -> None:
        self.wishes: list[tuple[str, str]] = []
        """Reason and name of each mode that was asked for."""
        self.spoke = False
        """There was other text."""
        self._code = Code()
        self._held = ""
        self._in_line = False
        """The line that is open is text."""
        self._space = ""

    def feed(self, text: str) -> str:
        """The text that is certain now."""
        return self._said("".join(self._certain(text, last=False)))

    def end(self) -> str:
        """What was held back, as no more comes."""
        text = self._said("".join(self._certain("", last=True)))
        return text if self.spoke or self.wishes else self._space

    def _certain(self, text: str, *, last: bool) -> Iterator[str]:
        text, self._held = self._held + text, ""
        at = 0
        while at < len(text):
            if not (self._in_line or self._code.inside):
                wish = _WISH.match(text, at)
                if wish is not None and (last or wish[3]):
                    reason = attributes(wish[1] or "").get("reason", "")
                    self.wishes.append((shortened(reason, _MAX_REASON), wish[2].strip()))
                    at = wish.end()
                    continue
                if not last and len(text) - at <= _MAX_WISH and _may_become_wish(text[at:]):
                    self._held = text[at:]
                    return
            end = text.find("\n", at) + 1
            self._in_line = not end
            line = text[at : end or len(text)]
            at += len(line)
            self._code.see(line)
            yield line

    def _said(self, text: str) -> str:
        if self.spoke:
            return text
        text = self._space + text
        word = text.lstrip()
        if not word:
            self._space = text
            return ""
        self.spoke = True
        return word if self.wishes else text


def _may_become_wish(text: str) -> bool:
    text = text.lstrip(" \t")
    return _TAG.startswith(text.lower()) or _HALF.fullmatch(text) is not None
