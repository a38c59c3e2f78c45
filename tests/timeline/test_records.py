"""What models were sent and gave, on disk: each part once, in order, and never at the cost of the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from webchat_widget.errors import StoreUnavailable
from webchat_widget.requests import TurnsQuery
from webchat_widget.timeline.entities import Row
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.sqlite import SQLiteStore, records
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import Batch, TurnRecord
from webchat_widget.turns import Image, Message, ToolCall, ToolSchema

VERSION_2 = Path(__file__).with_name("version2.sql")
TOOLS = (ToolSchema("double", "Twice a number.", {"type": "object", "properties": {}}),)
ASKS = Message("assistant", "", (ToolCall("call_0", "double", "{}"),), carried=({"type": "reasoning"},))
HISTORY = (
    Message("system", "Be brief. é 😀"),
    Message("user", "Twice 21?", images=(Image("image/png", "iVBORw0="),)),
    ASKS,
    Message("tool", "42", tool_call_id="call_0"),
)


@pytest.fixture(params=["in a file", "in memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "timeline.db") if request.param == "in a file" else MemoryStore()
    yield store
    await store.close()


def sent(seq: int, *messages: Message, run_id: str = "r", n: int = 1, **more: Any) -> TurnRecord:
    return TurnRecord(run_id=run_id, n=n, phase="pre_inference", seq=seq, messages=messages, **more)


def batch(*kept: TurnRecord, conv_id: str = "c", **more: Any) -> Batch:
    return Batch(conv_id=conv_id, version=100, records=kept, **more)


async def count(store: SQLiteStore, table: str) -> int:
    (rows,) = await store._submit(lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone())
    return int(rows)


async def turns(store: SQLiteStore, conv_id: str = "c", **asked: Any) -> list[dict[str, Any]]:
    return (await store.turns(TurnsQuery(conv_id, **asked))).turns


async def test_a_request_comes_back_word_for_word(store: SQLiteStore) -> None:
    await store.write(batch(sent(5000, *HISTORY, tools=TOOLS, model="m", finish={"reason": "stop"})))
    assert await turns(store) == [
        {
            "run_id": "r",
            "n": 1,
            "phase": "pre_inference",
            "seq": 5000,
            "created_at": 5,
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief. é 😀"},
                {
                    "role": "user",
                    "content": "Twice 21?",
                    "images": [{"mime": "image/png", "data": "iVBORw0="}],
                },
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "call_0", "name": "double", "arguments": "{}"}],
                    "carried": [{"type": "reasoning"}],
                },
                {"role": "tool", "content": "42", "tool_call_id": "call_0"},
            ],
            "tools": [
                {
                    "name": "double",
                    "description": "Twice a number.",
                    "parameters": {"type": "object", "properties": {}},
                }
            ],
            "finish": {"reason": "stop"},
        }
    ]


async def test_an_unknown_conversation_has_none(store: SQLiteStore) -> None:
    assert await turns(store) == []


async def test_what_is_sent_again_is_stored_once(store: SQLiteStore) -> None:
    for n in range(1, 4):
        await store.write(batch(sent(n, *HISTORY[: n + 1], n=n, tools=TOOLS)))
    assert await count(store, "blocks") == len(HISTORY) + 1
    assert [len(turn["messages"]) for turn in await turns(store)] == [2, 3, 4]
    (four,) = [turn["messages"] for turn in await turns(store) if turn["n"] == 3]
    assert [message["role"] for message in four] == ["system", "user", "assistant", "tool"]


async def test_conversations_share_nothing(store: SQLiteStore) -> None:
    """One of them may be handed over."""
    for conv_id in ("c", "d"):
        await store.write(batch(sent(1, *HISTORY), conv_id=conv_id))
    assert await count(store, "blocks") == 2 * len(HISTORY)
    assert len(await turns(store, "d")) == 1


async def test_they_come_in_the_order_of_their_seq_with_what_their_run_added(store: SQLiteStore) -> None:
    await store.write(batch(sent(30, HISTORY[0], n=2), sent(20, HISTORY[0])))
    await store.write(Batch(conv_id="c", version=40, ended=("r",), turns=(("r", HISTORY[1:]),)))
    told = [(turn["seq"], turn["phase"], turn["n"]) for turn in await turns(store)]
    assert told == [(20, "pre_inference", 1), (30, "pre_inference", 2), (40, "final", 2)]
    (final,) = await turns(store, phase="final")
    assert [message["role"] for message in final["messages"]] == ["user", "assistant", "tool"]


async def test_one_run_one_phase_and_the_newest_of_them(store: SQLiteStore) -> None:
    for seq in range(1, 7):
        run_id = "a" if seq % 2 else "b"
        await store.write(batch(sent(seq, HISTORY[0], run_id=run_id, n=seq)))
    assert [turn["seq"] for turn in await turns(store, run_id="a")] == [1, 3, 5]
    assert [turn["seq"] for turn in await turns(store, run_id="a", limit=2)] == [3, 5]
    assert await turns(store, phase="post_tools") == []
    assert [(await store.turns(TurnsQuery("c", limit=limit))).more for limit in (5, 6, 7)] == [
        True,
        False,
        False,
    ]


async def test_one_answer_has_a_size_but_never_nothing(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_MAX_BYTES", 2500)
    long = Message("user", "x" * 1000)
    await store.write(batch(*(sent(n, long, n=n) for n in range(1, 5))))
    page = await store.turns(TurnsQuery("c"))
    assert [turn["seq"] for turn in page.turns] == [3, 4], "the newest"
    assert page.more
    await store.write(batch(sent(5, Message("user", "x" * 5000), n=5)))
    assert [turn["seq"] for turn in await turns(store)] == [5]


def deep() -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "poison", ["\ud800", object(), deep()], ids=["a lone surrogate", "no JSON", "too deep"]
)
async def test_what_cannot_be_stored_is_said_and_costs_nothing_else(store: SQLiteStore, poison: Any) -> None:
    row: Row = {"id": "m", "kind": "message", "createdSeq": 1, "version": 1, "props": {"content": "good"}}
    bad = Message("user", "hm", carried=({"poison": poison},))
    await store.write(batch(sent(1, HISTORY[0], bad), rows=(row,)))
    loaded = await store.load("c")
    assert loaded is not None
    assert loaded.rows == [row]
    good, replaced = (await turns(store))[0]["messages"]
    assert good == {"role": "system", "content": "Be brief. é 😀"}
    assert replaced["content"].startswith("This could not be stored: ")


async def test_damage_is_said(store: SQLiteStore) -> None:
    await store.write(batch(sent(1, *HISTORY)))
    await store._submit(lambda db: db.execute("DELETE FROM blocks WHERE body LIKE '%brief%'"))
    with pytest.raises(StoreUnavailable, match="it is damaged") as error:
        await store.turns(TurnsQuery("c"))
    assert error.value.code == "conversation_unreadable"
    assert await store.load("c") is not None, "the conversation goes on"


async def test_a_long_conversation_costs_what_is_new_in_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "timeline.db")
    history: list[Message] = []
    for n in range(1, 51):
        history += [Message("user", f"{n} ".ljust(5000, "x")), Message("assistant", f"{n} ".ljust(5000, "y"))]
        await store.write(batch(sent(n, *history[:-1], n=n)))
    await store.close()
    text = sum(len(message.content) for message in history)
    assert (tmp_path / "timeline.db").stat().st_size < 1.5 * text


class TestMoves:
    async def test_records_move_with_their_conversation(self, tmp_path: Path) -> None:
        database, folder = tmp_path / "timeline.sqlite", tmp_path / "conversations"
        server = AdoptingStore(database, folder, promise=0)
        await server.write(batch(sent(1, *HISTORY, tools=TOOLS)))
        await server.write(batch(sent(1, HISTORY[0]), conv_id="other"))
        before = await turns(server)
        assert await server.hand_over("c")
        assert await turns(server) == []
        assert await count(server, "blocks") == 1, "what is another's stays"
        kernel = SQLiteStore(conversation_file(folder, "c"))
        assert await turns(kernel) == before
        await kernel.write(batch(sent(2, *HISTORY, Message("user", "more"), n=2)))
        await kernel.close()
        assert await server.load("c") is not None
        after = await turns(server)
        assert after[:1] == before
        assert [message["role"] for message in after[1]["messages"]] == [
            *("system", "user", "assistant", "tool", "user")
        ]
        await server.close()

    async def test_of_two_records_the_later_one_stays(self, tmp_path: Path) -> None:
        """As after a crash between the two steps of a move."""
        database, folder = tmp_path / "timeline.sqlite", tmp_path / "conversations"
        file = conversation_file(folder, "c")
        for path, seq in ((database, 5), (file, 9)):
            store = SQLiteStore(path)
            await store.write(batch(sent(seq, HISTORY[0]), sent(seq + 1, HISTORY[1], n=seq)))
            await store.close()
        server = AdoptingStore(database, folder, promise=0)
        await server.load("c")
        assert [(turn["seq"], turn["n"]) for turn in await turns(server)] == [(6, 5), (9, 1), (10, 9)]
        await server.close()


class TestVersion2:
    @staticmethod
    def make(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path)
        db.executescript(VERSION_2.read_text(encoding="utf-8"))
        db.close()
        return path

    async def check(self, store: SQLiteStore) -> None:
        loaded = await store.load("c")
        assert loaded is not None
        assert [message.role for message in loaded.memory] == [
            *("user", "assistant", "tool", "assistant", "user", "assistant")
        ]
        assert [image.name for image in loaded.memory[0].images] == ["dot.png"]
        assert loaded.memory[1].carried == ({"type": "reasoning", "id": "rs_1"},)
        assert [run.request["prompt"] for run in loaded.pending] == ["Wipe it."]
        old = await turns(store)
        assert [(turn["phase"], turn["n"], len(turn["messages"])) for turn in old] == [
            ("final", 0, 4),
            ("final", 0, 2),
        ]
        await store.write(batch(sent(loaded.version + 1, *HISTORY)))
        assert len(await turns(store)) == 3
        await store.close()

    async def test_a_file_opens_and_goes_on(self, tmp_path: Path) -> None:
        await self.check(SQLiteStore(self.make(tmp_path / "timeline.sqlite")))

    async def test_a_server_takes_in_what_a_kernel_left(self, tmp_path: Path) -> None:
        folder = tmp_path / "conversations"
        file = self.make(conversation_file(folder, "c"))
        await self.check(AdoptingStore(tmp_path / "timeline.sqlite", folder, promise=0))
        assert not file.exists()
