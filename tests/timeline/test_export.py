"""A conversation as a file."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from webchat_widget.timeline.export import FORMATS, export


def row(id: str, kind: str, **props: Any) -> dict[str, Any]:
    return {
        "id": id,
        "kind": kind,
        "createdSeq": 1,
        "version": 1,
        "createdAt": 0,
        "updatedAt": 0,
        "props": props,
    }


ROWS = [
    row("r", "run", status="finished"),
    row("r:user", "message", role="user", content="Wie viel ist 6 * 7?\nKurz."),
    row("r:call:1", "tool_call", name="calc", input={"expression": "6*7"}, status="completed", done=True),
    row("r:call:1:result", "tool_result", toolCallId="r:call:1", result="42"),
    row(
        "r:text:1", "message", role="assistant", content="**42**\n\n```python\n6 * 7\n```", status="complete"
    ),
    row("r:error", "error", message="Cut off.", code="cut", retryable=True),
]


def test_markdown_reads_like_the_chat() -> None:
    text = export(ROWS, "c", ".md")
    order = ["**You**", "Wie viel ist 6 * 7?", "calc", "42", "**Assistant**\n\n**42**", "**Error** Cut off"]
    places = [text.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


def test_json_is_the_rows_as_the_host_gives_them() -> None:
    assert json.loads(export(ROWS, "c", ".json")) == {"conv_id": "c", "entities": ROWS}


def test_a_notebook_is_valid_and_runs_nothing() -> None:
    notebook = nbformat.reads(export(ROWS, "c", ".ipynb"), as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert {cell.cell_type for cell in notebook.cells} == {"markdown"}
    assert "Wie viel" in notebook.cells[0].source
    assert "6 * 7\n```" in notebook.cells[3].source
    assert notebook.metadata.webchat.conv_id == "c"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_conversation_without_a_word(suffix: str) -> None:
    text = export([], "c", suffix)
    if suffix == ".ipynb":
        nbformat.validate(nbformat.reads(text, as_version=4))
    assert text.endswith("\n")
