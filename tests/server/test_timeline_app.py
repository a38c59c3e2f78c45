"""`jupyter webchat timeline`: what it says of the files that keep conversations, and what it deletes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from jupyter_server_webchat import timeline_app
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.waiting import until
from tests.timeline.kernels import Holder
from webchat_widget.timeline.files import FOLDER, conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, KeyRecord, PendingRun, TurnRecord
from webchat_widget.turns import Message

OLD, NEW = 100, 1
"""Days."""


class Told:
    """What a command has said, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Tell = Callable[..., Told]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's data directory."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def timeline(data: Path) -> Path:
    """A server's timeline."""
    return data / "webchat" / "timeline-abc.sqlite"


@pytest.fixture
def folder(data: Path) -> Path:
    """Where kernels keep their conversations."""
    return data.joinpath(*FOLDER)


def keep(file: Path, conv_id: str, days: int = NEW, text: str = "Hi!", *, waits: bool = False) -> None:
    """Keep a conversation that changed last some days ago, with something in each table."""
    seq = (time.time_ns() // 1_000_000 - days * 86_400_000) * 1000
    run = f"run-of-{conv_id}"
    rows = (
        {"id": run, "kind": "run", "props": {"status": "queued" if waits else "finished", "prompt": text}},
        {"id": f"{run}:user", "kind": "message", "props": {"role": "user", "content": text}},
    )
    answer = (Message("user", text), Message("assistant", "Well."))
    asked = TurnRecord(run_id=run, n=1, phase="pre_inference", messages=answer[:1], seq=seq + 2)
    batch = Batch(
        conv_id=conv_id,
        version=seq + 2,
        rows=tuple({**row, "createdSeq": seq + n, "version": seq + n} for n, row in enumerate(rows)),
        pending=(PendingRun(run, seq, False, {"prompt": text}),) if waits else (),
        turns=() if waits else ((run, answer),),
        records=(asked,),
        grants=("wipe",),
        key=KeyRecord("ann", run, "d", 200, {"run_id": run, "conv_id": conv_id}, time.time_ns() // 1_000_000),
        title=f"About {text}",
    )

    async def write() -> None:
        store = SQLiteStore(file)
        await store.write(batch)
        await store.close()

    asyncio.run(write())


def hand_over(file: Path, folder: Path, conv_id: str) -> None:
    """Give a conversation to a kernel."""

    async def give() -> None:
        store = AdoptingStore(file, folder)
        assert await store.hand_over(conv_id)
        await store.close()

    asyncio.run(give())


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run a command in this process."""

    def run(*words: object) -> Told:
        capsys.readouterr()
        status = timeline_app.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Told(status, out, err)

    return run


def tables(file: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(file)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


class TestLooking:
    def test_all_files_are_listed_the_newest_conversation_first(
        self, timeline: Path, folder: Path, tell: Tell
    ) -> None:
        keep(timeline, "old", OLD)
        keep(timeline, "new", NEW, "a long\nstory")
        keep(conversation_file(folder, "own"), "own", waits=True)
        told = tell("list")
        words = [str(conversation_file(folder, "own")), "own", "(1 unfinished)", str(timeline), "new", "old"]
        places = [told.out.find(word) for word in words]
        assert -1 not in places
        assert places == sorted(places)
        assert "About a long story" in told.out
        assert (told.status, told.err) == (0, "")

    def test_where_nothing_is_kept_it_says_so(self, data: Path, tell: Tell) -> None:
        for command in ("list", "stats", "verify"):
            told = tell(command)
            assert (told.status, told.err) == (0, "")
            assert "No conversations are kept" in told.out
        assert not list(data.iterdir())

    def test_a_conversation_is_shown_row_by_row(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c", text="What is 6 * 7?")
        lines = tell("show", "c").out.splitlines()
        assert [line.split(maxsplit=2)[2].split() for line in lines] == [
            ["run", "finished", "What", "is", "6", "*", "7?"],
            ["message", "user", "What", "is", "6", "*", "7?"],
        ]

    def test_what_a_model_writes_steers_no_terminal(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c", text="\x1b]0;pwned\x07\x9b31m \u202e red")
        for command in (("list",), ("show", "c")):
            out = tell(*command).out
            assert "pwned" in out
            assert all(each.isprintable() or each == "\n" for each in out)

    def test_stats_count(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c")
        keep(timeline, "d", waits=True)
        out = tell("stats").out
        lines = [line.split(maxsplit=1) for line in out.splitlines()[1:]]
        counted = {name: int(count.replace(",", "")) for count, name in lines}
        wanted = {"conversations": 2, "rows": 4, "rows of kind run": 2, "unfinished runs": 1}
        assert wanted.items() <= counted.items()
        assert counted["bytes of the file"] == timeline.stat().st_size

    def test_an_unknown_conversation(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c")
        told = tell("show", "x")
        assert (told.status, told.out) == (2, "")
        assert "There is no conversation x" in told.err

    def test_one_that_is_in_two_files_is_asked_about(self, timeline: Path, folder: Path, tell: Tell) -> None:
        keep(timeline, "c", text="here")
        keep(conversation_file(folder, "c"), "c", text="there")
        told = tell("show", "c")
        assert told.status == 2
        assert "--db" in told.err
        assert "here" in tell("show", "c", "--db", timeline).out

    def test_one_file_that_is_damaged_hides_no_other(self, timeline: Path, folder: Path, tell: Tell) -> None:
        keep(timeline, "c")
        folder.mkdir()
        (folder / "a.sqlite").write_bytes(b"no database" * 1000)
        told = tell("list")
        assert "About Hi!" in told.out
        assert "a.sqlite can't be read: file is not a database." in told.err
        assert told.status == 2

    def test_nothing_is_written_in_looking(self, timeline: Path, folder: Path, tell: Tell) -> None:
        keep(timeline, "c", OLD)
        keep(conversation_file(folder, "own"), "own", OLD)
        before = {path: path.read_bytes() for path in timeline.parent.rglob("*") if path.is_file()}
        for command in ("list", "stats", "verify", "show c", "export c", "prune --older-than 1d --dry-run"):
            assert tell(*command.split()).status == 0
        assert {path: path.read_bytes() for path in timeline.parent.rglob("*") if path.is_file()} == before


class TestVerify:
    def test_a_sound_file(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c")
        told = tell("verify")
        assert (told.status, told.err) == (0, "")
        assert told.out == f"{timeline}: 1 conversation, 2 rows: all as it should be\n"

    def test_a_breach_is_named_and_the_status_says_so(self, timeline: Path, folder: Path, tell: Tell) -> None:
        keep(conversation_file(folder, "own"), "own")
        keep(timeline, "c", waits=True)
        with closing(sqlite3.connect(timeline, isolation_level=None)) as db:
            db.execute("DELETE FROM runs")
        told = tell("verify")
        assert told.status == 1
        assert f"{timeline}: 1 conversation, 2 rows: 1 breach\n  run: c run-of-c: " in told.out
        assert told.out.count("all as it should be") == 1

    def test_damage_is_a_breach(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c")
        timeline.write_bytes(b"\0" * 100_000)
        told = tell("verify")
        assert told.status == 1
        assert "  file: SQLite says: " in told.out

    def test_a_file_that_is_not_there_is_no_sound_one(self, data: Path, tell: Tell) -> None:
        told = tell("verify", "--db", data / "nowhere.sqlite")
        assert told.status == 2
        assert "There is no file" in told.err


class TestExport:
    def test_on_the_screen_it_is_markdown(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "c", text="six?")
        assert tell("export", "c").out == "**You**\n\nsix?\n"

    def test_a_file_is_written_once(self, timeline: Path, tmp_path: Path, tell: Tell) -> None:
        keep(timeline, "c", text="six?")
        file = tmp_path / "c.json"
        assert tell("export", "c", file).status == 0
        assert [row["props"].get("content") for row in json.loads(file.read_text())["entities"]] == [
            None,
            "six?",
        ]
        file.write_text("mine")
        assert "--force" in tell("export", "c", file).err
        assert file.read_text() == "mine"
        assert tell("export", "c", file, "--force").status == 0
        assert file.read_text() != "mine"

    def test_the_suffix_must_be_one_of_ours(self, timeline: Path, tmp_path: Path, tell: Tell) -> None:
        keep(timeline, "c")
        told = tell("export", "c", tmp_path / "c.pdf")
        assert told.status == 2
        assert ".md, .json, .ipynb" in told.err
        assert "can't be written" in tell("export", "c", tmp_path / "no" / "c.md").err


class TestPrune:
    def test_what_is_old_goes_from_every_table_and_from_the_disk(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "new", NEW)
        alone = tables(timeline)
        keep(timeline, "old", OLD, "a secret " * 1000)
        size = timeline.stat().st_size
        told = tell("prune", "--older-than", "90d")
        assert told.status == 0
        assert "  old  " in told.out
        assert "Deleted: 1 conversation." in told.out
        assert tables(timeline) == alone
        assert min(alone[name] for name in alone if name != "runs") == 1
        assert timeline.stat().st_size < size
        assert b"a secret" not in timeline.read_bytes()
        assert tell("verify").status == 0

    def test_a_dry_run_only_says_so(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "old", OLD)
        before = tables(timeline)
        assert "To delete: 1 conversation." in tell("prune", "--older-than", "13w", "--dry-run").out
        assert tables(timeline) == before

    def test_a_prompt_that_waits_is_kept_however_old(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "waits", OLD, waits=True)
        assert "Deleted: 0 conversations." in tell("prune", "--older-than", "90d").out
        assert "Deleted: 1 conversation." in tell("prune", "--conv", "waits").out
        assert not any(tables(timeline).values())

    def test_both_conditions_hold(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "new", NEW)
        keep(timeline, "old", OLD)
        assert "0 conversations." in tell("prune", "--older-than", "90d", "--conv", "new").out
        assert "1 conversation." in tell("prune", "--older-than", "90d", "--conv", "old").out
        assert tables(timeline)["conversations"] == 1

    def test_the_keys_of_one_that_has_moved_go_with_it(
        self, timeline: Path, folder: Path, tell: Tell
    ) -> None:
        keep(timeline, "moved", OLD)
        hand_over(timeline, folder, "moved")
        assert tables(timeline)["keys"] == 1
        assert "Deleted: 0 conversations." in tell("prune", "--older-than", "90d", "--db", timeline).out
        assert tables(timeline)["keys"] == 1, "it lives on, and a prompt of it may come again"
        assert "Deleted: 1 conversation." in tell("prune", "--conv", "moved").out
        assert list(folder.iterdir()) == []
        assert not any(tables(timeline).values())

    def test_a_kernels_file_goes_with_its_conversation(self, folder: Path, tell: Tell) -> None:
        keep(conversation_file(folder, "own"), "own", OLD)
        assert tell("prune", "--older-than", "90d").status == 0
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("words", ["--older-than soon", "--older-than 90", "--older-than -1d"])
    def test_an_age_that_is_none_deletes_nothing(self, timeline: Path, tell: Tell, words: str) -> None:
        keep(timeline, "old", OLD)
        with pytest.raises(SystemExit) as left:
            tell("prune", *words.split())
        assert left.value.code == 2
        assert tables(timeline)["conversations"] == 1

    def test_without_a_condition_it_deletes_nothing(self, timeline: Path, tell: Tell) -> None:
        keep(timeline, "old", OLD)
        told = tell("prune")
        assert told.status == 2
        assert "--older-than" in told.err
        assert tables(timeline)["conversations"] == 1

    def test_a_file_that_somebody_has_open_is_left_alone_and_the_others_are_not(
        self, timeline: Path, folder: Path, tell: Tell
    ) -> None:
        held = conversation_file(folder, "held")
        keep(held, "held", OLD)
        keep(timeline, "old", OLD)
        with Holder(held, "held"):
            told = tell("prune", "--older-than", "90d")
        assert told.status == 2
        assert str(held) in told.err
        assert "Deleted: 1 conversation." in told.out
        assert tables(held)["entities"] == 3

    def test_what_is_not_to_be_pruned_may_be_in_use(self, folder: Path, tell: Tell) -> None:
        held = conversation_file(folder, "held")
        keep(held, "held", NEW)
        with Holder(held, "held"):
            assert tell("prune", "--older-than", "90d").status == 0

    def test_a_database_of_somebody_else_is_left_as_it_is(self, data: Path, tell: Tell) -> None:
        other = data / "other.sqlite"
        with closing(sqlite3.connect(other)) as db:
            db.execute("CREATE TABLE mine (id)")
        before = other.read_bytes()
        told = tell("prune", "--db", other, "--conv", "c")
        assert told.status == 2
        assert "is no timeline" in told.err
        assert other.read_bytes() == before


def jupyter(*words: object) -> subprocess.CompletedProcess[str]:
    """`jupyter webchat timeline …`, as a person types it."""
    command = [str(Path(sys.executable).with_name("jupyter")), "webchat", "timeline", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_server_that_runs_is_looked_at_and_keeps_its_file(
    server: Jupyter, client: httpx.Client, model: ModelServer
) -> None:
    model.reset()
    model.script("It is *42*.")
    asked = client.post("chat", json={"prompt": "6 * 7?", "conv_id": "looked-at"})
    until(lambda: "finished" in str(client.get("timeline?conv_id=looked-at").json()), "the run has ended")
    db = server.timeline_db
    assert "It is *42*." in jupyter("export", "looked-at", "--db", db).stdout
    verified = jupyter("verify", "--db", db)
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stdout
    refused = jupyter("prune", "--conv", "looked-at", "--db", db)
    assert refused.returncode == 2
    assert f"{db} is in use by a Jupyter server, process {server.pid} on " in refused.stderr
    rows = client.get("timeline?conv_id=looked-at").json()
    assert asked.json()["run_id"] in [row["id"] for row in rows]
