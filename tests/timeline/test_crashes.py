"""A move that is killed at any step: the conversation is complete wherever one looks for it next."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timeline.kernels import Holder
from tests.timeline.test_adoption import KEY, SETTINGS, row, whole
from webchat_widget.requests import TurnsQuery
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, Loaded, PendingRun, TurnsPage

ROOT = Path(__file__).parents[2]
ENDED = Batch(conv_id="c", version=60, rows=(row("waits", 60, "run", status="finished"),), ended=("waits",))
LATER = Batch(
    conv_id="c",
    version=70,
    rows=(row("n", 70, "run", status="queued"),),
    pending=(PendingRun("n", 70, False, {}),),
)


def server_at(folder: Path) -> AdoptingStore:
    return AdoptingStore(folder / "timeline.sqlite", folder / "conversations", promise=0)


def file_of(folder: Path) -> Path:
    return conversation_file(folder / "conversations", "c")


async def fill(store: SQLiteStore, *batches: Batch) -> None:
    for batch in batches:
        await store.write(batch)
    await store.save_settings("c", SETTINGS, 5)
    await store.close()


async def look(store: SQLiteStore) -> tuple[Loaded | None, bool, TurnsPage]:
    """The conversation, whether its key is there, and what its model was sent."""
    loaded, key = await store.load("c"), await store.key("ada", "k") == KEY
    found = loaded, key, await store.turns(TurnsQuery("c"))
    await store.close()
    return found


async def with_the_kernel(folder: Path) -> None:
    await fill(SQLiteStore(file_of(folder)), whole())


async def with_a_killed_kernel(folder: Path) -> None:
    await with_the_kernel(folder)
    with Holder(file_of(folder)) as holder:
        holder.kill()


async def with_the_server(folder: Path) -> None:
    await fill(server_at(folder), whole())


async def with_both(folder: Path) -> None:
    """As an earlier crash left it, and the kernel has gone on since."""
    await fill(server_at(folder), whole())
    await fill(SQLiteStore(file_of(folder)), whole(), ENDED, LATER)


@pytest.mark.parametrize("lies", [with_the_kernel, with_a_killed_kernel, with_the_server, with_both])
@pytest.mark.parametrize("operation", ["load", "hand_over"])
async def test_nothing_is_lost_at_any_step(tmp_path: Path, operation: str, lies: object) -> None:
    assert callable(lies)
    template, crashed = tmp_path / "template", tmp_path / "crashed"
    template.mkdir()
    other = server_at(template)
    await other.write(Batch(conv_id="other", version=1))
    await other.close()
    await lies(template)
    shutil.copytree(template, tmp_path / "whole")
    expected = await look(server_at(tmp_path / "whole"))
    assert expected[0] is not None
    assert expected[1]
    assert [turn["phase"] for turn in expected[2].turns] == ["pre_inference", "final"]

    command = [sys.executable, "-m", "tests.timeline.crash", operation, str(template), str(crashed)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    deaths = int(done.stdout)
    assert deaths >= 10
    for death in range(1, deaths + 1):
        folder = crashed / str(death)
        places = [folder / "timeline.sqlite", file_of(folder)]
        if lies is not with_both:  # there, only both together are complete
            copies = shutil.copytree(folder, folder / "looked at")
            alone = [await look(SQLiteStore(copies / each.relative_to(folder))) for each in places]
            assert expected in alone, f"complete in one place, killed at step {death}"
        again = shutil.copytree(folder, folder / "handed over")
        store = server_at(again)
        assert await store.hand_over("c")
        await store.close()
        assert await look(SQLiteStore(file_of(again))) == expected, f"for a kernel, killed at step {death}"
        store = server_at(folder)
        assert await store.load("other") is not None
        assert await look(store) == expected, f"for the server, killed at step {death}"
        assert not file_of(folder).exists()
