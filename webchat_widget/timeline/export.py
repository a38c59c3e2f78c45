"""A conversation as a file: Markdown, the rows as JSON, or a notebook. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from webchat_widget.typing import Entity

from .transcript import transcript

__all__ = ["FORMATS", "export"]


def export(entities: Sequence[Entity], conv_id: str, suffix: str) -> str:
    """The text of a file. `suffix` is one of FORMATS; raises KeyError for another."""
    return FORMATS[suffix](entities, conv_id)


def _markdown(entities: Sequence[Entity], conv_id: str) -> str:
    return f"{transcript(entities)}\n"


def _json(entities: Sequence[Entity], conv_id: str) -> str:
    """The rows as GET /timeline gives them."""
    return json.dumps({"conv_id": conv_id, "entities": entities}, ensure_ascii=False, indent=1) + "\n"


def _notebook(entities: Sequence[Entity], conv_id: str) -> str:
    """A text cell for each row. Code of a model stays text: nobody should run it by running all cells."""
    texts = filter(None, (transcript([entity]) for entity in entities))
    notebook = {
        "cells": [
            {"cell_type": "markdown", "id": f"row-{number}", "metadata": {}, "source": text}
            for number, text in enumerate(texts)
        ],
        "metadata": {"webchat": {"conv_id": conv_id}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Entity], str], str]] = {
    ".md": _markdown,
    ".json": _json,
    ".ipynb": _notebook,
}
