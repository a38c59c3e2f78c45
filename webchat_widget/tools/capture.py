"""What a tool prints goes to its call; what others print meanwhile goes where it went."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["captured"]

_WRITE: ContextVar[Callable[[str], None] | None] = ContextVar("webchat_stdout", default=None)
_lock = threading.Lock()
_inside = 0
_splitter: _Splitter | None = None


class _Splitter:
    """Stands in for `sys.stdout` while tools run: it asks the context whose text it is."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside

    def write(self, text: str) -> int:
        write = _WRITE.get()
        if write is None:
            return int(self.outside.write(text) or 0)
        write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _WRITE.get() is None:
            self.outside.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outside, name)


@contextlib.contextmanager
def captured(write: Callable[[str], None]) -> Iterator[None]:
    """Within, and in what is called from here, `print` writes to `write`.

    On the main thread, `sys.stdout` is afterwards what it was, whatever was put there within: a notebook
    would print nothing any more. Another thread can't tell whose that is.
    """
    token = _WRITE.set(write)
    _enter()
    ours = sys.stdout
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            sys.stdout = ours
        _leave()
        _WRITE.reset(token)


def _enter() -> None:
    global _inside, _splitter
    with _lock:
        _inside += 1
        if sys.stdout is not _splitter or _splitter is None:
            sys.stdout = _splitter = _Splitter(sys.stdout)


def _leave() -> None:
    global _inside, _splitter
    with _lock:
        _inside -= 1
        if _inside:
            return
        while isinstance(sys.stdout, _Splitter):
            sys.stdout = sys.stdout.outside
        _splitter = None
