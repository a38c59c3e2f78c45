"""What holds for any history of a conversation, whoever held it when."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, Loaded, PendingRun
from webchat_widget.turns import Message

RUNS = ("r1", "r2", "r3")


@st.composite
def batches(draw: st.DrawFn, version: int) -> Batch:
    """What a host may write: a few rows, a run that is queued, starts or ends, a turn."""
    run = draw(st.sampled_from(RUNS))
    status = draw(st.sampled_from(("queued", "started", "finished")))
    rows: list[Row] = [
        {"id": id, "kind": "note", "createdSeq": 1, "version": version, "props": {"at": version}}
        for id in draw(st.sets(st.sampled_from("abcd"), max_size=3))
    ]
    rows.append({"id": run, "kind": "run", "createdSeq": 1, "version": version, "props": {"status": status}})
    ended = status == "finished"
    return Batch(
        conv_id="c",
        version=version,
        rows=tuple(rows),
        pending=() if ended else (PendingRun(run, version, status == "started", {}),),
        ended=(run,) if ended else (),
        turns=((run, (Message("assistant", str(version)),)),) if ended else (),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    """Batches with versions that grow."""
    steps = draw(st.lists(st.integers(1, 4), max_size=5))
    versions = [sum(steps[: n + 1]) for n in range(len(steps))]
    return [draw(batches(version)) for version in versions]


def ended(rows: list[Row]) -> set[str]:
    return {row["id"] for row in rows if row["props"].get("status") == "finished"}


async def written(store: SQLiteStore, history: list[Batch]) -> Loaded:
    for batch in history:
        await store.write(batch)
    loaded = await store.load("c")
    await store.close()
    return loaded or Loaded(0, [], [], [], {})


@settings(deadline=None, max_examples=50)
@given(histories(), histories())
def test_what_is_in_both_places_merges_upwards_and_merging_again_changes_nothing(
    ours: list[Batch], theirs: list[Batch]
) -> None:
    async def merge(folder: Path) -> None:
        def server() -> AdoptingStore:
            return AdoptingStore(folder / "server.sqlite", folder, promise=0)

        file = conversation_file(folder, "c")
        here = await written(SQLiteStore(folder / "server.sqlite"), ours)
        there = await written(SQLiteStore(file), theirs)
        shutil.copy(file, folder / "copy")
        merged = await written(server(), [])
        assert merged.version == max(here.version, there.version)
        sides = [{row["id"]: row for row in side.rows} for side in (here, there)]
        for row in merged.rows:
            known = [side[row["id"]] for side in sides if row["id"] in side]
            assert row["version"] == max(each["version"] for each in known)
            assert row in known
        assert {row["id"] for row in merged.rows} == {*sides[0], *sides[1]}
        waiting = {run.run_id for run in merged.pending}
        assert waiting == {run.run_id for run in [*here.pending, *there.pending]} - ended(merged.rows)
        shutil.copy(folder / "copy", file)
        assert await written(server(), []) == merged

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(merge(Path(folder)))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_conversation_that_moves_is_what_it_would_be_had_it_stayed(data: st.DataObject) -> None:
    history = data.draw(histories())
    moves = data.draw(st.lists(st.sampled_from(("give", "take")), max_size=6))
    places = data.draw(st.permutations([*(["move"] * len(moves)), *(["write"] * len(history))]))

    async def live(folder: Path) -> None:
        stayed = await written(SQLiteStore(folder / "stayed.sqlite"), history)
        file = conversation_file(folder, "c")
        left, todo = list(history), list(moves)
        in_kernel = False
        for step in places:
            server = AdoptingStore(folder / "server.sqlite", folder, promise=0)
            if step == "write":
                if in_kernel:
                    await written(SQLiteStore(file), [left.pop(0)])
                else:
                    await server.load("c")
                    await server.write(left.pop(0))
            elif todo.pop(0) == "give":
                in_kernel = await server.hand_over("c")
            else:
                await server.load("c")
                in_kernel = False
            await server.close()
        assert await written(AdoptingStore(folder / "server.sqlite", folder), []) == stayed

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))
