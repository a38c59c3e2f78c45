"""A server that is told to end while much is going on: soon, with all on disk, and with a word to each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.soak.flow import Watcher
from tests.soak.plants import sow
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply, Request
from tests.support.raw_socket import RawSocket
from tests.support.waiting import until
from webchat_widget.timeline.sqlite.inspection import entities, snapshot, verify

SECONDS, SLACK = 5.0, 2
"""Within so long a server ends; and so often that, on a machine that has other things to do."""
STREAMS, CALLS, HANGING, STUCK = 20, 3, 3, 3


def answer(request: Request) -> Reply:
    """What the model says: streams for ever, calls the tool, or hangs."""
    if request.prompt == "call":
        return Reply(tool_calls=[{"name": "sleep", "arguments": {}}])
    if request.prompt == "hang":
        return Reply(fault="silent")
    return Reply(chunks=["some words "] * 100_000, delay=0.05)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Jupyter]:
    """A server whose model never comes to an end."""
    with ModelServer(answer=answer) as model:
        server = Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url})
        server.configure({"WebChat": {"profiles": [{"slug": "default", "tools": ["sleep"]}]}})
        sow(tmp_path / "config", "reader_plants", "deaf_tool")
        with server:
            yield server


def begin(server: Jupyter, kind: str, count: int) -> list[tuple[str, str, str]]:
    """Conversations with a run each, and a prompt that waits: the ids of all three."""

    def say(conv_id: str, prompt: str) -> str:
        return str(server.post_json("webchat/chat", {"prompt": prompt, "conv_id": conv_id})["run_id"])

    return [(f"{kind}-{n}", say(f"{kind}-{n}", kind), say(f"{kind}-{n}", "waits")) for n in range(count)]


def at_it(server: Jupyter) -> bool:
    """Whether every stream has begun, and every tool."""
    streams = (row for n in range(STREAMS) for row in server.timeline(f"stream-{n}"))
    calls = (row for n in range(CALLS) for row in server.timeline(f"call-{n}"))
    said = sum(row["props"].get("role") == "assistant" for row in streams)
    running = sum(row["kind"] == "tool_call" and row["props"]["status"] == "running" for row in calls)
    return (said, running) == (STREAMS, CALLS)


def left(server: Jupyter, conv_id: str) -> list[dict[str, Any]]:
    """The rows of a conversation on the disk of a server that has ended."""
    with snapshot(server.timeline_db) as db:
        return [dict(row) for row in entities(db, conv_id) or []]


async def test_a_server_ends_soon_whatever_goes_on_and_leaves_all_on_disk(busy: Jupyter) -> None:
    kinds = {"stream": STREAMS, "call": CALLS, "hang": HANGING}
    prompts = [prompt for kind, count in kinds.items() for prompt in begin(busy, kind, count)]
    readers = [await Watcher().join(busy, f"{kind}-0") for kind in kinds]
    stuck = [RawSocket(busy, buffer=4096, conv_id=f"stream-{index}") for index in range(STUCK)]
    await asyncio.to_thread(until, lambda: at_it(busy), "all streams, all tools run")
    start = time.monotonic()
    ending = asyncio.create_task(asyncio.to_thread(busy.terminate))
    codes = [await asyncio.wait_for(reader.closed(), 30) for reader in readers]
    await ending
    took = time.monotonic() - start
    print(f"{len(prompts)} runs: gone after {took:.1f} s")
    for reader in readers:
        await reader.leave()
    for line in stuck:
        line.close()
    assert took < SECONDS * SLACK
    assert codes == [1001] * len(readers)
    for conv_id, begun, waiting in prompts:
        rows = left(busy, conv_id)
        runs = {row["id"]: row["props"]["status"] for row in rows if row["kind"] == "run"}
        assert runs == {begun: "failed", waiting: "queued"}
        said = [row["props"] for row in rows if row["props"].get("role") == "assistant"]
        assert all((row["status"], row["streaming"]) == ("interrupted", False) for row in said)
        assert bool(said) == conv_id.startswith("stream")
    assert verify(busy.timeline_db).breaches == []
    assert [line for line in busy.log_text().splitlines() if line.startswith("[E ")] == []
