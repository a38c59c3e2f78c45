"""Every rule of the store has a breach that is found, and a file that a chat has written has none."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from webchat_widget import tool
from webchat_widget.engines.base import Engine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.events import CallRequest, ThinkingChunk
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, TimelineQuery
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.timeline.sqlite.snapshot import snapshot
from webchat_widget.timeline.verify import RULES, Breach
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry


@tool(read_only=True)
def double(n: int) -> int:
    """Twice n."""
    return 2 * n


@tool
def wipe() -> str:
    """Wipe it all."""
    return "wiped"


@asynccontextmanager
async def chat(file: Path, engine: Engine) -> AsyncIterator[ChatService]:
    """A host that keeps its conversations in a file."""
    tools = ToolRegistry(map(function_tool, (double, wipe)))
    service = ChatService(
        Environment(
            engine=engine,
            store=SQLiteStore(file),
            profiles=Profiles(Profile(slug="default", tools=tools.names)),
            tools=tools,
            settings=RuntimeSettings(),
        )
    )
    try:
        yield service
    finally:
        await service.close()


async def say(service: ChatService, prompt: str) -> str:
    """Send a prompt; its run."""
    reply = await service.chat(ChatRequest(prompt=prompt, conv_id="c", digest=prompt))
    return str(reply.body["run_id"])


async def until_row(service: ChatService, kind: str, status: str) -> None:
    """Wait for a row of the conversation to come to a status."""
    async with asyncio.timeout(20):
        while True:
            page, _ = await service.timeline(TimelineQuery("c"))
            if any(r["kind"] == kind and r["props"].get("status") == status for r in page.entities):
                return
            await asyncio.sleep(0.01)


async def talk(file: Path) -> None:
    """A run with thoughts and tools that has ended, one that waits for a person, and one behind that."""
    asks = [CallRequest("a", "double", '{"n": 21}'), CallRequest("b", "double", '{"n": 4}')]
    first = [ThinkingChunk("Hm."), "Let me see. ", *asks]
    engine = ScriptedEngine(first, "42.", [CallRequest("c", "wipe", "{}")])
    async with chat(file, engine) as service:
        await say(service, "Twice 21?")
        await until_row(service, "run", "finished")
        await say(service, "Wipe!")
        await until_row(service, "tool_call", "asking")
        await say(service, "And then?")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("good") / "timeline.sqlite"
    asyncio.run(talk(file))
    return file


@pytest.fixture
def file(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path))


def change(file: Path, sql: str) -> None:
    """Damage what is kept."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        assert db.execute(sql).rowcount, "the statement hits something"


def found(file: Path) -> list[Breach]:
    return verify(file).breaches


def test_what_a_chat_has_written_keeps_all_rules(file: Path) -> None:
    verdict = verify(file)
    assert verdict.breaches == []
    assert (verdict.conversations, verdict.rows) == (1, 13)


FINISHED = "(SELECT id FROM entities WHERE kind = 'run' ORDER BY created_seq LIMIT 1)"
ANSWER = "id LIKE '%:text:2'"
CALL = "id LIKE '%:call:1' AND json_extract(props, '$.name') = 'double'"
RUN = f"run_id = {FINISHED}"

BREACHES = [
    ("json", f"UPDATE entities SET props = '{{\"content\": ' WHERE {ANSWER}"),
    ("json", f"UPDATE entities SET props = '[]' WHERE {ANSWER}"),
    ("json", f"UPDATE turns SET messages = '[{{}}]' WHERE {RUN}"),
    ("json", "UPDATE runs SET checkpoint = '7' WHERE checkpoint IS NOT NULL"),
    ("json", "UPDATE records SET finish = '' WHERE finish IS NOT NULL"),
    ("kind", f"UPDATE entities SET kind = 'Mess age' WHERE {ANSWER}"),
    ("kind", "UPDATE records SET phase = 'later' WHERE n = 1 AND phase = 'pre_inference'"),
    ("props", f"UPDATE entities SET props = json_remove(props, '$.role') WHERE {ANSWER}"),
    ("props", f"UPDATE entities SET props = json_set(props, '$.content', 7) WHERE {ANSWER}"),
    ("version", "UPDATE conversations SET version = version - 1"),
    ("version", f"UPDATE entities SET version = created_seq - 1 WHERE {ANSWER}"),
    ("version", f"UPDATE entities SET created_seq = 0 WHERE {ANSWER}"),
    ("version", f"UPDATE entities SET version = 'new' WHERE {ANSWER}"),
    ("version", "UPDATE conversations SET version = 9007199254740992"),
    ("version", "UPDATE turns SET seq = seq * 2"),
    ("version", "UPDATE records SET seq = seq * 2 WHERE n = 1"),
    ("place", f"UPDATE entities SET created_seq = (SELECT min(created_seq) FROM entities) WHERE {ANSWER}"),
    ("orphan", "DELETE FROM conversations"),
    ("orphan", "INSERT INTO grants VALUES ('nobody', 'wipe', 1)"),
    ("orphan", f"UPDATE entities SET id = 'x:log', kind = 'log' WHERE {ANSWER}"),
    ("open", f"UPDATE entities SET props = json_set(props, '$.streaming', json('true')) WHERE {ANSWER}"),
    ("open", f"UPDATE entities SET props = json_set(props, '$.done', json('false')) WHERE {CALL}"),
    ("open", "INSERT INTO entities SELECT conv_id, 'p', 'debugger_pause', 1, 1, '{\"status\": \"paused\"}'"
     " FROM conversations"),
    ("run", "DELETE FROM runs WHERE started = 0"),
    ("run", f"INSERT INTO runs SELECT {FINISHED}, conv_id, 1, 1, '{{\"prompt\": \"x\"}}', NULL"
     " FROM conversations"),
    ("run", "INSERT INTO runs SELECT 'lost', conv_id, 1, 0, '{\"prompt\": \"x\"}', NULL FROM conversations"),
    ("request", "UPDATE runs SET request = '{\"prompt\": 7}' WHERE started = 0"),
    ("settings", "UPDATE conversations SET settings = '{\"model\": 7}'"),
    ("result", "UPDATE entities SET props = json_set(props, '$.toolCallId', 'x') WHERE id LIKE '%:1:result'"),
    ("result", "DELETE FROM entities WHERE id LIKE '%:call:2'"),
    ("call", "DELETE FROM entities WHERE id LIKE '%:call:2:result'"),
    ("turn", "UPDATE turns SET run_id = 'x'"),
    ("turn", f"UPDATE records SET run_id = 'x' WHERE {RUN}"),
    ("memory", f"UPDATE turns SET messages = json_remove(messages, '$[0]') WHERE {RUN}"),
    ("memory", f"UPDATE turns SET messages = json_remove(messages, '$[2]') WHERE {RUN}"),
    ("memory", f"UPDATE turns SET messages = json_remove(messages, '$[3]', '$[3]') WHERE {RUN}"),
    ("memory", f"UPDATE turns SET messages = json_set(messages, '$[4].role', 'user') WHERE {RUN}"),
    ("memory", f"UPDATE turns SET messages = json_set(messages, '$[2].tool_call_id', 'z') WHERE {RUN}"),
    ("block", "DELETE FROM blocks WHERE body LIKE '%Twice 21?%'"),
    ("block", "UPDATE blocks SET body = replace(body, 'Twice 21?', 'Thrice 21?')"
     " WHERE body LIKE '%Twice 21?%'"),
    ("block", "UPDATE blocks SET body = '{' WHERE body LIKE '%Twice 21?%'"),
    ("key", "UPDATE keys SET body = 'x'"),
    ("key", "UPDATE keys SET body = json_remove(body, '$.run_id')"),
    ("key", "UPDATE keys SET body = json_set(body, '$.run_id', 'lost')"),
    ("key", "UPDATE keys SET status = 500"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "sql"), BREACHES)
def test_a_breach_is_found_and_named(file: Path, rule: str, sql: str) -> None:
    change(file, sql)
    assert {breach.rule for breach in found(file)} == {rule}


def test_each_rule_has_its_breach() -> None:
    assert {rule for rule, _ in BREACHES} == set(RULES) - {"file"}


@pytest.mark.parametrize("at", [0, 16 * 1024], ids=["the first page", "a page"])
def test_damage_is_a_breach_of_the_file(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"\xff" * 4096)
    assert "file" in {breach.rule for breach in found(file)}


def test_a_file_that_was_cut_off_is_damaged(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)
    assert "file" in {breach.rule for breach in found(file)}


def test_what_is_no_timeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="There is no file"):
        verify(tmp_path / "nowhere.sqlite")
    with pytest.raises(StoreUnavailable, match="can't be read"):
        verify(tmp_path)
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE mine (id)")
    with pytest.raises(StoreUnavailable, match="is no timeline"):
        verify(other)
    cut = tmp_path / "cut.sqlite"
    cut.touch()
    cut.with_name("cut.sqlite-wal").write_bytes(b"all that there was")
    with pytest.raises(StoreUnavailable, match="it is empty"):
        verify(cut)


async def test_a_chat_that_runs_is_looked_at_and_notices_nothing(tmp_path: Path) -> None:
    file = tmp_path / "timeline.sqlite"
    goes_on = asyncio.Event()
    async with chat(file, ScriptedEngine(["Once ", goes_on, "upon a time"])) as service:
        await say(service, "Tell!")
        async with asyncio.timeout(20):  # the text is on disk, and nothing is on its way there
            while b"Once " not in (tmp_path / "timeline.sqlite-wal").read_bytes():
                await asyncio.sleep(0.01)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        verdict = verify(file)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        goes_on.set()
        await until_row(service, "run", "finished")
    assert verdict.breaches == []
    assert verdict.rows == 3, "what is in the -wal only was read as well"
    assert found(file) == []


def test_a_copy_is_begun_again_where_a_checkpoint_came_between(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE conversations SET title = 'before'")
    copied: list[str] = []
    copyfile = shutil.copyfile

    def interrupted(source: Path, target: Path) -> None:
        copyfile(source, target)
        copied.append(source.name)
        if len(copied) == 1:
            writer.execute("PRAGMA wal_checkpoint(RESTART)")
            writer.execute("UPDATE conversations SET created = created + 1")

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with closing(writer), snapshot(file) as db:
        assert db.execute("SELECT title FROM conversations").fetchall() == [("before",)]
    assert copied.count(file.name) == 2


async def test_an_older_schema_is_read_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file)) as db:
        db.executescript((Path(__file__).parent / "version2.sql").read_text())
    before = file.read_bytes()
    assert found(file) == []
    assert file.read_bytes() == before
