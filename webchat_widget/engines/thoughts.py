"""Thoughts that a model writes into its answer: `<think>…</think>` before the first word of it."""

from __future__ import annotations

from collections.abc import Iterator

from webchat_widget.events import TextChunk, ThinkingChunk

__all__ = ["Thoughts"]

_OPEN, _CLOSE = "<think>", "</think>"


class Thoughts:
    """Parts the pieces of one answer, however they are cut. After its first word tags are text like any."""

    def __init__(self) -> None:
        self.over = False
        """Nothing but text follows: pieces need not come through here."""
        self._inside = False
        self._held = ""
        self._fed: list[str] = []

    @property
    def unclosed(self) -> str:
        """The whole answer so far, where it is a thought without an end. If it ends well, it was none: the
        model speaks of the tag."""
        return "".join(self._fed) if self._inside and not self.over else ""

    def feed(self, text: str) -> Iterator[TextChunk | ThinkingChunk]:
        """The chunks that are certain now."""
        if self.over:
            yield TextChunk(text)
            return
        self._fed.append(text)
        self._held += text
        if not self._inside:
            begun = self._held.lstrip()
            if begun.startswith(_OPEN):
                self._inside = True
                self._held = begun[len(_OPEN) :].lstrip("\n")
            elif not _OPEN.startswith(begun):
                yield from self.end()
        if self._inside:
            yield from self._think()

    def end(self) -> Iterator[TextChunk | ThinkingChunk]:
        """What was held back, as no more of it comes, or as something else has come."""
        held, self._held = self._held, ""
        if held:
            yield ThinkingChunk(held) if self._inside else TextChunk(held)
        self.over = True

    def _think(self) -> Iterator[TextChunk | ThinkingChunk]:
        thought, closed, rest = self._held.partition(_CLOSE)
        if closed:
            self._inside, self._held, self.over = False, "", True
            if thought := thought.rstrip("\n"):
                yield ThinkingChunk(thought)
            if rest := rest.lstrip("\n"):
                yield TextChunk(rest)
            return
        keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:n])), 0)
        self._held = thought[len(thought) - keep :]
        if sure := thought[: len(thought) - keep]:
            yield ThinkingChunk(sure)
