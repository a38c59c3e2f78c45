"""The list of conversations that kernels have left in their files."""

from __future__ import annotations

from pathlib import Path

from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.folder import left_in
from webchat_widget.timeline.store import Batch

from .kernels import Holder


async def leave(folder: Path, conv_id: str, version: int) -> None:
    """A kernel had a conversation, and has ended."""
    store = SQLiteStore(conversation_file(folder, conv_id))
    row = {"id": "r", "kind": "note", "createdSeq": version, "version": version, "props": {}}
    await store.write(Batch(conv_id=conv_id, version=version, rows=(row,), title=f"About {conv_id}"))
    await store.close()


async def test_what_was_left_is_listed_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "with space & 100%"
    await leave(folder, "One", 1_000_000)
    await leave(folder, "two", 2_000_000)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = {each.conv_id: (each.title, each.updated_at) for each in left_in(folder)}
    assert found == {"One": ("About One", 1000), "two": ("About two", 2000)}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


async def test_one_that_a_kernel_has_open_and_files_of_others_are_passed_over(tmp_path: Path) -> None:
    await leave(tmp_path, "free", 1)
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "empty.sqlite").touch()
    with Holder(conversation_file(tmp_path, "held"), "held"):
        assert [each.conv_id for each in left_in(tmp_path)] == ["free"]
    assert sorted(each.conv_id for each in left_in(tmp_path)) == ["free", "held"]


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert left_in(tmp_path / "nowhere") == []
    assert not (tmp_path / "nowhere").exists()
