"""Texts of a model, cut to what a line or a row should hold."""

from __future__ import annotations

__all__ = ["shortened"]


def shortened(text: str, length: int) -> str:
    """The text, with an ellipsis where it has more characters than that."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
