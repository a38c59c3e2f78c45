"""What is held in memory: conversations that nobody reads any more, and readers that take nothing.

Run as a module it is the process in which conversations are counted, and prints a JSON of its figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.openai_protocol import Reply
from tests.support.raw_socket import RawSocket
from tests.support.waiting import until
from webchat_widget.engines.base import Engine
from webchat_widget.events import EngineEvent, Finish, TextChunk
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, EventRequest, TimelineQuery
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Turn
from webchat_widget.typing import Usage

__all__ = ["ANSWER", "ROWS", "idle", "stalled"]

ROWS = 50
"""Of a conversation: 16 prompts of 100 characters, each with its run and an answer of 500, and two notes."""
_PROMPTS = 16
_PROMPT = "what " * 20
_SAID = "tokn " * 100
_SIDE_BY_SIDE = 20

ANSWER = ["x" * 16_384] * 640
"""10 MB of answer."""

_TRACED = """
import signal, tracemalloc
tracemalloc.start()
def write(*_):
    with open({path!r}, "w") as file:
        file.write(str(tracemalloc.get_traced_memory()[1]))
signal.signal(signal.SIGUSR2, write)
"""
"""What a server's own settings do in a bench: a signal has it write down the most that was ever allocated."""


def stalled(readers: int, *, traced: bool = False) -> int:
    """Bytes of a fresh server at its height, while 10 MB of answer come and so many readers take nothing:
    what the process had, or with *traced* what Python had allocated."""
    reply = Reply(chunks=ANSWER)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = stack.enter_context(ModelServer(answer=lambda _: reply))
        server = Jupyter(
            folder,
            command="webchat",
            env={"OPENAI_BASE_URL": model.url},
            args=["--WebChat.max_text=20000000"],
        )
        peak = folder / "peak"
        if traced:
            (folder / "config").mkdir()
            (folder / "config" / "jupyter_server_config.py").write_text(_TRACED.format(path=str(peak)))
        stack.enter_context(server)
        for _ in range(readers):
            stack.callback(RawSocket(server, buffer=4096, conv_id="c", deltas="append").close)
        server.post_json("webchat/chat", {"prompt": "go", "conv_id": "c"})
        first = server.timeline("c")[0]
        # Its row alone: nothing of the answer is to be encoded for us.
        run = f"webchat/timeline?conv_id=c&before={first['createdSeq'] + 1}"
        until(lambda: server.get_json(run)[0]["props"]["status"] == "finished", "the answer ends", timeout=60)
        assert _connected(server) >= readers, "the machine is too slow: the readers were closed"
        if not traced:
            status = Path(f"/proc/{server.pid}/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) * 1024
        os.kill(server.pid, signal.SIGUSR2)
        return until(lambda: peak.exists() and int(peak.read_text() or 0), "the server writes it down")


def _connected(server: Jupyter) -> int:
    ends = psutil.Process(server.pid).net_connections("tcp")
    return sum(end.laddr.port == server.port and end.status == psutil.CONN_ESTABLISHED for end in ends)


def idle(conversations: int, *, traced: bool = False) -> dict[str, float]:
    """Bytes of a conversation after a chat, when it is idle (`idle`) and when it was let go (`evicted`): what
    the process has grown by, or with *traced* what Python has allocated."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", str(conversations), *(["traced"] if traced else [])],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


class _Model:
    """It says the same each time, and remembers nothing."""

    name, model = "bench", "bench"

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        half = len(_SAID) // 2
        yield TextChunk(_SAID[:half])
        yield TextChunk(_SAID[half:])
        yield Finish("stop", Usage(inputTokens=1000, outputTokens=1000, cachedTokens=0))

    async def aclose(self) -> None: ...


async def _chats(conversations: int) -> dict[str, float]:
    engine: Engine = _Model()
    pool = PoolSettings()
    with tempfile.TemporaryDirectory() as folder:
        env = Environment(
            engine=engine,
            store=SQLiteStore(Path(folder) / "timeline.sqlite"),
            profiles=Profiles(Profile(slug="default")),
            tools=ToolRegistry(),
            settings=RuntimeSettings(evict_after=0, pool=pool),
        )
        service = ChatService(env)
        await _talked(service, pool, [f"first-{number}" for number in range(2 * _SIDE_BY_SIDE)])
        await _forgotten(service, pool)
        before = _used()
        await _talked(service, pool, [f"idle-{number}" for number in range(conversations)])
        idle = _used()
        await _forgotten(service, pool)
        evicted = _used()
        await service.close()
    return {"idle": (idle - before) / conversations, "evicted": (evicted - before) / conversations}


async def _talked(service: ChatService, pool: PoolSettings, names: list[str]) -> None:
    pool.idle_timeout = 3600
    for first in range(0, len(names), _SIDE_BY_SIDE):
        await asyncio.gather(*(_talk(service, conv_id) for conv_id in names[first : first + _SIDE_BY_SIDE]))
        while service.busy:
            await asyncio.sleep(0.01)
    for conv_id in (names[0], names[-1]):
        found, _ = await service.timeline(TimelineQuery(conv_id))
        assert len(found.entities) == ROWS


async def _talk(service: ChatService, conv_id: str) -> None:
    for _ in range(_PROMPTS):
        await service.chat(ChatRequest(prompt=_PROMPT, conv_id=conv_id, digest=""))
    for note in ("one", "two"):
        await service.emit(conv_id, EventRequest("note", note, {"text": _SAID}))


async def _forgotten(service: ChatService, pool: PoolSettings) -> None:
    """Let the time go by after which all are evicted."""
    pool.idle_timeout = 0
    manager = service._manager
    for conversation in tuple(manager._live.values()):
        conversation.pool.touch()
    while len(manager):
        await asyncio.sleep(0.01)


def _used() -> int:
    gc.collect()
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    if "traced" in sys.argv[2:]:
        tracemalloc.start()
    print(json.dumps(asyncio.run(_chats(int(sys.argv[1])))))
