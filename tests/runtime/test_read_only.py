"""A chat whose timeline may only be read: what was said is shown, and the person is told."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from tests.runtime.conftest import Chat, Start
from tests.runtime.test_approvals import asking, ended, say_yes
from tests.timeline.disks import Disk
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.events import CallRequest, Finish
from webchat_widget.notebook.hosted import Equipment, Hosted
from webchat_widget.requests import TimelineQuery
from webchat_widget.runtime import service
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.timeline.sqlite import SQLiteStore, readonly
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Loaded


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk", monkeypatch)
    yield disk
    disk.release()


async def crashed(start: Start, tmp_path: Path) -> Path:
    """The file of a host that crashed in its second run."""
    chat = await start(ScriptedEngine("one", ["half ", asyncio.Event()]))
    page = await chat.join()
    await chat.say("1")
    await page.until("run.finished")
    await chat.say("2")
    await page.until("llm.delta", 2)
    return copy_to_disk(tmp_path)


def copy_to_disk(tmp_path: Path) -> Path:
    """The database as it is at this instant: what a killed host leaves."""
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"timeline.sqlite{suffix}", tmp_path / "disk" / f"timeline.sqlite{suffix}")
    return tmp_path / "disk" / "timeline.sqlite"


async def runs(chat: Chat) -> list[str]:
    return [row["props"]["status"] for row in await chat.rows() if row["kind"] == "run"]


async def test_a_page_is_shown_all_and_told_why_it_can_send_nothing(
    start: Start, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await crashed(start, tmp_path)
    disk.protect()
    chat = await start(ScriptedEngine("three"), store=SQLiteStore(file))
    await chat.service.start()
    await chat.service.check_reader("c", "default")
    await chat.join()
    assert (await chat.texts())[:3] == [("user", "1"), ("assistant", "one"), ("user", "2")]
    assert [each.conv_id for each in await chat.service.conversations()] == ["c"]
    with pytest.raises(StoreUnavailable, match="can only be read at present") as error:
        await chat.say("3", key="k")
    assert chat.service.health()["notices"] == [error.value.message]
    assert chat.service.pong("c").event["data"]["notices"] == [error.value.message]
    assert not chat.service.busy

    disk.release()
    monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
    page = await chat.join()
    await chat.say("3", key="k")
    await page.until("run.finished")
    assert (await chat.texts())[-2:] == [("user", "3"), ("assistant", "three")]
    assert chat.service.health()["notices"] == []
    assert await runs(chat) == ["finished", "failed", "finished"], (
        "the one that was cut is closed when it can be"
    )


async def test_a_run_that_was_cut_ends_as_soon_as_that_can_be_stored_whoever_asks(
    start: Start, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await crashed(start, tmp_path)
    disk.protect()
    with patch.object(service, "_LOOK_AGAIN_SECONDS", 0.01):
        chat = await start(store=SQLiteStore(file))
        page = await chat.join()
        assert await runs(chat) == ["finished", "started"]
        with pytest.raises(StoreUnavailable, match="can only be read"):
            await chat.service.stop("c", None)
        assert page.closed is None
        disk.release()
        monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
        async with asyncio.timeout(20):
            while page.closed is None:
                await asyncio.sleep(0.01)
    assert page.closed == (1001, "try again")
    await chat.service.close()
    loaded = await (store := SQLiteStore(file)).load("c")
    await store.close()
    assert loaded is not None
    assert loaded.pending == []


async def test_a_run_that_was_cut_ends_where_nobody_asks_for_it_any_more(
    start: Start, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await crashed(start, tmp_path)
    disk.protect()
    quick = RuntimeSettings(evict_after=0.01, pool=PoolSettings(idle_timeout=0.01))
    with patch.object(service, "_LOOK_AGAIN_SECONDS", 0.3):
        chat = await start(store=SQLiteStore(file), settings=quick)
        await chat.service.start()
        manager = chat.service._manager
        async with asyncio.timeout(20):
            while len(manager):
                await asyncio.sleep(0.01)
        assert await chat.store.unfinished() == ["c"]
        disk.release()
        monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
        async with asyncio.timeout(20):
            while await chat.store.unfinished():
                await asyncio.sleep(0.05)


async def test_stop_says_nothing_false_where_the_disk_fails_while_it_looks(
    start: Start, disk: Disk, tmp_path: Path
) -> None:
    file = await crashed(start, tmp_path)

    class Fading(SQLiteStore):
        whole = True

        async def load(self, conv_id: str) -> Loaded | None:
            loaded, whole, self.whole = await super().load(conv_id), self.whole, False
            return loaded if loaded is None or whole else replace(loaded, pending=[], complete=False)

    store = Fading(file)
    chat = await start(store=store)
    with pytest.raises(StoreUnavailable, match="can only be read"):
        await chat.service.stop("c", None)
    assert not store.whole


async def test_what_can_only_be_read_is_not_moved_and_its_pages_stay(
    start: Start, disk: Disk, tmp_path: Path
) -> None:
    file = await crashed(start, tmp_path)
    disk.protect()
    chat = await start(store=AdoptingStore(file, tmp_path / "conversations"))
    page = await chat.join()
    with pytest.raises(StoreUnavailable, match="can only be read"):
        await chat.service.hand_over("c")
    assert page.closed is None


async def test_a_yes_where_the_timeline_can_only_be_read_is_refused_for_now(
    start: Start, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []

    @tool
    def launch() -> str:
        """Launch a rocket."""
        launched.append("moon")
        return "launched"

    engine = ScriptedEngine([CallRequest("1", "launch", "{}"), Finish("tool_calls")])
    before = await start(engine, tools=(launch,))
    await before.say("Launch!")
    (row,) = await asking(before)
    file = copy_to_disk(tmp_path)
    disk.protect()
    chat = await start(store=SQLiteStore(file), tools=(launch,))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="can only be read"):
            await say_yes(chat, row)
    with pytest.raises(StoreUnavailable, match="can only be read"):
        await chat.service.resume("c", "a pause")
    disk.release()
    monkeypatch.setattr(readonly, "_LOOK_AGAIN_SECONDS", 0)
    await say_yes(chat, row)
    await ended(chat)
    assert launched == ["moon"]


async def test_a_kernel_opens_what_it_has(disk: Disk, tmp_path: Path) -> None:
    hosted = Hosted("c", tmp_path / "disk", logging.getLogger("test"))
    hosted.equip(Equipment(), {"model": "m"})
    await hosted.ready()
    await hosted.close()
    disk.protect()
    hosted.equip(Equipment(), {"model": "m"})
    service = await hosted.ready()
    page, _ = await service.timeline(TimelineQuery("c"))
    assert page.entities == []
    assert "can only be read" in service.health()["notices"][0]
    hosted.equip(Equipment(), {"model": "another"})
    with pytest.raises(StoreUnavailable, match="can only be read"):
        await hosted.ready()
    await hosted.close()
