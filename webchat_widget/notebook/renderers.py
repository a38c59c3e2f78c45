"""What draws the rows of a person's own kinds: small ES modules, by kind, which a page asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

from webchat_widget.tools.own_events import is_own_kind

__all__ = ["Renderers"]

_MAX_BYTES = 256_000


class Renderers(MutableMapping[str, str]):
    """Sources of modules by the kind that they draw. One is set as its text, or as the `Path` of a file,
    which is read again whenever somebody asks. Widgets that show one chat share one of these; each has a
    function in it that is called after each change.

    Setting one raises ValueError for a kind that can't be a person's own and for a text that is empty or
    too long, TypeError for what is neither, and OSError for a file that can't be read.
    """

    def __init__(self) -> None:
        self._watchers: list[Callable[[], None]] = []
        self._texts: dict[str, str] = {}
        self._files: dict[str, Path] = {}

    def watch(self, changed: Callable[[], None]) -> None:
        """Have a function called after each change."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Not any more; nothing happens where it was not."""
        if changed in self._watchers:
            self._watchers.remove(changed)

    def _changed(self) -> None:
        for changed in tuple(self._watchers):
            changed()

    def __setitem__(self, kind: str, source: str | Path) -> None:
        if not isinstance(kind, str) or not is_own_kind(kind):
            raise ValueError(
                f"A renderer draws rows of a kind of your own, such as 'weather'. {str(kind)[:99]!r} is none."
            )
        text = _checked(_read(source) if isinstance(source, Path) else source)
        self._files.pop(kind, None)
        if isinstance(source, Path):
            self._files[kind] = source
        self._texts[kind] = text
        self._changed()

    def __getitem__(self, kind: str) -> str:
        if kind in self._files:
            # A file that is being written, or has gone, is drawn by what it held last.
            with contextlib.suppress(OSError, ValueError):
                self._texts[kind] = _checked(_read(self._files[kind]))
        return self._texts[kind]

    def __delitem__(self, kind: str) -> None:
        del self._texts[kind]
        self._files.pop(kind, None)
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._texts))

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"<renderers of {', '.join(self._texts) or 'no kind'}>"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(
            "A renderer is the source of an ES module: a str, or the pathlib.Path of a file; "
            f"{type(text).__name__} is neither."
        )
    if not text.strip():
        raise ValueError("A renderer can't be empty: `export default { render({ entity, el }) { … } }`.")
    if len(text.encode()) > _MAX_BYTES:
        raise ValueError(f"A renderer has at most {_MAX_BYTES:,} bytes.")
    return text
