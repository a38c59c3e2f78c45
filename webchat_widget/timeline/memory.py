"""The store that ends with its process: the same statements, on a database that has no file."""

from __future__ import annotations

from .sqlite import SQLiteStore

__all__ = ["MemoryStore"]


class MemoryStore(SQLiteStore):
    """A `TimelineStore` in memory."""

    def __init__(self) -> None:
        super().__init__(":memory:")
