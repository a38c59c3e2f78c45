"""A conversation as a file, and `%chat export`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from webchat_widget.notebook.export import FORMATS, export

from .kernel import Kernel


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


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in which something was said."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.run("%load_ext webchat_widget\nfrom webchat_widget import ChatWidget, ScriptedEngine")
    kernel.run(
        "chat = ChatWidget('talk', engine=ScriptedEngine('It is *42*.'))\nchat.send('6 * 7?').wait(10)"
    )
    yield kernel
    kernel.end()


def test_without_a_file_it_is_shown(kernel: Kernel) -> None:
    shown = kernel.run("%chat export").shown
    assert "It is *42*." in shown[0]


def test_a_file_is_written_once(kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "my talk.md"
    assert "Wrote" in kernel.run(f"%chat export '{file}'").stdout
    assert "It is *42*." in file.read_text("utf-8")
    file.write_text("mine")
    refused = kernel.run(f"%chat export '{file}'")
    assert "--force" in refused.stderr
    assert file.read_text() == "mine"
    kernel.run(f"%chat export --force '{file}'")
    assert "It is *42*." in file.read_text("utf-8")


def test_the_suffix_says_the_format(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run(f"%chat export {tmp_path}/talk.JSON\n%chat export {tmp_path}/talk.ipynb")
    assert json.loads((tmp_path / "talk.JSON").read_text("utf-8"))["conv_id"] == "talk"
    nbformat.validate(nbformat.read(tmp_path / "talk.ipynb", as_version=nbformat.NO_CONVERT))


@pytest.mark.parametrize(
    ("name", "words"),
    [("talk.pdf", ".md, .json, .ipynb"), ("talk", ".ipynb"), ("no/such/folder/talk.md", "can't be written")],
)
def test_what_can_not_be_written_is_one_line(kernel: Kernel, tmp_path: Path, name: str, words: str) -> None:
    cell = kernel.run(f"%chat export {tmp_path}/{name}")
    assert cell.stderr.startswith("UsageError: ")
    assert words in cell.stderr
    assert cell.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
