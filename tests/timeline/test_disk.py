"""A disk that fails: what can be read is read, nothing false is acknowledged, and nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.soak.disk_faults import Disk as Failing
from tests.soak.disk_faults import Fault, Faulty
from tests.timeline.disks import Disk, cut
from tests.timeline.kernels import Holder
from webchat_widget.errors import ConversationHeld, StoreUnavailable
from webchat_widget.requests import TurnsQuery
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.migrations import MIGRATIONS
from webchat_widget.timeline.sqlite import SQLiteStore, connection, damage, lock, readonly
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.sqlite.snapshot import copied
from webchat_widget.timeline.store import Batch, KeyRecord, PendingRun

KEY = KeyRecord("ada", "k", "digest", 200, {"run_id": "r", "conv_id": "c"}, 1)


def row(id: str, version: int = 1) -> Row:
    return {"id": id, "kind": "note", "createdSeq": version, "version": version, "props": {"n": version}}


def said(id: str = "said", version: int = 1, conv_id: str = "c") -> Batch:
    pending = (PendingRun(f"run of {conv_id}", version, True, {"prompt": "p"}),)
    return Batch(conv_id=conv_id, version=version, rows=(row(id, version),), pending=pending, title="said")


async def ids(store: SQLiteStore, conv_id: str = "c") -> list[str]:
    loaded = await store.load(conv_id)
    return [] if loaded is None else [each["id"] for each in loaded.rows]


async def left(path: Path, *batches: Batch) -> None:
    """Write to a file, and close it."""
    store = SQLiteStore(path)
    for batch in batches:
        await store.write(batch)
    await store.close()


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    (tmp_path / "disk").mkdir()
    return Disk(tmp_path / "disk", monkeypatch)


@pytest.fixture
def file(disk: Disk, tmp_path: Path) -> Path:
    return tmp_path / "disk" / "timeline.sqlite"


class TestReadOnly:
    @pytest.mark.parametrize("ended", ["closed", "cut"])
    async def test_what_was_said_is_read_and_nothing_is_changed(
        self, disk: Disk, file: Path, ended: str
    ) -> None:
        await left(file, said(), Batch(conv_id="c", version=2, key=KEY))
        if ended == "cut":
            cut(file)
        before = {each: each.read_bytes() for each in file.parent.iterdir()}
        assert (len(before) == 2) == (ended == "cut")
        disk.protect()
        store = SQLiteStore(file)
        assert await ids(store) == (["said", "held"] if ended == "cut" else ["said"])
        assert [each.title for each in await store.conversations("said")] == ["said"]
        assert await store.key("ada", "k") == KEY
        assert (await store.turns(TurnsQuery(conv_id="c"))).turns == []
        await store.close()
        assert {each: each.read_bytes() for each in file.parent.iterdir()} == before

    async def test_a_write_is_refused_and_so_is_each_of_a_burst_but_no_read_beside_it(
        self, disk: Disk, file: Path
    ) -> None:
        await left(file, said())
        disk.protect()
        store = SQLiteStore(file)
        await store.conversations()
        writes = [store.write(said(f"{n}", n)) for n in (2, 3)]
        assert await ids(store) == ["said"]
        for write in (*writes, store.save_settings("c", {}, 1)):
            with pytest.raises(StoreUnavailable, match="can only be read at present") as error:
                await write
            assert (error.value.status, str(file) in error.value.message) == (503, True)
        assert store.notices == [error.value.message]
        await store.close()

    async def test_runs_that_could_not_be_ended_are_left_for_later(self, disk: Disk, file: Path) -> None:
        await left(file, said())
        disk.protect()
        store = SQLiteStore(file)
        loaded = await store.load("c")
        assert loaded is not None
        assert (loaded.pending, await store.unfinished()) == ([], ["c"])
        await store.close()
        disk.release()
        store = SQLiteStore(file)
        assert await store.unfinished() == ["c"]
        await store.close()

    async def test_an_older_schema_is_read_as_well(self, disk: Disk, file: Path) -> None:
        file.touch()
        disk.protect()
        store = SQLiteStore(file)
        assert await ids(store) == []
        (version,) = await store._submit(lambda db: db.execute("PRAGMA user_version").fetchone(), read=True)
        assert version == len(MIGRATIONS)
        await store.close()
        assert file.read_bytes() == b""

    async def test_where_there_is_no_file_the_disk_is_named(self, disk: Disk, file: Path) -> None:
        disk.protect()
        store = SQLiteStore(file)
        with pytest.raises(StoreUnavailable, match=r"Read-only file system|Permission denied"):
            await store.load("c")
        assert store.notices == []
        await store.close()

    async def test_it_is_written_again_as_soon_as_that_is_possible(
        self, disk: Disk, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await left(file, said())
        disk.protect()
        store = SQLiteStore(file)
        with pytest.raises(StoreUnavailable):
            await store.write(said("later", 2))
        looked = store._db
        disk.release()
        with pytest.raises(StoreUnavailable):
            await store.write(said("later", 2))
        assert store._db is looked, "but not with each call"
        monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
        await store.write(said("later", 2))
        assert store.notices == []
        assert await ids(store) == ["said", "later"]
        await store.close()

    async def test_what_somebody_else_may_write_is_seen(
        self, disk: Disk, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
        await left(file, said())
        disk.protect()
        store = SQLiteStore(file)
        assert await ids(store) == ["said"]
        first = store._db
        assert await ids(store) == ["said"]
        assert store._db is first, "a copy is not made anew for nothing"
        file.parent.chmod(0o700)
        file.chmod(0o600)
        with Holder(file):
            pass
        assert sorted(await ids(store)) == ["held", "said"]
        await store.close()


class TestReadOnlyPlaces:
    """The server's database and the kernels' files are on one disk."""

    async def test_what_a_kernel_left_is_read_where_it_is(self, disk: Disk, file: Path) -> None:
        folder = file.parent / "conversations"
        await left(file, said("older"), said("another", conv_id="d"))
        await left(conversation_file(folder, "c"), said("newer", 2))
        disk.protect()
        server = AdoptingStore(file, folder, promise=0)
        assert (await ids(server), await ids(server, "d")) == (["newer"], ["another"])
        loaded = await server.load("c")
        assert loaded is not None
        assert loaded.pending == []
        for call in (server.save_settings("c", {}, 1), server.hand_over("c"), server.hand_over("d")):
            with pytest.raises(StoreUnavailable, match="can only be read"):
                await call
        await server.close()
        disk.release()
        assert names(folder) == ["c.sqlite"]
        server = AdoptingStore(file, folder, promise=0)
        assert await ids(server) == ["older", "newer"]
        await server.close()

    async def test_a_kernel_s_file_is_not_taken_in_and_its_run_is_left_for_later(
        self, disk: Disk, file: Path, tmp_path: Path
    ) -> None:
        await left(file, said(conv_id="d"))
        await left(there := conversation_file(tmp_path / "conversations", "c"), said("newer"))
        disk.protect()
        server = AdoptingStore(file, there.parent, promise=0)
        loaded = await server.load("c")
        assert loaded is not None
        assert ([each["id"] for each in loaded.rows], loaded.pending) == (["newer"], [])
        await server.close()
        assert names(there.parent) == ["c.sqlite"]


GARBAGE = b"This is no database. "


def long(conv_id: str, letter: str) -> Batch:
    """Rows of whole pages, each of which has this letter."""
    rows = tuple(row(f"{n}", n) | {"props": {"text": letter * 20_000}} for n in range(1, 6))
    return Batch(conv_id=conv_id, version=6, rows=rows, title=letter)


def spoil(file: Path, letter: str) -> None:
    """Overwrite the pages with this letter."""
    pages = [file.read_bytes()[at : at + 4096] for at in range(0, file.stat().st_size, 4096)]
    bad = [b"\x5a" * 4096 if letter.encode() * 1000 in page else page for page in pages]
    assert 1 < sum(page != was for page, was in zip(bad, pages, strict=True)) < len(pages) / 2
    file.write_bytes(b"".join(bad))


class TestDamage:
    @pytest.mark.parametrize(
        "harm",
        [
            lambda whole: GARBAGE * 100,
            lambda whole: GARBAGE * 100_000,
            lambda whole: bytes(len(whole)),
            lambda whole: b"X" + whole[1:],
            lambda whole: whole[: len(whole) // 2],
            lambda whole: whole[:4096] + bytes(len(whole) - 4096),
        ],
        ids=["no database", "a large one that is none", "zeros", "another head", "half of it", "half zeros"],
    )
    async def test_a_damaged_file_is_kept_aside_as_it_is_and_a_new_one_begun(
        self, file: Path, harm: Callable[[bytes], bytes]
    ) -> None:
        await left(file, said(), long("c", "A"))
        file.write_bytes(before := harm(file.read_bytes()))
        store = SQLiteStore(file)
        assert await ids(store) == []
        await store.write(said("anew"))
        await store.close()
        (kept,) = set(names(file.parent)) - {file.name}
        assert re.fullmatch(re.escape(file.name) + r"\.damaged-\d{8}T\d{6}", kept)
        assert (file.parent / kept).read_bytes() == before
        (notice,) = store.notices
        assert str(file) in notice
        assert kept in notice
        store = SQLiteStore(file)
        assert await ids(store) == ["anew"]
        assert store.notices == []
        await store.close()

    async def test_two_in_one_second_are_both_kept(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "strftime", lambda _: "20261121T101112")
        for n in (1, 2, 3):
            file.write_bytes(GARBAGE * 100 * n)
            store = SQLiteStore(file)
            assert await ids(store) == []
            await store.close()
        kept = sorted(file.parent.glob("*.damaged-*"))
        assert [each.stat().st_size // len(GARBAGE) for each in kept] == [100, 200, 300]

    async def test_what_a_crash_left_beside_it_is_not_lost(self, file: Path) -> None:
        await left(file, said(), long("c", "A"))
        cut(file)
        file.write_bytes(GARBAGE * 10_000)
        store = SQLiteStore(file)
        assert await ids(store) == []
        await store.close()
        kept = b"".join(each.read_bytes() for each in file.parent.glob("*.damaged-*"))
        assert b"held" in kept
        assert GARBAGE * 100 in kept

    async def test_where_all_is_in_what_a_crash_left_beside_it_nothing_is_damaged(self, file: Path) -> None:
        cut(file)
        file.write_bytes(GARBAGE * 1000)
        store = SQLiteStore(file)
        assert await ids(store) == ["held"]
        assert store.notices == []
        await store.close()

    @pytest.mark.parametrize("harm", ["emptied", "removed"])
    async def test_what_a_crash_left_of_a_file_that_is_no_more_is_not_written_over(
        self, file: Path, harm: str
    ) -> None:
        cut(file)
        wal = Path(f"{file}-wal").read_bytes()
        file.write_bytes(b"") if harm == "emptied" else file.unlink()
        store = SQLiteStore(file)
        assert await ids(store) == []
        await store.write(said("anew"))
        await store.close()
        (kept,) = file.parent.glob("*.damaged-*-wal")
        assert kept.read_bytes() == wal
        assert len(store.notices) == 1
        store = SQLiteStore(file)
        assert await ids(store) == ["anew"]
        await store.close()

    async def test_a_server_does_not_take_it_for_a_kernel_s_empty_file(self, file: Path) -> None:
        folder = file.parent / "conversations"
        folder.mkdir()
        cut(kernel := conversation_file(folder, "c"))
        wal = Path(f"{kernel}-wal").read_bytes()
        kernel.write_bytes(b"")
        server = AdoptingStore(file, folder, promise=0)
        with pytest.raises(StoreUnavailable, match="it is empty") as error:
            await server.load("c")
        assert error.value.code == "conversation_unreadable"
        assert Path(f"{kernel}-wal").read_bytes() == wal
        await server.write(said(conv_id="d"))
        await server.close()

    async def test_a_file_that_somebody_has_open_stays_where_it_is(self, file: Path) -> None:
        with Holder(file):
            file.write_bytes(GARBAGE * 1000)
            store = SQLiteStore(file)
            with pytest.raises(StoreUnavailable, match="is in use by"):
                await store.load("c")
            await store.close()
            assert not list(file.parent.glob("*.damaged-*"))

    @pytest.mark.parametrize("harm", [GARBAGE * 1000, b""], ids=["no database", "emptied"])
    async def test_where_nothing_may_be_written_it_stays_too(
        self, disk: Disk, file: Path, harm: bytes
    ) -> None:
        await left(file, said(), long("c", "A"))
        cut(file)
        before = names(file.parent)
        file.write_bytes(harm)
        disk.protect()
        store = SQLiteStore(file)
        with pytest.raises(StoreUnavailable, match="move the file away"):
            await store.load("c")
        await store.close()
        assert names(file.parent) == before

    async def test_what_is_met_later_ends_all_writing_but_no_reading(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(damage, "_CHECKED_BYTES", 0)
        await left(file, long("whole", "A"), long("broken", "B"))
        spoil(file, "B")
        store = SQLiteStore(file)
        assert len(await ids(store, "whole")) == 5
        assert store.notices == []
        with pytest.raises(StoreUnavailable, match="malformed"):
            await store.load("broken")
        before = file.read_bytes()
        with pytest.raises(StoreUnavailable, match="nothing is written to it any more") as error:
            await store.write(said("later", 7, conv_id="whole"))
        assert store.notices == [error.value.message]
        assert len(await ids(store, "whole")) == 5
        assert [each.title for each in await store.conversations()] == ["B", "A"]
        assert file.read_bytes() == before
        file.rename(file.with_name("away"))
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.write(said("anew"))
        await store.write(said("anew"))
        assert (await ids(store), store.notices) == (["anew"], [])
        await store.close()

    async def test_a_byte_that_is_no_text_costs_its_conversation_only(self, file: Path) -> None:
        await left(file, said(), long("c", "A"), said("whole", conv_id="d"))
        file.write_bytes(file.read_bytes().replace(b"A" * 1000, b"A" * 999 + b"\xff", 1))
        store = SQLiteStore(file)
        with pytest.raises(StoreUnavailable) as error:
            await store.load("c")
        assert error.value.code == "conversation_unreadable"
        await store.write(said("later", 2, conv_id="d"))
        assert await ids(store, "d") == ["whole", "later"]
        await store.close()


class TestOwner:
    """Who is refused is told who has the file."""

    @staticmethod
    async def refusal(store: SQLiteStore) -> str:
        with pytest.raises((StoreUnavailable, ConversationHeld)) as error:
            await store.load("c")
        await store.close()
        return error.value.message

    async def test_a_second_server_hears_of_the_first(self, file: Path) -> None:
        begun = time.strftime("%Y-%m-%d %H:%M")
        with Holder(file) as holder:
            said = await self.refusal(SQLiteStore(file))
        assert f"is in use by a Jupyter server, process {holder.pid} on {socket.gethostname()}, since" in said
        since = re.search(r"since (\d{4}-\d\d-\d\d \d\d:\d\d)\.", said)
        assert since is not None
        assert begun <= since[1] <= time.strftime("%Y-%m-%d %H:%M")

    async def test_a_server_hears_of_the_kernel(self, file: Path) -> None:
        folder = file.parent / "conversations"
        with Holder(conversation_file(folder, "c")) as holder:
            said = await self.refusal(AdoptingStore(file, folder, promise=0))
        assert re.search(rf"kernel \(.+, process {holder.pid} on .+\)\. Open it there", said)

    async def test_one_that_was_killed_has_it_no_more(self, file: Path) -> None:
        with Holder(file) as first:
            first.kill()
        beside = Path(f"{file}-lock")
        assert f'"pid":{first.pid},' in beside.read_text()
        beside.write_text(beside.read_text() + " with a longer name")
        with Holder(file) as second:
            assert f"process {second.pid} on" in await self.refusal(SQLiteStore(file))
            second.end()
        assert names(file.parent) == [file.name]

    @pytest.mark.parametrize("words", [b"", b"{", b'{"pid":1}', b"\xff"])
    async def test_one_that_says_nothing_of_itself_is_refused_to_others_all_the_same(
        self, file: Path, words: bytes
    ) -> None:
        with Holder(file):
            Path(f"{file}-lock").write_bytes(words)
            assert "is in use by another program. Stop" in await self.refusal(SQLiteStore(file))

    async def test_nobody_is_told_that_they_have_it_themselves(self, file: Path) -> None:
        """The lock is still ours where the file has been replaced by one that a program has open."""
        store = SQLiteStore(file)
        await store.write(said())
        copied(file, file.parent.parent).replace(file)
        with closing(sqlite3.connect(file)) as program:
            program.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                await store.write(said("refused", 2))
            assert f'"pid":{os.getpid()},' in Path(f"{file}-lock").read_text()
            assert "is in use by another program. Stop that" in await self.refusal(store)

    async def test_who_loses_its_file_keeps_its_name_and_stores_in_the_one_that_has_it_now(
        self, file: Path
    ) -> None:
        """Its conversations are in memory still: with another owner there would be two."""
        store = SQLiteStore(file)
        await store.write(said())
        copied(file, file.parent.parent).replace(file)
        Path(f"{file.parent.parent / file.name}-wal").replace(f"{file}-wal")
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.write(said("refused", 2))
        assert f"process {os.getpid()} on" in await self.refusal(SQLiteStore(file))
        await store.write(said("more", 3))
        assert await ids(store) == ["said", "more"]
        await store.close()
        assert names(file.parent) == [file.name]

    async def test_who_loses_all_of_the_folder_begins_anew(self, file: Path) -> None:
        store = SQLiteStore(file)
        await store.write(said())
        moved = file.parent.rename(file.parent.with_name("elsewhere"))
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.write(said("refused", 2))
        await store.write(said("more", 3))
        assert await ids(store) == ["more"]
        await store.close()
        assert names(file.parent) == [file.name]
        there = SQLiteStore(moved / file.name)
        assert await ids(there) == ["said"], "nobody has that any more"
        await there.close()

    async def test_a_full_disk_keeps_nobody_from_what_is_there(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await left(file, said())

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(lock.os, "write", full)
        store = SQLiteStore(file)
        assert await ids(store) == ["said"]
        assert "by another program" in await self.refusal(SQLiteStore(file))
        await store.close()


class TestStatements:
    """What SQLite says of single ones. `tests/soak/disk.py` does it to any."""

    @pytest.fixture
    def failing(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
        monkeypatch.setattr(connection, "Database", Faulty)
        return Failing(file)

    async def test_a_commit_that_took_effect_is_done_whatever_was_said_of_it(
        self, failing: Failing, file: Path
    ) -> None:
        store = SQLiteStore(file)
        await store.write(said())
        failing.fault = Fault("IOERR", skip=0, lasts=1, commit=True, after=True)
        await store.write(said("more", 2))
        assert failing.taken == 1
        assert await ids(store) == ["said", "more"]
        await store.close()

    async def test_a_commit_that_fails_twice_is_refused(self, failing: Failing, file: Path) -> None:
        store = SQLiteStore(file)
        await store.write(said())
        failing.fault = Fault("IOERR_FSYNC", skip=0, lasts=2, commit=True)
        with pytest.raises(StoreUnavailable, match=r"\)\. Look whether the disk is full or was taken away"):
            await store.write(said("more", 2))
        assert await ids(store) == ["said"]
        await store.close()

    @pytest.mark.parametrize("call", ["write", "load"])
    async def test_what_could_not_be_taken_back_at_once_is_taken_back_by_the_next_call(
        self, failing: Failing, file: Path, call: str
    ) -> None:
        store = AdoptingStore(file, file.parent / "conversations")
        await store.write(said())
        failing.fault = Fault("IOERR", skip=3, lasts=2)  # an INSERT, then the ROLLBACK
        with pytest.raises(StoreUnavailable):
            await store.write(said("refused", 2))
        assert failing.said == 2
        if call == "write":
            await store.write(said("more", 3))
        assert await ids(store) == ["said", *(["more"] if call == "write" else [])]
        await store.close()
