"""Who wins: the one rule of the projection, the store and the page (docs/contract.md, 5).

The TypeScript twin is js/src/timeline/merge.ts; tests/contract/merges.json holds both to the same cases.
"""

from __future__ import annotations

from .entities import Row, is_terminal

__all__ = ["merge"]

_SETTLED = ("status", "streaming", "done")


def merge(old: Row | None, new: Row) -> Row:
    """The row that follows from `old` when `new` arrives. Neither argument is changed.

    Higher or equal version: the props of `new` are laid over the old ones, so no frame erases a field that
    it does not name. Lower: `new` is ignored. A missing version counts as 0. `kind` and `createdSeq` never
    change, and a row that ended keeps its `status`, `streaming` and `done`.
    """
    if old is None:
        return new
    old_version, new_version = old.get("version", 0), new.get("version", 0)
    if new_version < old_version:
        return old
    props = {**old["props"], **new["props"]}
    if is_terminal(old):
        props.update((name, old["props"][name]) for name in _SETTLED if name in old["props"])
    merged = {**new, **old, "version": new_version, "props": props}
    return merged
