"""Hosts as processes, each forked in no time from one that has imported all that they need.

`python -m tests.soak.owner_process SOCKET` forks a host for each line of its input: a JSON list of its name,
role and folder, and a plant or null. The host connects to SOCKET and answers requests one by one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.soak.plants import ROOT
from webchat_widget.engines.function import FunctionEngine
from webchat_widget.errors import ConversationHeld, WebChatError
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, TimelineQuery
from webchat_widget.runtime.environment import Environment
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Turn

__all__ = ["CONV_ID", "PROMISE", "Host", "Nursery"]

CONV_ID = "c"
PROMISE = 0.3
"""Seconds for which a server leaves alone what it has handed over."""


class Host:
    """One such process, as the harness sees it."""

    def __init__(self, name: str, pid: int, lines: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.name = name
        self.pid = pid
        self.stopped = False
        self._reader, self._writer = lines

    async def ask(self, op: str, key: str = "") -> dict[str, Any] | None:
        """Its answer: `value`, or `code` and `message` of an error, and the `seconds` that it took. None
        where it died."""
        try:
            self._writer.write(json.dumps([op, key]).encode() + b"\n")
            await self._writer.drain()
            line = await self._reader.readline()
        except ConnectionError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    def signal(self, number: int) -> None:
        """KILL, STOP or CONT."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        self.stopped = number == signal.SIGSTOP

    async def gone(self) -> None:
        """Wait until it has ended."""
        with suppress(ConnectionError):
            await self._reader.read()
        self._writer.close()


class Nursery:
    """Starts hosts. A context."""

    def __init__(self, plant: str | None) -> None:
        self._plant = plant
        self._place = tempfile.TemporaryDirectory(prefix="soak-")  # the path of a socket has 100 characters
        self._socket = f"{self._place.name}/socket"
        self._waited: dict[str, asyncio.Future[Host]] = {}

    async def __aenter__(self) -> Nursery:
        self._server = await asyncio.start_unix_server(self._connected, self._socket)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, self._socket), stdin=asyncio.subprocess.PIPE, cwd=ROOT
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        self._server.close()
        self._place.cleanup()

    async def host(self, name: str, folder: Path) -> Host:
        """A new one; its role is the first word of its name, and its conversations are in the folder."""
        unique = f"{name}@{folder}"
        waited = self._waited[unique] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps([unique, name.split()[0], str(folder), self._plant])
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(60):
            return await waited

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unique, pid = json.loads(await reader.readline())
        self._waited.pop(unique).set_result(Host(unique.split("@")[0], pid, (reader, writer)))


# -- in the process ----------------------------------------------------------------------------------


def main(socket: str) -> None:
    """Fork hosts until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in iter(sys.stdin.buffer.raw.readline, b""):
        unique, role, folder, plant = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with ExitStack() as stack:
                if plant is not None:
                    stack.enter_context(getattr(importlib.import_module("tests.soak.owners"), plant)())
                asyncio.run(_live(socket, unique, role, Path(folder)))
            os._exit(0)


async def _live(socket: str, unique: str, role: str, folder: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    service = _service(role, folder)
    writer.write(json.dumps([unique, os.getpid()]).encode() + b"\n")
    while line := await reader.readline():
        op, key = json.loads(line)
        begun = time.monotonic()
        answer: dict[str, Any]
        try:
            answer = {"value": await _do(service, op, key)}
        except WebChatError as error:
            answer = {"code": error.code, "message": error.message}
        writer.write(json.dumps({**answer, "seconds": time.monotonic() - begun}).encode() + b"\n")
        await writer.drain()
        if op == "end":
            return


def _service(role: str, folder: Path) -> ChatService:
    async def answer(turn: Turn) -> AsyncIterator[str]:
        yield f"{turn.messages[-1].content} it is."

    store: SQLiteStore
    if role == "server":
        store = AdoptingStore(folder / "timeline.sqlite", folder / "conversations", promise=PROMISE)
    else:
        store = SQLiteStore(
            conversation_file(folder / "conversations", CONV_ID),
            kind="a kernel",
            in_use=lambda owner: ConversationHeld(f"Another kernel has it ({owner})."),
            drop_empty=True,
        )
    return ChatService(
        Environment(
            engine=FunctionEngine(answer),
            store=store,
            profiles=Profiles(Profile(slug="default")),
            tools=ToolRegistry([]),
        )
    )


async def _do(service: ChatService, op: str, key: str) -> object:
    match op:
        case "say":
            request = ChatRequest(prompt=key, conv_id=CONV_ID, key=key, digest=key)
            return (await service.chat(request)).body["run_id"]
        case "hand over":
            return await service.hand_over(CONV_ID)
        case "settle":
            while any(
                row["kind"] == "run" and row["props"]["status"] in ("queued", "started")
                for row in (await service.timeline(TimelineQuery(CONV_ID)))[0].entities
            ):
                await asyncio.sleep(0.005)
            await service.stop(CONV_ID, None)
            return None
        case _:
            await service.close()
            return None


if __name__ == "__main__":
    main(*sys.argv[1:])
