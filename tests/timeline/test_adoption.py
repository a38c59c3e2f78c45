"""A conversation moves between the server's database and a kernel's file, and loses nothing on its way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.timeline.kernels import Holder, lock_of
from webchat_widget.errors import ConversationHeld, StoreUnavailable
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.migrations import MIGRATIONS
from webchat_widget.timeline.sqlite import SQLiteStore, adoption, connection
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, KeyRecord, Loaded, PendingRun, TurnRecord
from webchat_widget.turns import Message

KEY = KeyRecord("ada", "k", "digest", 200, {"run_id": "done", "conv_id": "c"}, 1000)
OTHERS_KEY = KeyRecord("ada", "o", "digest", 200, {"run_id": "x", "conv_id": "other"}, 1000)
SETTINGS = {"system_prompt": "Be brief. é"}


def row(id: str, version: int, kind: str = "message", **props: Any) -> Row:
    return {"id": id, "kind": kind, "createdSeq": version, "version": version, "props": props}


def whole(version: int = 50) -> Batch:
    """A conversation with something in every table."""
    return Batch(
        conv_id="c",
        version=version,
        rows=(
            row("done", 10, "run", status="finished"),
            row("done:text:1", 20, role="assistant", content="four 😀", streaming=False),
            row("waits", version, "run", status="queued", prompt="and 3+3?"),
        ),
        pending=(PendingRun("waits", version, False, {"prompt": "and 3+3?"}),),
        turns=(("done", (Message("user", "2+2?"), Message("assistant", "four"))),),
        records=(
            TurnRecord(
                run_id="done", n=1, phase="pre_inference", messages=(Message("user", "2+2?"),), seq=15
            ),
        ),
        key=KEY,
        title="2+2?",
    )


class Places:
    """A server's database and the folder of the kernels, as stores that the test's end closes."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "timeline.sqlite"
        self.folder = folder / "conversations"
        self.file = conversation_file(self.folder, "c")
        self.open: list[SQLiteStore] = []

    def server(self) -> AdoptingStore:
        self.open.append(store := AdoptingStore(self.database, self.folder, promise=0))
        return store

    def kernel(self) -> SQLiteStore:
        store = SQLiteStore(self.file, in_use=lambda _: ConversationHeld("Another kernel."))
        self.open.append(store)
        return store

    async def fill(self, store: SQLiteStore, *batches: Batch, settings: dict[str, Any] | None = None) -> None:
        """Write to a store, and close it."""
        for batch in batches:
            await store.write(batch)
        if settings is not None:
            await store.save_settings("c", settings, 5)
        await store.close()

    def count(self, path: Path) -> dict[str, int]:
        """How many rows each table has."""
        db = sqlite3.connect(path)
        tables = ("conversations", "entities", "runs", "turns", "blocks", "records", "keys")
        counted = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        db.close()
        return counted


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[Places]:
    places = Places(tmp_path)
    yield places
    for store in places.open:
        await store.close()


async def loaded(store: SQLiteStore, conv_id: str = "c") -> Loaded:
    found = await store.load(conv_id)
    assert found is not None
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


class TestAdoption:
    async def test_what_a_kernel_left_is_taken_in_and_its_file_is_gone(self, places: Places) -> None:
        kernel = places.kernel()
        await kernel.write(whole())
        await kernel.save_settings("c", SETTINGS, 5)
        before = await loaded(kernel)
        await kernel.close()
        server = places.server()
        assert await loaded(server) == before
        assert before.settings == SETTINGS
        assert names(places.folder) == []
        assert await server.key("ada", "k") == KEY
        assert await server.unfinished() == ["c"]
        assert [each.title for each in await server.conversations()] == ["2+2?"]

    async def test_settings_are_put_on_top_of_what_a_kernel_left(self, places: Places) -> None:
        await places.fill(places.kernel(), whole(), settings=SETTINGS)
        server = places.server()
        await server.save_settings("c", {"model": "m"}, 9)
        assert names(places.folder) == []
        after = await loaded(server)
        assert (after.settings, after.version) == ({"model": "m"}, 50)

    async def test_a_kernel_that_was_killed_leaves_all_that_it_had_committed(self, places: Places) -> None:
        with Holder(places.file) as holder:
            holder.kill()
        assert names(places.folder) == ["c.sqlite", "c.sqlite-lock", "c.sqlite-wal"]
        assert [each["id"] for each in (await loaded(places.server())).rows] == ["held"]
        assert names(places.folder) == []

    async def test_without_a_kernel_s_folder_all_is_as_in_any_store(self, places: Places) -> None:
        server = places.server()
        assert await server.load("c") is None
        await server.write(whole())
        assert (await loaded(server)).version == 50
        assert not places.folder.exists()

    async def test_what_the_next_file_of_that_name_has_beside_it_is_left_alone(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A kernel may make one as soon as the name is free, before we have closed ours."""
        await places.fill(places.kernel(), whole())
        unlink = connection._unlink
        beside = [places.file.with_name(places.file.name + suffix) for suffix in ("-journal", "-wal", "-shm")]

        def then_another_comes(path: Path) -> None:
            unlink(path)
            for each in beside:
                each.write_text("another's")

        monkeypatch.setattr(connection, "_unlink", then_another_comes)
        assert (await loaded(places.server())).version == 50
        assert [each.read_text() for each in beside if each.exists()] == ["another's"] * 3

    async def test_a_file_that_took_its_place_meanwhile_is_taken_in_next(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a backup that is put back: what is removed is what was taken in, and nothing else."""
        backup = places.file.with_name("backup")
        await places.fill(places.kernel(), Batch(conv_id="c", version=9, rows=(row("theirs", 9),)))
        places.file.rename(backup)
        await places.fill(places.kernel(), whole())
        remove = connection.remove

        def too_late(db: connection.Database, file: Path) -> None:
            if backup.exists():
                backup.rename(places.file)
            remove(db, file)

        monkeypatch.setattr(adoption, "remove", too_late)
        server = places.server()
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await server.load("c")
        assert "theirs" in [each["id"] for each in (await loaded(server)).rows]
        assert names(places.folder) == []

    @pytest.mark.parametrize("content", ["nothing", "tables"])
    async def test_a_file_without_a_conversation_is_removed(self, places: Places, content: str) -> None:
        if content == "tables":
            await places.kernel().load("c")
            await places.open[-1].close()
        else:
            places.folder.mkdir()
            places.file.touch()
        assert await places.server().load("c") is None
        assert names(places.folder) == []


class TestHeld:
    async def test_every_call_says_so_and_takes_nothing(self, places: Places) -> None:
        server = places.server()
        await server.write(Batch(conv_id="other", version=1))
        with Holder(places.file) as holder:
            for call in (server.load("c"), server.save_settings("c", {}, 1), server.hand_over("c")):
                with pytest.raises(ConversationHeld, match="runs in a notebook's kernel") as error:
                    await call
                assert (error.value.code, error.value.status) == ("conversation_held", 409)
            assert (await loaded(server, "other")).version == 1
            # To close any descriptor of a file drops all locks that this process has on it, not the kernel's.
            assert await asyncio.to_thread(lock_of, places.file) == "database is locked"
            await asyncio.to_thread(holder.end)
        assert [each["id"] for each in (await loaded(server)).rows] == ["held"]

    async def test_the_refusal_comes_at_once(self, places: Places) -> None:
        server = places.server()
        await server.load("c")
        with Holder(places.file):
            async with asyncio.timeout(1):  # others wait behind it
                with pytest.raises(ConversationHeld):
                    await server.load("c")

    async def test_a_second_kernel_is_told_and_may_try_again(self, places: Places) -> None:
        second = places.kernel()
        with Holder(places.file) as first:
            with pytest.raises(ConversationHeld, match="Another kernel"):
                await second.load("c")
            first.kill()
            assert [each["id"] for each in (await loaded(second)).rows] == ["held"]

    @pytest.mark.parametrize(
        "cell",
        [
            "open(path, 'rb').read()",
            "import shutil; shutil.copytree(path.rpartition('/')[0], path + '.backup')",
        ],
        ids=["read", "copied with all beside it"],
    )
    async def test_a_kernel_that_reads_its_own_file_keeps_it(self, places: Places, cell: str) -> None:
        """To close any descriptor of a file drops every lock that the process holds on it (POSIX)."""
        server = places.server()
        with Holder(places.file, cell=cell) as holder:
            for call in (server.load("c"), server.hand_over("c")):
                with pytest.raises(ConversationHeld):
                    await call
            await asyncio.to_thread(holder.end)
        assert [each["id"] for each in (await loaded(server)).rows] == ["held", "later"]

    async def test_a_worker_that_outlives_its_kernel_does_not_keep_the_file(self, places: Places) -> None:
        fork = (
            "import os, signal\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    os.closerange(0, 3)\n"
            "    signal.pause()\n"
            "open(path + '.pid', 'w').write(str(child))\n"
        )
        with Holder(places.file, cell=fork) as holder:
            worker = int(places.file.with_name("c.sqlite.pid").read_text())
            holder.kill()
            try:
                assert [each["id"] for each in (await loaded(places.server())).rows] == ["held"]
            finally:
                os.kill(worker, signal.SIGKILL)


class TestMerge:
    """The conversation is in both places: a process ended in the middle of a move."""

    async def test_of_two_versions_of_a_row_the_higher_one_stays(self, places: Places) -> None:
        ours = (row("a", 5, text="ours"), row("b", 1, text="old"), row("mine", 3))
        theirs = (row("a", 4, text="old"), row("b", 9, text="theirs"), row("their", 2))
        server = places.server()
        await server.write(Batch(conv_id="c", version=5, rows=ours))
        await places.fill(places.kernel(), Batch(conv_id="c", version=9, rows=theirs))
        after = await loaded(server)
        assert after.version == 9
        assert {each["id"]: (each["version"], each["props"].get("text")) for each in after.rows} == {
            "a": (5, "ours"),
            "b": (9, "theirs"),
            "mine": (3, None),
            "their": (2, None),
        }

    async def test_the_version_of_the_conversation_never_goes_down(self, places: Places) -> None:
        server = places.server()
        await server.write(Batch(conv_id="c", version=9))
        await places.fill(places.kernel(), Batch(conv_id="c", version=5))
        assert (await loaded(server)).version == 9

    @pytest.mark.parametrize(("ours", "theirs", "winner"), [(5, 6, "file"), (5, 5, "file"), (6, 5, "ours")])
    async def test_settings_are_those_of_the_last_holder(
        self, places: Places, ours: int, theirs: int, winner: str
    ) -> None:
        server = places.server()
        await server.write(Batch(conv_id="c", version=ours))
        await server.save_settings("c", {"model": "ours"}, 1)
        await places.fill(places.kernel(), Batch(conv_id="c", version=theirs), settings={"model": "file"})
        assert (await loaded(server)).settings == {"model": winner}

    @pytest.mark.parametrize("ended_in", ["server", "kernel"])
    async def test_a_run_that_ended_in_either_is_not_run_again(self, places: Places, ended_in: str) -> None:
        ended = Batch(
            conv_id="c", version=60, rows=(row("waits", 60, "run", status="finished"),), ended=("waits",)
        )
        server = places.server()
        await server.write(whole())
        if ended_in == "server":
            await server.write(ended)
            await places.fill(places.kernel(), whole())
        else:
            await places.fill(places.kernel(), whole(), ended)
        after = await loaded(server)
        assert after.pending == []
        assert await server.unfinished() == []
        assert {each["id"]: each["props"].get("status") for each in after.rows}["waits"] == "finished"

    @pytest.mark.parametrize("started_in", ["server", "kernel"])
    async def test_a_run_that_started_in_either_has_started(self, places: Places, started_in: str) -> None:
        server = places.server()
        queued, started = (PendingRun("r", 7, begun, {"prompt": "p"}) for begun in (False, True))
        ours, theirs = (started, queued) if started_in == "server" else (queued, started)
        await server.write(Batch(conv_id="c", version=7, pending=(ours,)))
        await places.fill(places.kernel(), Batch(conv_id="c", version=7, pending=(theirs,)))
        assert (await loaded(server)).pending == [started]

    async def test_what_was_taken_in_already_is_harmless(self, places: Places) -> None:
        await places.fill(places.kernel(), whole(), settings=SETTINGS)
        shutil.copy(places.file, again := places.database.with_name("again"))
        server = places.server()
        first = await loaded(server)
        shutil.copy(again, places.file)
        assert await loaded(server) == first
        assert await server.key("ada", "k") == KEY
        await server.write(Batch(conv_id="c", version=70, rows=(row("waits", 70, "run", status="finished"),)))
        await server.write(Batch(conv_id="c", version=71, ended=("waits",)))
        later = await loaded(server)
        shutil.copy(again, places.file)
        assert await loaded(server) == later

    async def test_another_conversation_in_the_file_is_not_lost(self, places: Places) -> None:
        """Two conv_ids may have one name, if ever so rarely."""
        await places.fill(places.kernel(), whole(), Batch(conv_id="d", version=3, rows=(row("d", 3),)))
        server = places.server()
        assert (await loaded(server)).version == 50
        assert [each["id"] for each in (await loaded(server, "d")).rows] == ["d"]


class TestTrouble:
    @staticmethod
    async def left(places: Places) -> bytes:
        """What a kernel left, in some pages."""
        many = tuple(row(f"r{n}", n, content="x" * 2000) for n in range(1, 40))
        await places.fill(places.kernel(), whole(), Batch(conv_id="c", version=60, rows=many))
        return places.file.read_bytes()

    @staticmethod
    async def refused(places: Places) -> StoreUnavailable:
        """The error; the file is left as it was, and other conversations are not affected."""
        before = places.file.read_bytes()
        server = places.server()
        await server.write(Batch(conv_id="other", version=1))
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as error:
                await server.load("c")
            assert error.value.code == "conversation_unreadable"
        with pytest.raises(StoreUnavailable):
            await server.hand_over("c")
        assert (await loaded(server, "other")).version == 1
        assert str(places.file) in error.value.message
        assert places.file.read_bytes() == before
        await server.close()
        assert places.count(places.database)["conversations"] == 1
        return error.value

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda whole: b"This is no database. " * 1000,
            lambda whole: whole[: len(whole) // 2],
            lambda whole: whole[:4096] + bytes(len(whole) - 4096),
            lambda whole: whole.replace(b'{"content":"xx', b'{"content";"xx'),
        ],
        ids=["no database", "half of it", "zeros", "no JSON"],
    )
    async def test_a_damaged_file_is_said_and_stays(
        self, places: Places, spoil: Callable[[bytes], bytes]
    ) -> None:
        places.file.write_bytes(spoil(await self.left(places)))
        assert "move the file away" in (await self.refused(places)).message

    async def test_an_index_that_lacks_a_row_is_noticed(self, places: Places) -> None:
        await self.left(places)
        db = sqlite3.connect(places.file)
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'entities_in_order'")
        db.commit()
        db.close()
        assert "damaged" in (await self.refused(places)).message

    async def test_a_newer_version_s_file_is_said_and_stays(self, places: Places) -> None:
        await self.left(places)
        db = sqlite3.connect(places.file)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        db.close()
        message = (await self.refused(places)).message
        assert "newer version" in message
        assert "Update the package" in message

    async def test_something_that_is_no_file(self, places: Places) -> None:
        places.file.mkdir(parents=True)
        server = places.server()
        with pytest.raises(StoreUnavailable, match="can't be opened") as error:
            await server.load("c")
        assert error.value.code == "conversation_unreadable"
        await server.write(Batch(conv_id="other", version=1))

    async def test_where_the_server_s_disk_is_full_the_file_stays(self, places: Places) -> None:
        await self.left(places)
        server = places.server()
        await server.unfinished()
        (pages,) = await server._submit(lambda db: db.execute("PRAGMA page_count").fetchone())
        await server._submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        with pytest.raises(StoreUnavailable, match="full") as error:
            await server.load("c")
        assert error.value.code == "store_unavailable", "it is not this conversation's fault"
        await server._submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        assert (await loaded(server)).version == 60
        assert names(places.folder) == []


class TestHandOver:
    async def test_all_of_it_is_where_a_kernel_looks_and_only_its_key_is_left(self, places: Places) -> None:
        server = places.server()
        await server.write(whole())
        await server.save_settings("c", SETTINGS, 5)
        await server.write(Batch(conv_id="other", version=1, rows=(row("o", 1),), key=OTHERS_KEY))
        before = await loaded(server)
        assert await server.hand_over("c") is True
        assert names(places.folder) == ["c.sqlite"]
        assert (mode(places.folder), mode(places.file)) == (0o700, 0o600)
        kernel = places.kernel()
        assert await loaded(kernel) == before
        assert await kernel.key("ada", "k") == KEY
        assert [each.title for each in await kernel.conversations()] == ["2+2?"]
        assert await kernel.key("ada", "o") is None
        assert await server.key("ada", "o") == OTHERS_KEY
        assert [each.conv_id for each in await server.conversations()] == ["other"]
        await server.close()
        assert places.count(places.database) == {
            "conversations": 1,
            "entities": 1,
            "runs": 0,
            "turns": 0,
            "blocks": 0,
            "records": 0,
            "keys": 2,
        }

    async def test_an_unknown_one_makes_no_file(self, places: Places) -> None:
        assert await places.server().hand_over("c") is False
        assert not places.folder.exists()

    async def test_there_and_back_again(self, places: Places) -> None:
        server = places.server()
        await server.write(whole())
        await server.save_settings("c", SETTINGS, 5)
        for version in (60, 70, 80):
            before = await loaded(server)
            await server.hand_over("c")
            kernel = places.kernel()
            assert await loaded(kernel) == before
            await kernel.write(Batch(conv_id="c", version=version, rows=(row(f"r{version}", version),)))
            before = await loaded(kernel)
            await kernel.close()
            assert await loaded(server) == before
        assert (await loaded(server)).version == 80
        assert await server.key("ada", "k") == KEY

    async def test_what_a_kernel_left_earlier_is_handed_over_too(self, places: Places) -> None:
        server = places.server()
        await server.write(Batch(conv_id="c", version=5, rows=(row("ours", 5),)))
        await places.fill(places.kernel(), Batch(conv_id="c", version=7, rows=(row("theirs", 7),)))
        assert await server.hand_over("c") is True
        after = await loaded(places.kernel())
        assert ([each["id"] for each in after.rows], after.version) == (["ours", "theirs"], 7)

    async def test_a_file_alone_is_known(self, places: Places) -> None:
        await places.fill(places.kernel(), whole())
        server = places.server()
        assert await server.hand_over("c") is True
        assert (await loaded(places.kernel())).version == 50
        assert await server.conversations() == []

    async def test_where_the_file_can_t_be_written_it_stays(self, places: Places) -> None:
        server = places.server()
        await server.write(whole())
        before = await loaded(server)
        places.folder.write_text("in the way")
        with pytest.raises(StoreUnavailable, match="can't be opened"):
            await server.hand_over("c")
        places.folder.unlink()
        assert await loaded(server) == before

    async def test_keys_that_say_nothing_of_a_conversation_stay_and_disturb_nobody(
        self, places: Places
    ) -> None:
        server = places.server()
        await server.write(whole())
        await server._submit(
            lambda db: db.executemany(
                "INSERT INTO keys VALUES ('ada', ?, '', 200, ?, 1000)", [("a", "no JSON"), ("b", "{}")]
            )
        )
        assert await server.hand_over("c") is True
        await server.close()
        assert places.count(places.database)["keys"] == 3


_KERNELS = """
import asyncio, sys
from pathlib import Path
from webchat_widget.errors import ConversationHeld
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.store import Batch

async def write(folder, name, count):
    written = 0
    while written < count:
        store = SQLiteStore(conversation_file(Path(folder), "c"), in_use=lambda _: ConversationHeld("held"))
        try:
            loaded = await store.load("c")
            version = 1 + (loaded.version if loaded else 0)
            row = {"id": f"{name}-{written}", "kind": "note", "createdSeq": version, "version": version}
            await store.write(Batch(conv_id="c", version=version, rows=({**row, "props": {}},)))
            written += 1
        except ConversationHeld:
            pass
        finally:
            await store.close()

asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_a_server_and_three_kernels_that_snatch_it_from_each_other_lose_nothing(places: Places) -> None:
    """Files appear, are locked, handed over, taken in and removed under each other's hands."""
    command = [sys.executable, "-c", _KERNELS, str(places.folder)]
    kernels = [
        await asyncio.create_subprocess_exec(*command, name, "25", stderr=asyncio.subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    ends = asyncio.gather(*(kernel.communicate() for kernel in kernels))
    server = places.server()
    taken = given = highest = 0
    while not ends.done():
        with contextlib.suppress(ConversationHeld):
            found = await server.load("c")
            taken += 1
            assert found is None or found.version >= highest, "a version never goes down"
            highest = found.version if found else highest
            if taken % 2:
                given += await server.hand_over("c")
    assert b"".join([error for _, error in await ends]).decode() == ""
    rows = {each["id"] for each in (await loaded(server)).rows}
    assert rows == {f"{name}-{n}" for name in "abc" for n in range(25)}
    assert taken
    assert given
