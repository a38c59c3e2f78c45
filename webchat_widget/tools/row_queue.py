"""The rows of a person's own that one call makes, on their way to where they are numbered."""

from __future__ import annotations

import threading

from msgspec.structs import replace

from .own_events import OwnRow

__all__ = ["MAX_ROWS", "MAX_RUN_ROWS", "MAX_RUN_SIZE", "MAX_SIZE", "RowQueue", "RowRoom"]

MAX_ROWS = 1000
MAX_SIZE = 16_000_000
"""Of the rows of one call, or of one run beside its calls; and the bytes that those of a call begin with."""
MAX_RUN_ROWS = 10_000
MAX_RUN_SIZE = 64_000_000
"""The same of all calls of a run: a model that calls tools for ever must not fill the disk."""


class RowRoom:
    """How many rows the calls of one run may still make, on any thread."""

    def __init__(self, rows: int = MAX_RUN_ROWS, size: int = MAX_RUN_SIZE) -> None:
        self._rows = rows
        self._size = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Have room for a row of so many bytes; False where there is none."""
        with self._lock:
            if not self._rows or size > self._size:
                return False
            self._rows -= 1
            self._size -= size
            return True


class RowQueue:
    """Rows that wait, at most so many in all, and of them as many as `room` has; one that is changed while it
    waits goes out as it is then."""

    def __init__(self, rows: int = MAX_ROWS, size: int = MAX_SIZE, room: RowRoom | None = None) -> None:
        self._room = room or RowRoom(rows, size)
        self._rows = rows
        self._size = size
        self._named: set[object] = set()
        self._waiting: dict[object, OwnRow] = {}
        self.full = False
        """Whether a row found no room."""

    def put(self, row: OwnRow) -> None:
        """Add a row, or change one that is known already."""
        name: object = (row.kind, row.id) if row.id else object()
        if name not in self._named:
            if not self._rows or row.size > self._size or not self._room.take(row.size):
                self.full = True
                return
            self._rows -= 1
            self._size -= row.size
            if row.id:
                self._named.add(name)
        before = self._waiting.get(name)
        self._waiting[name] = row if before is None else replace(row, props={**before.props, **row.props})

    def take(self) -> list[OwnRow]:
        """Those that wait, in the order in which they came first."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())
