"""What the store promises: on a real file, and for the one in memory."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from webchat_widget.errors import ConversationHeld, StoreUnavailable
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.migrations import MIGRATIONS
from webchat_widget.timeline.sqlite import KEY_LIFETIME_MS, SQLiteStore, connection, lock
from webchat_widget.timeline.store import Batch, KeyRecord, PendingRun
from webchat_widget.turns import Message, ToolCall


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "timeline.db"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(file)
    yield store
    await store.close()


@pytest.fixture(params=["in a file", "in memory"])
async def any_store(request: pytest.FixtureRequest, file: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(file) if request.param == "in a file" else MemoryStore()
    yield store
    await store.close()


def row(id: str = "m", version: int = 1, **props: Any) -> Row:
    return {"id": id, "kind": "message", "createdSeq": 1, "version": version, "props": props}


def batch(conv_id: str = "c", version: int = 1, *rows: Row, **more: Any) -> Batch:
    return Batch(conv_id=conv_id, version=version, rows=rows, **more)


async def rows_of(store: SQLiteStore, conv_id: str = "c") -> list[Row]:
    loaded = await store.load(conv_id)
    return [] if loaded is None else loaded.rows


async def refused(store: SQLiteStore) -> StoreUnavailable:
    """The error with which the store answers."""
    with pytest.raises(StoreUnavailable) as error:
        await store.load("c")
    await store.close()
    return error.value


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


class TestConversation:
    async def test_an_unknown_one_is_none(self, any_store: SQLiteStore) -> None:
        assert await any_store.load("c") is None

    async def test_it_comes_back_as_it_was_written(self, any_store: SQLiteStore) -> None:
        written = row("m", 5, content='é 😀 "', streaming=False, usage={"inputTokens": 7}, none=None)
        await any_store.write(batch("c", 5, written))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert (loaded.version, loaded.rows, loaded.pending, loaded.memory) == (5, [written], [], [])
        assert loaded.settings == {}

    async def test_rows_come_in_the_order_in_which_they_were_made(self, any_store: SQLiteStore) -> None:
        made = [row(str(seq), 50) | {"createdSeq": seq} for seq in (30, 10, 20)]
        await any_store.write(batch("c", 50, *made))
        assert [each["createdSeq"] for each in await rows_of(any_store)] == [10, 20, 30]

    async def test_a_newer_row_replaces_an_older_one_but_never_its_place(
        self, any_store: SQLiteStore
    ) -> None:
        await any_store.write(batch("c", 1, row("m", 1, content="a")))
        await any_store.write(batch("c", 2, row("m", 2, content="ab") | {"createdSeq": 99, "kind": "other"}))
        assert await rows_of(any_store) == [row("m", 2, content="ab")]

    async def test_an_older_row_never_overwrites_a_newer_one(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch("c", 5, row("m", 5, content="new")))
        await any_store.write(batch("c", 4, row("m", 4, content="old")))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.rows == [row("m", 5, content="new")]
        assert loaded.version == 5, "nor does an older batch lower the version: a seq would be given twice"

    async def test_conversations_are_apart(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch("c", 1, row("m", 1, content="c's")))
        await any_store.write(batch("d", 1, row("m", 1, content="d's")))
        assert await rows_of(any_store, "c") == [row("m", 1, content="c's")]
        assert await rows_of(any_store, "d") == [row("m", 1, content="d's")]

    async def test_settings_are_kept_and_replaced(self, any_store: SQLiteStore) -> None:
        await any_store.save_settings("c", {"model": "a", "system_prompt": "é"}, 1000)
        await any_store.write(batch("c", 5, row()))
        await any_store.save_settings("c", {"model": "b"}, 2000)
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.settings == {"model": "b"}
        assert (loaded.version, loaded.rows) == (5, [row()]), "and touch nothing else"


class TestRuns:
    @staticmethod
    def pending(run_id: str, seq: int, *, started: bool = False) -> PendingRun:
        return PendingRun(run_id, seq, started, {"prompt": f"prompt of {run_id}"})

    async def test_unfinished_ones_come_in_the_order_of_the_queue(self, any_store: SQLiteStore) -> None:
        late, early = self.pending("a", 7), self.pending("b", 3, started=True)
        await any_store.write(batch("c", 7, pending=(late, early)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.pending == [early, late]
        assert await any_store.unfinished() == ["c"]

    async def test_a_start_keeps_the_place_in_the_queue(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch("c", 3, pending=(self.pending("a", 3), self.pending("b", 4))))
        await any_store.write(batch("c", 9, pending=(self.pending("a", 9, started=True),)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.pending == [self.pending("a", 3, started=True), self.pending("b", 4)]

    async def test_one_that_ended_is_unfinished_no_more(self, any_store: SQLiteStore) -> None:
        for conv_id in ("c", "d"):
            await any_store.write(batch(conv_id, 3, pending=(self.pending(f"run of {conv_id}", 3),)))
        await any_store.write(batch("c", 4, ended=("run of c",)))
        assert await any_store.unfinished() == ["d"]
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.pending == []

    async def test_memory_comes_turn_by_turn_in_the_order_of_their_ends(self, any_store: SQLiteStore) -> None:
        call = ToolCall("call_0", "calculate", '{"expression": "1+1"}')
        first = (
            Message("user", "1+1?"),
            Message("assistant", "", (call,)),
            Message("tool", "2", tool_call_id="call_0"),
        )
        second = (Message("user", "thanks"), Message("assistant", "é 😀"))
        await any_store.write(batch("c", 20, turns=(("aa", second),)))
        await any_store.write(batch("c", 10, turns=(("zz", first),)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.memory == [*first, *second]

    async def test_a_turn_that_is_written_again_counts_once(self, any_store: SQLiteStore) -> None:
        for text in ("half", "whole"):
            await any_store.write(batch("c", 10, turns=(("r", (Message("assistant", text),)),)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.memory == [Message("assistant", "whole")]


class TestKeys:
    @staticmethod
    def record(key: str = "k", *, user: str = "ada", created: int = 0) -> KeyRecord:
        return KeyRecord(user, key, "digest", 202, {"run_id": "r", "queue_position": 2}, created)

    async def test_the_first_answer_is_kept(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch(key=self.record()))
        assert await any_store.key("ada", "k") == self.record()

    async def test_a_key_is_its_user_s_own(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch(key=self.record()))
        assert await any_store.key("bob", "k") is None
        assert await any_store.key("ada", "other") is None

    async def test_who_is_nobody_in_particular_has_everybody_s_keys_and_shares_its_own(
        self, any_store: SQLiteStore
    ) -> None:
        """A conversation moves between a server, which knows its users, and a kernel, which does not."""
        await any_store.write(batch(key=self.record("of ada")))
        await any_store.write(batch(key=self.record("of nobody", user="")))
        assert await any_store.key("", "of ada") == self.record("of ada")
        assert await any_store.key("ada", "of nobody") == self.record("of nobody", user="")
        await any_store.write(batch(key=self.record("of nobody", created=1)))
        assert await any_store.key("ada", "of nobody") == self.record("of nobody", created=1)
        assert await any_store.key("bob", "of nobody") == self.record("of nobody", user="")
        assert await any_store.key("", "of nobody") == self.record("of nobody", user="")

    async def test_the_next_key_sweeps_those_older_than_a_week(self, any_store: SQLiteStore) -> None:
        now = 2 * KEY_LIFETIME_MS
        await any_store.write(batch(key=self.record("too old", created=now - KEY_LIFETIME_MS - 1)))
        await any_store.write(batch(key=self.record("just in time", created=now - KEY_LIFETIME_MS)))
        await any_store.write(batch(key=self.record("new", created=now)))
        assert await any_store.key("ada", "too old") is None
        assert await any_store.key("ada", "just in time") is not None
        assert await any_store.key("ada", "new") is not None


class TestList:
    @staticmethod
    async def three(store: SQLiteStore) -> None:
        await store.write(batch("old", 1_000_000, title="Étude of Bees"))
        await store.write(batch("new", 3_000_000, title="100% of wasps"))
        await store.write(batch("mid", 2_000_000, title="ants"))

    async def test_the_one_that_changed_last_comes_first(self, any_store: SQLiteStore) -> None:
        await self.three(any_store)
        assert [each.conv_id for each in await any_store.conversations()] == ["new", "mid", "old"]
        await any_store.write(batch("old", 4_000_000))
        first = (await any_store.conversations())[0]
        assert (first.conv_id, first.title) == ("old", "Étude of Bees")
        assert (first.created_at, first.updated_at) == (1000, 4000), "in Unix ms"

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["new", "mid", "old"]),
            ("BEES", ["old"]),
            ("of", ["new", "old"]),
            ("mid", ["mid"]),
            ("%", ["new"]),
            ("_", []),
            ("'; DROP TABLE entities; --", []),
        ],
    )
    async def test_a_query_is_looked_for_in_title_and_id(
        self, any_store: SQLiteStore, query: str, found: list[str]
    ) -> None:
        await self.three(any_store)
        assert [each.conv_id for each in await any_store.conversations(query)] == found

    async def test_a_limit(self, any_store: SQLiteStore) -> None:
        await self.three(any_store)
        assert [each.conv_id for each in await any_store.conversations(limit=2)] == ["new", "mid"]

    async def test_the_first_title_stays(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch("c", 1))
        await any_store.write(batch("c", 2, title="first"))
        await any_store.write(batch("c", 3, title="second"))
        assert [each.title for each in await any_store.conversations()] == ["first"]

    async def test_settings_alone_make_no_entry(self, any_store: SQLiteStore) -> None:
        await any_store.save_settings("c", {"model": "a"}, 1000)
        assert await any_store.conversations() == []


class TestTransactions:
    async def test_a_batch_is_written_whole_or_not_at_all(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch("c", 1, row("m", 1, content="before")))
        bad = batch(
            "c",
            2,
            row("m", 2, content="after"),
            row("n", 2, content=object()),
            pending=(PendingRun("r", 2, False, {}),),
            title="after",
        )
        with pytest.raises(TypeError):
            await any_store.write(bad)
        loaded = await any_store.load("c")
        assert loaded is not None
        assert (loaded.version, loaded.rows, loaded.pending) == (1, [row("m", 1, content="before")], [])
        assert await any_store.unfinished() == []

    @pytest.mark.parametrize("poison", ["\ud800", object()], ids=["a lone surrogate", "no JSON"])
    async def test_a_batch_that_cannot_be_encoded_fails_alone(
        self, any_store: SQLiteStore, poison: Any
    ) -> None:
        """Handed in together, they share a transaction; the good ones are committed all the same."""
        await any_store.unfinished()
        outcomes = await asyncio.gather(
            any_store.write(batch("a", 1, row("m", 1, content="good"))),
            any_store.write(batch("b", 1, row("m", 1, content="good"), row("n", 1, content=poison))),
            any_store.write(batch("c", 1, row("m", 1, content="good"))),
            return_exceptions=True,
        )
        assert [type(each) for each in outcomes] in (
            [type(None), UnicodeEncodeError, type(None)],
            [type(None), TypeError, type(None)],
        )
        assert [await rows_of(any_store, conv) for conv in "abc"] == [
            [row("m", 1, content="good")],
            [],
            [row("m", 1, content="good")],
        ]

    async def test_a_burst_is_stored_completely_and_in_order(self, any_store: SQLiteStore) -> None:
        writes = [
            any_store.write(batch("c", n, row("m", n, content=n), row(f"r{n}", n))) for n in range(1, 501)
        ]
        await asyncio.gather(*writes)
        rows = {each["id"]: each for each in await rows_of(any_store)}
        assert len(rows) == 501
        assert rows["m"]["props"] == {"content": 500}

    async def test_a_burst_costs_few_commits(self, store: SQLiteStore) -> None:
        await store.unfinished()
        statements: list[str] = []
        await store._submit(lambda db: db.set_trace_callback(statements.append))
        await asyncio.gather(*(store.write(batch("c", n, row(f"r{n}", n))) for n in range(1, 201)))
        await store._submit(lambda db: db.set_trace_callback(None))
        assert 1 <= statements.count("COMMIT") < 100

    async def test_a_write_that_nobody_waits_for_any_more_is_done(self, any_store: SQLiteStore) -> None:
        await any_store.unfinished()
        written = any_store.write(batch("c", 1, row()))
        written.cancel()
        assert await rows_of(any_store) == [row()]

    async def test_a_full_disk_is_said_and_the_store_goes_on_when_there_is_room(
        self, store: SQLiteStore
    ) -> None:
        await store.write(batch("c", 1, row("m", 1, content="before")))
        (pages,) = await store._submit(lambda db: db.execute("PRAGMA page_count").fetchone())
        await store._submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        big = batch("c", 2, row("m", 2, content="x" * 100_000))
        with pytest.raises(StoreUnavailable, match=r"full.*Free some space") as full:
            await store.write(big)
        assert full.value.code == "store_unavailable"
        assert await rows_of(store) == [row("m", 1, content="before")]
        await store._submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        await store.write(big)
        assert (await rows_of(store))[0]["version"] == 2


class TestFile:
    async def test_rows_survive_the_store(self, file: Path) -> None:
        first = SQLiteStore(file)
        await first.write(batch("c", 5, row("m", 5, content="kept"), pending=(PendingRun("r", 5, True, {}),)))
        await first.close()
        second = SQLiteStore(file)
        loaded = await second.load("c")
        await second.close()
        assert loaded is not None
        assert (loaded.version, loaded.rows) == (5, [row("m", 5, content="kept")])
        assert loaded.pending == [PendingRun("r", 5, True, {})]

    async def test_close_finishes_what_was_handed_in(self, file: Path) -> None:
        first = SQLiteStore(file)
        writes = [first.write(batch("c", n, row("m", n))) for n in range(1, 51)]
        await first.close()
        await asyncio.gather(*writes)
        second = SQLiteStore(file)
        assert (await rows_of(second))[0]["version"] == 50
        await second.close()

    async def test_only_its_owner_may_read_it(self, store: SQLiteStore, file: Path) -> None:
        await store.write(batch("c", 1, row()))
        for each in (file, file.with_name(f"{file.name}-wal")):
            assert mode(each) == 0o600, each.name

    async def test_one_that_was_readable_for_all_is_so_no_more(self, store: SQLiteStore, file: Path) -> None:
        put(file, b"")
        os.chmod(file, 0o644)
        await store.write(batch("c", 1, row()))
        assert mode(file) == 0o600

    async def test_a_commit_is_on_disk(self, store: SQLiteStore) -> None:
        ask = [
            await store._submit(lambda db, p=p: db.execute(f"PRAGMA {p}").fetchone())
            for p in ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
        ]
        assert ask == [("wal",), (2,), (1,), (1,)], "WAL, and fsync on each commit (FULL), on macOS too"

    async def test_its_folder_is_made(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "new" / "deep" / "timeline.db")
        await store.write(batch("c", 1, row()))
        await store.close()
        assert names(tmp_path / "new" / "deep") == ["timeline.db"]
        assert mode(tmp_path / "new" / "deep") == 0o700, "names of files tell of conversations"

    async def test_nothing_is_opened_before_the_first_call(self, store: SQLiteStore, file: Path) -> None:
        assert names(file.parent) == []


class TestTwoOwners:
    async def test_a_second_store_is_refused_while_the_first_lives(
        self, store: SQLiteStore, file: Path
    ) -> None:
        await store.write(batch("c", 1, row()))
        second = SQLiteStore(file)
        with pytest.raises(StoreUnavailable, match=r"--WebChat\.timeline_db") as error:
            await second.load("c")
        assert error.value.code == "store_in_use"
        assert str(file) in error.value.message
        await store.write(batch("c", 2, row("m", 2)))
        await store.close()
        assert await rows_of(second) == [row("m", 2)], "one that was refused may try again"
        await second.close()

    async def test_what_is_said_of_a_file_in_use_is_its_owner_s_choice(
        self, store: SQLiteStore, file: Path
    ) -> None:
        await store.write(batch("c", 1, row()))
        second = SQLiteStore(file, in_use=lambda _: ConversationHeld("Another kernel has it."))
        with pytest.raises(ConversationHeld, match="Another kernel has it") as error:
            await second.load("c")
        assert (error.value.code, error.value.status, error.value.retryable) == (
            "conversation_held",
            409,
            True,
        )
        await store.close()
        assert await rows_of(second) == [row()]
        await second.close()

    async def test_three_that_open_it_at_once_do_not_wait_for_nothing(self, file: Path) -> None:
        """Two shared locks would keep each other from the exclusive one until both gave up."""
        for _ in range(20):
            stores = [SQLiteStore(file) for _ in range(3)]
            outcomes = await asyncio.gather(*(self.try_to(store) for store in stores))
            assert outcomes == [None] * 3

    @staticmethod
    async def try_to(store: SQLiteStore) -> None:
        await store.load("c")
        await store.close()

    async def test_to_have_only_read_is_to_own_it_too(self, store: SQLiteStore, file: Path) -> None:
        await store.write(batch("c", 1, row()))
        await store.close()
        reader = SQLiteStore(file)
        await reader.load("c")
        assert await asyncio.to_thread(another_process, file) == "database is locked"
        await reader.close()

    async def test_another_process_is_refused_even_after_a_second_store_of_our_own(
        self, store: SQLiteStore, file: Path
    ) -> None:
        """To close any descriptor of a file drops every lock that the process holds on it (POSIX)."""
        await store.write(batch("c", 1, row()))
        await refused(SQLiteStore(file))
        assert await asyncio.to_thread(another_process, file) == "database is locked"

    @pytest.mark.parametrize("after", ["nothing", "another file", "another file of the same number"])
    async def test_a_file_that_went_while_one_waited_for_it_is_not_used(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, after: str
    ) -> None:
        """A server removes the file of a conversation that it has taken in.

        Where only SQLite's own lock is: the other one would keep the newer file from being made.
        """
        monkeypatch.setattr(lock, "_locked", lambda file: None)
        old = SQLiteStore(file)
        await old.write(batch("c", 1, row("m", 1)))
        if after.endswith("number"):  # the number of a file that went is soon given to another
            await old._submit(lambda db: db.execute("PRAGMA journal_mode = DELETE"), alone=True)
            monkeypatch.setattr(connection, "identity", lambda file: (0, 0))
        await old.close()
        connect, opened = sqlite3.connect, []

        def slow(*args: Any, **options: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = connect(*args, **options)
            opened.append(db)
            if len(opened) == 1:
                file.unlink()
                if after != "nothing":
                    newer = SQLiteStore(file)
                    asyncio.run(self.write_and_close(newer, batch("c", 2, row("n", 2))))
            return db

        monkeypatch.setattr(sqlite3, "connect", slow)
        store = SQLiteStore(file)
        expected = [] if after == "nothing" else [row("n", 2)]
        assert await rows_of(store) == expected
        await store.write(batch("c", 3, row("mine", 3)))
        await store.close()
        monkeypatch.undo()
        again = SQLiteStore(file)
        assert await rows_of(again) == [*expected, row("mine", 3)]
        await again.close()

    @staticmethod
    async def write_and_close(store: SQLiteStore, written: Batch) -> None:
        await store.write(written)
        await store.close()


class TestMoved:
    """The file is removed or replaced while it is open."""

    @staticmethod
    async def another(file: Path) -> Path:
        """A database to put in its place, with a row `n`, as a killed process leaves it."""
        other = SQLiteStore(file.with_name("other"))
        await other.write(batch("c", 2, row("n", 2)))
        copies = [shutil.copy(each, f"{each}.copy") for each in (other.path, f"{other.path}-wal")]
        await other.close()
        Path(other.path).unlink()
        os.replace(copies[1], f"{file}-wal")
        return Path(copies[0])

    @pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
    async def test_what_nobody_would_find_is_refused_and_the_next_call_takes_what_is_there(
        self, store: SQLiteStore, file: Path, replaced: bool
    ) -> None:
        await store.write(batch("c", 1, row()))
        file.with_name(f"{file.name}-wal").unlink()
        if replaced:
            os.replace(await self.another(file), file)
        else:
            file.unlink()
        with pytest.raises(StoreUnavailable, match="removed or replaced") as error:
            await store.write(batch("c", 3, row("refused", 3)))
        assert str(file) in error.value.message
        there = [row("n", 2)] if replaced else []
        assert await rows_of(store) == there
        await store.write(batch("c", 4, row("mine", 4)))
        await store.close()
        assert names(file.parent) == [file.name]
        again = SQLiteStore(file)
        assert await rows_of(again) == [*there, row("mine", 4)]
        await again.close()

    async def test_a_file_that_took_its_place_is_not_removed_as_empty(self, file: Path) -> None:
        store = SQLiteStore(file, drop_empty=True)
        await store.load("c")
        os.replace(await self.another(file), file)
        await store.close()
        again = SQLiteStore(file)
        assert await rows_of(again) == [row("n", 2)]
        await again.close()


class TestLock:
    async def test_it_lies_beside_the_file_and_goes_with_the_store(
        self, store: SQLiteStore, file: Path
    ) -> None:
        await store.write(batch("c", 1, row()))
        beside = file.with_name(f"{file.name}-lock")
        assert mode(beside) == 0o600
        await store.close()
        assert not beside.exists()

    async def test_one_that_lost_its_name_while_one_waited_for_it_is_no_lock(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, flock = lock.Lock(file, "a test"), fcntl.flock

        def slow(descriptor: int, operation: int) -> None:
            monkeypatch.undo()
            first.release()
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", slow)
        second = lock.Lock(file, "a test")
        with pytest.raises(BlockingIOError):
            lock.Lock(file, "a test")
        second.release()
        assert names(file.parent) == []

    async def test_a_file_system_that_knows_none_has_sqlite_s_own(
        self, store: SQLiteStore, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*_: object) -> None:
            raise OSError(errno.ENOTSUP, "Not supported")

        monkeypatch.setattr(fcntl, "flock", unknown)
        await store.write(batch("c", 1, row()))
        assert f"{file.name}-lock" not in names(file.parent)
        assert (await refused(SQLiteStore(file))).code == "store_in_use"
        assert await asyncio.to_thread(another_process, file) == "database is locked"


def another_process(file: Path) -> str:
    """What a process hears that wants to write to the file."""
    program = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try:\n"
        "    db.execute('BEGIN IMMEDIATE')\n"
        "except sqlite3.OperationalError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


class TestTrouble:
    async def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        put(tmp_path / "file", b"in the way")
        error = await refused(SQLiteStore(tmp_path / "file" / "timeline.db"))
        assert (error.code, error.status, error.retryable) == ("store_unavailable", 503, True)
        assert str(tmp_path) in error.message

    async def test_a_folder_that_may_not_be_written(self, tmp_path: Path) -> None:
        os.chmod(tmp_path, 0o500)
        folder = tmp_path if os.geteuid() else Path("/proc")  # root may write everywhere but there
        assert (await refused(SQLiteStore(folder / "timeline.db"))).code == "store_unavailable"

    async def test_each_call_says_it_again(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path)
        with pytest.raises(StoreUnavailable) as first:
            await store.write(batch())
        assert (await refused(store)).message == first.value.message

    async def test_a_file_that_is_a_folder(self, tmp_path: Path) -> None:
        assert (await refused(SQLiteStore(tmp_path))).code == "store_unavailable"

    async def test_a_newer_schema_is_refused_and_left_as_it_was(self, file: Path) -> None:
        newer = len(MIGRATIONS) + 1
        db = sqlite3.connect(file)
        db.execute("CREATE TABLE from_the_future (x)")
        db.execute(f"PRAGMA user_version = {newer}")
        db.close()
        error = await refused(SQLiteStore(file))
        assert "newer version" in error.message
        db = sqlite3.connect(file)
        assert db.execute("PRAGMA user_version").fetchone() == (newer,)
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("from_the_future",)]
        db.close()

    async def test_an_empty_file_is_a_new_database(self, store: SQLiteStore, file: Path) -> None:
        put(file, b"")
        await store.write(batch("c", 1, row()))
        assert await rows_of(store) == [row()]


class TestClose:
    async def test_one_that_never_came_to_open_its_file_does_not_begin_now(self, tmp_path: Path) -> None:
        put(tmp_path / "in the way", b"")
        store = SQLiteStore(tmp_path / "in the way" / "timeline.db")
        with pytest.raises(StoreUnavailable):
            await store.load("c")
        os.remove(tmp_path / "in the way")
        await store.close()
        assert names(tmp_path) == []

    async def test_twice_is_as_good_as_once(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch())
        await any_store.close()
        await any_store.close()

    async def test_one_that_was_never_used(self, store: SQLiteStore, file: Path) -> None:
        await store.close()
        assert names(file.parent) == []

    async def test_calls_after_it_are_refused(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch())
        await any_store.close()
        assert "closed" in (await refused(any_store)).message
        for call in (
            any_store.unfinished(),
            any_store.key("u", "k"),
            any_store.save_settings("c", {}, 1),
            any_store.conversations(),
        ):
            with pytest.raises(StoreUnavailable):
                await call

    async def test_its_thread_ends_with_it(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch())
        thread = any_store._thread
        await any_store.close()
        assert thread is not None
        assert not thread.is_alive()

    async def test_it_can_be_closed_when_the_interpreter_ends(self, file: Path) -> None:
        """There are no executors and no new threads any more when atexit handlers run."""
        program = (
            "import asyncio, atexit, sys\n"
            "from webchat_widget.timeline.sqlite import SQLiteStore\n"
            "from webchat_widget.timeline.store import Batch\n"
            "loop, store = asyncio.new_event_loop(), SQLiteStore(sys.argv[1])\n"
            "async def end():\n"
            "    written = store.write(Batch(conv_id='c', version=2))\n"
            "    await store.close()\n"
            "    await written\n"
            "atexit.register(lambda: (loop.run_until_complete(end()), print('closed')))\n"
            "loop.run_until_complete(store.load('c'))\n"
        )
        command = [sys.executable, "-c", program, str(file)]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=30, check=True
        )
        assert (done.stdout, done.stderr) == ("closed\n", "")
        assert names(file.parent) == [file.name]
        store = SQLiteStore(file)
        loaded = await store.load("c")
        await store.close()
        assert loaded is not None
        assert loaded.version == 2

    async def test_after_a_clean_end_one_file_is_left(self, store: SQLiteStore, file: Path) -> None:
        await store.write(batch("c", 1, row()))
        await store.close()
        assert names(file.parent) == [file.name]

    async def test_a_memory_store_forgets(self) -> None:
        first, second = MemoryStore(), MemoryStore()
        await first.write(batch("c", 1, row()))
        assert await second.load("c") is None, "each has a database of its own"
        await first.close()
        await second.close()


async def test_the_tables_are_those_of_the_newest_schema(store: SQLiteStore) -> None:
    await store.unfinished()
    (version,) = await store._submit(lambda db: db.execute("PRAGMA user_version").fetchone())
    assert version == len(MIGRATIONS)


async def test_requests_of_pending_runs_are_plain_json(store: SQLiteStore) -> None:
    request = {"prompt": "hi", "overrides": {"tools": ["calculate"]}}
    await store.write(batch("c", 1, pending=(PendingRun("r", 1, False, request),)))
    (text,) = await store._submit(lambda db: db.execute("SELECT request FROM runs").fetchone())
    assert msgspec.json.decode(text) == request


async def test_a_file_in_which_nothing_was_said_may_go(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    store = SQLiteStore(path, drop_empty=True)
    assert await store.load("c") is None
    assert path.exists()
    await store.close()
    assert list(tmp_path.iterdir()) == []
    store = SQLiteStore(path, drop_empty=True)
    await store.save_settings("c", {"model": "m"}, 1)
    await store.close()
    assert path.exists(), "settings are something"
    store = SQLiteStore(path)
    assert await store.load("d") is None
    await store.close()
    assert path.exists()


class TestRunsThatWait:
    """Where a run stands, and what need not be asked any more."""

    async def test_a_checkpoint_belongs_to_its_run(self, any_store: SQLiteStore) -> None:
        run = PendingRun("r", 1, True, {"prompt": "p"})
        await any_store.write(batch(pending=(run,)))
        await any_store.write(batch(version=2, checkpoints=(("r", {"rounds": 1}), ("gone", {"rounds": 9}))))
        await any_store.write(batch(version=3, pending=(run,)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.pending == [PendingRun("r", 1, True, {"prompt": "p"}, {"rounds": 1})]
        await any_store.write(batch(version=4, checkpoints=(("r", {"rounds": 2}),), ended=("r",)))
        loaded = await any_store.load("c")
        assert loaded is not None
        assert loaded.pending == []

    async def test_grants_are_a_conversation_s_own(self, any_store: SQLiteStore) -> None:
        await any_store.write(batch(grants=("area", "launch")))
        await any_store.write(batch(version=2, grants=("area",)))
        await any_store.write(batch("other"))
        loaded, other = await any_store.load("c"), await any_store.load("other")
        assert loaded is not None
        assert other is not None
        assert set(loaded.grants) == {"area", "launch"}
        assert other.grants == ()

    async def test_a_file_of_the_first_version_is_brought_to_the_newest(self, file: Path) -> None:
        with sqlite3.connect(file) as db:
            db.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1;")
            db.execute("INSERT INTO conversations VALUES ('c', 1, 1, '', '{}')")
            db.execute("INSERT INTO runs VALUES ('r', 'c', 1, 1, '{}')")
        db.close()
        store = SQLiteStore(file)
        loaded = await store.load("c")
        assert loaded is not None
        assert loaded.pending == [PendingRun("r", 1, True, {})]
        assert loaded.grants == ()
        await store.write(batch(version=2, grants=("area",), checkpoints=(("r", {"rounds": 1}),)))
        await store.close()
