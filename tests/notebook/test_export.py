"""`%chat export`: the conversation below the cell, or in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from .kernel import Kernel


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
