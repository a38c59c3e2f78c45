"""A conversation moves between two hosts, a server and a kernel, and has one holder at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Page, Start
from tests.timeline.kernels import Holder
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import (
    ConversationHeld,
    KeyReused,
    NotAllowed,
    QueueFull,
    StoreUnavailable,
    WebChatError,
)
from webchat_widget.requests import ChatRequest, Overrides, TimelineQuery
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, Loaded, PendingRun


class Server(AdoptingStore):
    """A server's store whose disk can be made to fail, or to wait: after a load, or before a move."""

    def __init__(self, folder: Path, *, promise: float = 0) -> None:
        super().__init__(folder / "server.sqlite", folder / "conversations", promise=promise)
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.loaded = asyncio.Event()
        self.loaded.set()

    def write(self, batch: Batch) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._refuse()) if self.failing else super().write(batch)

    async def _refuse(self) -> None:
        raise StoreUnavailable("The disk is full.")

    async def load(self, conv_id: str) -> Loaded | None:
        found = await super().load(conv_id)
        await self.loaded.wait()
        return found

    async def hand_over(self, conv_id: str) -> bool:
        await self.gate.wait()
        return await super().hand_over(conv_id)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a kernel keeps the conversation `c`."""
    return conversation_file(tmp_path / "conversations", "c")


@pytest.fixture
async def server(start: Start, tmp_path: Path) -> Callable[..., Awaitable[Chat]]:
    """Start a server with an engine."""

    async def begin(*scripts: Any, **more: Any) -> Chat:
        return await start(ScriptedEngine(*scripts), store=Server(tmp_path), **more)

    return begin


@pytest.fixture
async def kernel(start: Start, file: Path) -> Callable[..., Awaitable[Chat]]:
    """Start a kernel's chat, with an engine."""

    async def begin(*scripts: Any) -> Chat:
        held = ConversationHeld("Another kernel has it.")
        return await start(ScriptedEngine(*scripts), store=SQLiteStore(file, in_use=lambda _: held))

    return begin


Host = Callable[..., Awaitable[Chat]]


async def asked(chat: Chat, prompt: str, **more: Any) -> dict[str, Any]:
    """Send a prompt, and wait for the end of its run."""
    page = await chat.join()
    body = await chat.say(prompt, **more)
    await page.until("run.finished")
    return body


async def statuses(chat: Chat) -> dict[str, str]:
    """How each run stands, by its prompt."""
    runs = [row["props"] for row in await chat.rows() if row["kind"] == "run"]
    return {run["prompt"]: run["status"] for run in runs}


async def test_what_ran_is_interrupted_what_waits_goes_on_and_the_model_remembers(
    server: Host, kernel: Host
) -> None:
    here = await server("one", ["half a", asyncio.Event()])
    await asked(here, "1")
    page = await here.join()
    await here.say("2")
    await here.say("3")
    await page.until("llm.delta")
    assert await here.service.hand_over("c") is True
    assert page.closed == (1001, "the conversation has moved")

    there = await kernel("three")
    watching = await there.join()
    await watching.until("run.finished")
    assert await statuses(there) == {"1": "finished", "2": "failed", "3": "finished"}
    assert await there.texts() == [
        ("user", "1"),
        ("assistant", "one"),
        ("user", "2"),
        ("assistant", "half a"),
        ("user", "3"),
        ("assistant", "three"),
    ]
    engine = there.service._env.engine
    assert isinstance(engine, ScriptedEngine)
    assert [message.content for message in engine.turns[0].messages] == ["1", "one", "2", "half a", "3"]


async def test_there_and_back_again_it_is_the_same(server: Host, kernel: Host, file: Path) -> None:
    here = await server("one", "three")
    await here.service.configure("c", Overrides(system_prompt="Be brief."))
    await asked(here, "1")
    await here.service.hand_over("c")
    there = await kernel("two")
    await asked(there, "2")
    rows = await there.rows()
    await there.service.close()
    assert await here.rows() == rows
    assert not file.exists()
    await asked(here, "3")
    engine = here.service._env.engine
    assert isinstance(engine, ScriptedEngine)
    assert [message.content for message in engine.turns[-1].messages] == [
        "Be brief.",
        "1",
        "one",
        "2",
        "two",
        "3",
    ]
    versions = [row["version"] for row in await here.rows()]
    assert len(set(versions)) == len(versions), "no seq is used twice, whoever gave it out"


async def test_an_unknown_conversation_is_not_handed_over_and_stays_unknown(server: Host, file: Path) -> None:
    here = await server()
    assert await here.service.hand_over("c") is False
    assert not file.exists()
    assert await here.service.conversations() == []


async def test_one_that_was_only_looked_at_is_unknown(server: Host, file: Path) -> None:
    here = await server()
    page = await here.join()
    assert await here.service.hand_over("c") is False
    assert page.closed is not None, "a kernel is about to have it all the same"


async def test_a_store_in_memory_hands_nothing_over_and_says_so(start: Start) -> None:
    chat = await start(ScriptedEngine("one"), store=MemoryStore())
    await asked(chat, "1")
    with pytest.raises(NotAllowed, match="in memory") as error:
        await chat.service.hand_over("c")
    assert (error.value.code, error.value.status) == ("no_handover", 422)
    assert await chat.texts() == [("user", "1"), ("assistant", "one")]


class TestMeanwhile:
    """Somebody asks for the conversation while it leaves."""

    @staticmethod
    async def leaving(here: Chat) -> tuple[asyncio.Task[bool], Server]:
        """A hand-over that waits at the gate, the conversation being closed already."""
        store = here.store
        assert isinstance(store, Server)
        store.gate.clear()
        task = asyncio.create_task(here.service.hand_over("c"))
        async with asyncio.timeout(10):
            while here.service._manager.live("c") is not None:
                await asyncio.sleep(0)
        return task, store

    async def test_a_prompt_waits_and_then_meets_the_kernel(self, server: Host, file: Path) -> None:
        here = await server("one")
        await asked(here, "1")
        task, store = await self.leaving(here)
        store._promise = 60
        calls = [
            asyncio.create_task(each)
            for each in (
                here.say("2"),
                here.say("3", key="k"),
                here.join(),
                here.service.check_reader("c", "default"),
            )
        ]
        for _ in range(50):
            await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        store.gate.set()
        assert await task is True
        for call in calls:
            with pytest.raises(ConversationHeld):
                await call
        assert file.exists()

    async def test_where_no_kernel_came_it_is_taken_back_whole(self, server: Host, file: Path) -> None:
        here = await server("one", "two")
        await asked(here, "1")
        task, store = await self.leaving(here)
        saying = asyncio.create_task(here.say("2"))
        await asyncio.sleep(0)
        store.gate.set()
        assert await task is True
        await saying
        page = await here.join()
        if "two" not in [text for _, text in await here.texts()]:
            await page.until("run.finished")
        assert await here.texts() == [
            ("user", "1"),
            ("assistant", "one"),
            ("user", "2"),
            ("assistant", "two"),
        ]
        assert not file.exists()

    async def test_two_hand_overs_are_one(self, server: Host, kernel: Host) -> None:
        here = await server("one")
        await asked(here, "1")
        assert await asyncio.gather(here.service.hand_over("c"), here.service.hand_over("c")) == [True, True]
        assert await (await kernel()).texts() == [("user", "1"), ("assistant", "one")]

    async def test_one_that_is_about_to_open_opens_first(
        self, server: Host, kernel: Host, tmp_path: Path
    ) -> None:
        """Or it would live on here, made of what was loaded before it left."""
        before = await server("one")
        await asked(before, "1")
        await before.service.close()
        here = await server()
        store = here.store
        assert isinstance(store, Server)
        store.loaded.clear()
        page = Page()
        joining = asyncio.create_task(here.service.join("c", "default", page, append=True))
        async with asyncio.timeout(10):
            while not here.service._manager._opening:
                await asyncio.sleep(0)
        giving = asyncio.create_task(here.service.hand_over("c"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not giving.done()
        store._promise = 60
        store.loaded.set()
        assert await giving is True
        with pytest.raises(ConversationHeld):
            await joining
        assert here.service._manager.live("c") is None
        assert await (await kernel()).texts() == [("user", "1"), ("assistant", "one")]

    @pytest.mark.parametrize("turns", range(12))
    async def test_a_prompt_at_any_moment_is_in_one_place_and_not_lost(
        self, server: Host, turns: int
    ) -> None:
        """However the two interleave: who was told that the prompt is accepted finds it."""
        here = await server("one", *["two"] * 2)
        await asked(here, "1")
        giving = asyncio.create_task(here.service.hand_over("c"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await here.say("2")
        await giving
        assert "2" in await statuses(here)

    async def test_a_server_that_closes_meanwhile_finishes_it(self, server: Host, kernel: Host) -> None:
        here = await server("one")
        await asked(here, "1")
        task, store = await self.leaving(here)
        closing = asyncio.create_task(here.service.close())
        await asyncio.sleep(0)
        store.gate.set()
        assert await task is True
        await closing
        assert await (await kernel()).texts() == [("user", "1"), ("assistant", "one")]
        with pytest.raises(WebChatError):
            await here.service.hand_over("c")


@pytest.mark.parametrize("waits", [True, False])
async def test_a_disk_that_refuses_leaves_it_running_where_it_is(server: Host, waits: bool) -> None:
    """Also where nothing waits for the disk just then."""
    gate = asyncio.Event()
    here = await server(["half ", gate, "whole"])
    page = await here.join()
    await here.say("1")
    await page.until("llm.delta")
    store = here.store
    assert isinstance(store, Server)
    if not waits:
        await here.service._manager.live("c").stream.flush()
    store.failing = True
    with pytest.raises(StoreUnavailable):
        await here.service.hand_over("c")
    store.failing = False
    assert page.closed is None
    gate.set()
    await page.until("run.finished")
    assert await here.texts() == [("user", "1"), ("assistant", "half whole")]


async def test_nothing_that_was_planned_for_it_meets_the_one_that_comes_back(server: Host) -> None:
    quick = RuntimeSettings(evict_after=60, pool=PoolSettings(idle_timeout=0.01))
    here = await server("one", settings=quick)
    await here.say("1")
    evictions = here.service._manager._evictions
    async with asyncio.timeout(10):
        while not evictions:
            await asyncio.sleep(0)
    await here.service.hand_over("c")
    assert not evictions


class TestHeldByAKernel:
    async def test_every_call_says_so(self, server: Host, file: Path) -> None:
        here = await server("one", "other")
        await asked(here, "1")
        await here.service.hand_over("c")
        with Holder(file):
            calls: list[Awaitable[object]] = [
                here.say("2"),
                here.say("2", key="k"),
                here.join(),
                here.service.check_reader("c", "default"),
                here.service.timeline(TimelineQuery("c")),
                here.service.stop("c", None),
                here.service.configure("c", Overrides(system_prompt="Be brief.")),
                here.service.configure("c", Overrides()),
                here.service.hand_over("c"),
            ]
            for call in calls:
                with pytest.raises(ConversationHeld, match="runs in a notebook's kernel"):
                    await call
            page = await here.join("other")
            await here.say("hello", "other")
            await page.until("run.finished")
        assert [row["id"] for row in await here.rows()][-1] == "held", "the kernel has ended: it is ours"

    async def test_a_server_that_starts_serves_the_others(self, server: Host, file: Path) -> None:
        """As a crash in the middle of a hand-over leaves it: we have a part of what a kernel has open."""
        first = await server()
        await first.store.write(
            Batch(conv_id="c", version=1, pending=(PendingRun("r", 1, True, {"prompt": "x"}),))
        )
        await first.service.close()
        with Holder(file):
            here = await server("fine")
            await here.service.start()
            page = await here.join("other")
            await here.say("hello", "other")
            await page.until("run.finished")
            with pytest.raises(ConversationHeld):
                await here.rows()


class TestKeys:
    """Where the answer to a prompt was lost, it comes again, to whoever has the conversation by then."""

    PROMPT = ChatRequest("1", key="k", digest="1")

    @staticmethod
    def kernel_of(start: Start, folder: Path, conv_id: str) -> Awaitable[Chat]:
        store = SQLiteStore(conversation_file(folder / "conversations", conv_id))
        return start(ScriptedEngine(), store=store)

    async def test_a_new_host_knows_the_key_by_which_a_conversation_began(
        self, server: Host, start: Start, tmp_path: Path
    ) -> None:
        here = await server("one")
        first = await here.service.chat(self.PROMPT, "ada")
        conv_id = first.body["conv_id"]
        assert await here.service.hand_over(conv_id) is True
        there = await self.kernel_of(start, tmp_path, conv_id)
        again = await there.service.chat(self.PROMPT)
        assert (again.body, again.replayed) == (first.body, True)
        with pytest.raises(KeyReused):
            await there.service.chat(ChatRequest("2", key="k", digest="2"))

    async def test_the_old_host_sends_who_repeats_it_to_the_new_one(
        self, server: Host, start: Start, tmp_path: Path
    ) -> None:
        here = await server("one")
        first = await here.service.chat(self.PROMPT, "ada")
        conv_id = first.body["conv_id"]
        await here.service.hand_over(conv_id)
        there = await self.kernel_of(start, tmp_path, conv_id)
        await there.service.start()
        with pytest.raises(ConversationHeld, match="runs in a notebook's kernel"):
            await here.service.chat(self.PROMPT, "ada")
        rows = await there.rows(conv_id)
        await there.service.close()
        again = await here.service.chat(self.PROMPT, "ada")
        assert (again.body, again.replayed) == (first.body, True)
        assert await here.rows(conv_id) == rows
        assert [each.conv_id for each in await here.service.conversations()] == [conv_id]

    async def test_a_prompt_of_a_kernel_that_comes_again_to_the_server_is_no_second_run(
        self, server: Host, kernel: Host
    ) -> None:
        """The kernel knows no users, the server does."""
        there = await kernel("one")
        first = await asked(there, "1", key="k")
        await there.service.close()
        here = await server()
        again = await here.service.chat(ChatRequest("1", "c", key="k", digest="1"), "ada")
        assert (again.body, again.replayed) == (first, True)


class TestLeftByAKernel:
    @staticmethod
    async def left(file: Path) -> None:
        """A kernel was killed in the middle of a run, and a prompt waits."""
        rows: list[Row] = [
            {"id": id, "kind": kind, "createdSeq": seq, "version": seq, "props": props}
            for seq, (id, kind, props) in enumerate(
                [
                    ("cut", "run", {"status": "started", "prompt": "1"}),
                    ("cut:user", "message", {"role": "user", "content": "1"}),
                    ("cut:text:1", "message", {"role": "assistant", "content": "half", "streaming": True}),
                    ("waits", "run", {"status": "queued", "prompt": "2"}),
                ],
                1,
            )
        ]
        pending = tuple(
            PendingRun(run_id, seq, started, {"prompt": prompt})
            for run_id, seq, started, prompt in (("cut", 1, True, "1"), ("waits", 4, False, "2"))
        )
        store = SQLiteStore(file)
        await store.write(Batch(conv_id="c", version=4, rows=tuple(rows), pending=pending))
        await store.close()

    async def test_a_look_at_it_ends_what_was_cut_and_runs_what_waits(self, server: Host, file: Path) -> None:
        await self.left(file)
        here = await server("answer")
        await here.rows()
        page = await here.join()
        if (await statuses(here))["2"] != "finished":
            await page.until("run.finished")
        assert await statuses(here) == {"1": "failed", "2": "finished"}
        assert not [row for row in await here.rows() if row["props"].get("streaming")]
        assert await here.texts() == [
            ("user", "1"),
            ("assistant", "half"),
            ("user", "2"),
            ("assistant", "answer"),
        ]

    async def test_a_stop_of_what_waits_there_takes_it_out_of_the_queue(
        self, server: Host, file: Path
    ) -> None:
        await self.left(file)
        here = await server([asyncio.Event()])
        await here.service.stop("c", "waits")
        assert (await statuses(here))["2"] == "stopped"

    async def test_a_key_that_a_kernel_took_is_known(self, server: Host, kernel: Host) -> None:
        there = await kernel("one")
        first = await asked(there, "1", key="k")
        await there.service.close()
        here = await server()
        assert await here.say("1", key="k") == first
        assert await here.texts() == [("user", "1"), ("assistant", "one")]

    async def test_a_socket_is_refused_before_it_is_opened_where_the_file_is_damaged(
        self, server: Host, file: Path
    ) -> None:
        file.parent.mkdir()
        file.write_text("no database " * 1000)
        here = await server()
        with pytest.raises(StoreUnavailable) as error:
            await here.service.check_reader("c", "default")
        assert error.value.code == "conversation_unreadable"


async def test_a_reader_too_many_is_refused_beforehand(server: Host) -> None:
    here = await server("one", settings=RuntimeSettings(readers=1))
    await here.join()
    with pytest.raises(QueueFull):
        await here.service.check_reader("c", "default")
    with pytest.raises(QueueFull):
        await here.service.join("c", "default", Page(), append=True)
