"""The power fails at the very moment in which an answer leaves: what it promised must be on the disk.

A real server runs under strace. From what it wrote and what it synced, the disk is put together as it would
be found if nothing had reached it but what an fsync had ended for before the answer began to leave; and once
more with some of the writes that no fsync had ended for, any of them, for disks write in an order of their
own. What was answered must be there, and the file must be sound. A frame on a socket, but for pieces of text,
must be there too.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.soak.plants import sow
from tests.soak.power_judge import NUMBER, Judge, Promise
from tests.soak.stop_plants import ground
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply, Request
from tests.support.strace import TracedJupyter
from webchat_widget.timeline.entities import is_open
from webchat_widget.timeline.sqlite import statements
from webchat_widget.timeline.sqlite.inspection import entities

__all__ = ["HARNESS", "answer_first", "frame_first", "ground", "no_sync", "sync_at_checkpoints"]

_IN_A_ROUND = 9
"""Answers of one conversation."""
_AT_ONCE = 5
_OF_A_SERVER = 90
"""Answers of one server: a trace is some MB for each ten of them."""
_PATIENCE = 60.0


class Power:
    """A harness: see `Harness`."""

    name, unit, quick, long = "power", "answers", 2 * _IN_A_ROUND, 900
    plants: Mapping[str, int] = {
        "sync_at_checkpoints": _IN_A_ROUND,
        "no_sync": _IN_A_ROUND,
        "answer_first": _IN_A_ROUND,
        "frame_first": _IN_A_ROUND,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """One server after the other."""
        failures: list[str] = []
        for first in range(0, n, _OF_A_SERVER):
            rounds = -(-min(n - first, _OF_A_SERVER) // _IN_A_ROUND)
            failures += await _on_a_server(rounds, f"{seed}-{first}", folder / str(first), plant)
        return failures


HARNESS = Power()


async def _on_a_server(rounds: int, seed: str, folder: Path, plant: str | None) -> list[str]:
    sow(folder / "config", "power", "ground", *filter(None, [plant]))
    with ModelServer() as model:
        server = TracedJupyter(folder, command="webchat", env={"OPENAI_BASE_URL": model.url})
        server.configure({"WebChat": {"profiles": [{"slug": "default", "tools": ["guarded"]}]}})
        try:
            await asyncio.to_thread(server.start)
            promises = await _talk(server, model, rounds, seed)
            pid = server.pid
            server.kill()
            server.wait_traced(pid)
        finally:
            if server in Jupyter.live:
                server.kill()
    judge = Judge(server.timeline_db, promises, seed)
    await asyncio.to_thread(judge.follow, server.trace)
    if plant is None:
        print(f"power: it failed at {len(judge.answers)} answers, and {judge.frames} frames left in time")
    return judge.failures


# -- what is asked, and what each answer promises -------------------------------------------------------


async def _talk(server: Jupyter, model: ModelServer, rounds: int, seed: str) -> dict[str, Promise]:
    gates: dict[str, Gate] = {}

    def answer(request: Request) -> Reply:
        word = request.prompt.split(" ", 1)[0]
        if word.endswith("tool") and not any(
            message.get("role") == "tool" for message in request.body["messages"]
        ):
            return Reply(tool_calls=[{"name": "guarded", "arguments": {"mark": str(server.folder / word)}}])
        return Reply(f"You said: {word}", hold=gates.get(word), delay=0.002)

    model.answer = answer
    promises: dict[str, Promise] = {}
    slots = asyncio.Semaphore(_AT_ONCE)
    headers = {"Authorization": f"token {server.token}"}
    address = server.url("webchat/")
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=_PATIENCE) as http:

        async def hold(number: int) -> None:
            conv = f"power-{seed}-{number}"
            async with slots:
                address = server.url(f"webchat/ws?conv_id={conv}&deltas=append").replace("http", "ws", 1)
                page = await websocket_connect(HTTPRequest(address, headers=headers))
                try:
                    await _Round(http, conv, promises, gates).hold()
                finally:
                    page.close()
                    while await page.read_message() is not None:
                        pass

        await asyncio.gather(*map(hold, range(rounds)))
    return promises


class _Round:
    """One conversation with an answer of each kind that promises something."""

    def __init__(
        self, http: httpx.AsyncClient, conv: str, promises: dict[str, Promise], gates: dict[str, Gate]
    ) -> None:
        self._http, self._conv, self._promises, self._gates = http, conv, promises, gates
        self._count = 0

    async def hold(self) -> None:
        conv = self._conv
        path = f"conversations/{conv}"
        await self._ask("PUT", f"{path}/settings", {"system_prompt": conv}, lambda _: self._settings(conv))
        front, back = f"{conv}.front", f"{conv}.back"
        self._gates[front] = Gate()
        first = (await self._say(front, key=f"key-{conv}"))["run_id"]
        second = (await self._say(f"{conv}.second"))["run_id"]
        third = (await self._say(back))["run_id"]
        await self._ask("POST", f"{path}/stop", {"run_id": third}, lambda _: self._ended(third))
        await self._ask("POST", f"{path}/stop", {"run_id": first}, lambda _: self._ended(first))
        await self._until(second, "finished")
        event = {"kind": "mine", "props": {"text": conv}}
        await self._ask("POST", f"{path}/events", event, lambda said: self._row(said["id"]))
        called = (await self._say(f"{conv}.tool"))["run_id"]
        call = await self._until(f"{called}:call:1", "asking")
        yes = {"decision": "once", "digest": call["props"]["approval"]["digest"]}
        await self._ask("POST", f"{path}/approvals/{call['id']}", yes, lambda _: self._allowed(call["id"]))
        await self._until(called, "finished")

    async def _say(self, word: str, key: str | None = None) -> Any:
        body = {
            "prompt": f"{word} please",
            "conv_id": self._conv,
            **({"idempotency_key": key} if key else {}),
        }
        return await self._ask("POST", "chat", body, lambda said: self._taken(said["run_id"], key))

    async def _ask(self, method: str, path: str, body: Any, promised: Callable[[Any], Promise]) -> Any:
        self._count += 1
        number = f"{self._conv}/{self._count}-{path.rsplit('/', 1)[-1]}"
        reply = await self._http.request(method, path, json=body, headers={NUMBER: number})
        assert reply.status_code in (200, 202), f"{number}: {reply.status_code} {reply.text}"
        self._promises[number] = promised(reply.json())
        return reply.json()

    async def _until(self, id: str, status: str) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            rows = (await self._http.get("timeline", params={"conv_id": self._conv})).json()
            for row in rows:
                if row["id"] == id and row["props"].get("status") == status:
                    return dict(row)
            assert time.monotonic() < deadline, f"{id} is never {status}"
            await asyncio.sleep(0.02)

    # -- promises --------------------------------------------------------------------------------------

    def _settings(self, prompt: str) -> Promise:
        def kept(db: sqlite3.Connection) -> bool:
            loaded = statements.load(db, self._conv)
            return loaded is not None and loaded.settings.get("system_prompt") == prompt

        return kept

    def _taken(self, run_id: str, key: str | None) -> Promise:
        """The run is there, and so is its key; `verify` sees to it that it can be run."""

        def kept(db: sqlite3.Connection) -> bool:
            (keys,) = db.execute("SELECT count(*) FROM keys WHERE key = ?", (key,)).fetchone()
            return bool(self._rows(db, run_id)) and keys == (key is not None)

        return kept

    def _ended(self, run_id: str) -> Promise:
        def kept(db: sqlite3.Connection) -> bool:
            rows = self._rows(db, run_id)
            return rows[0]["props"]["status"] == "stopped" and not any(map(is_open, rows))

        return kept

    def _row(self, id: str) -> Promise:
        return lambda db: bool(self._rows(db, id))

    def _allowed(self, call_id: str) -> Promise:
        """It is in the run's checkpoint; once the row says so too, the run may have ended."""

        def kept(db: sqlite3.Connection) -> bool:
            decided: dict[str, Any] = {}
            for (checkpoint,) in db.execute("SELECT checkpoint FROM runs WHERE conv_id = ?", (self._conv,)):
                decided |= json.loads(checkpoint or "{}").get("decisions", {})
            in_row = self._rows(db, call_id)[0]["props"]["approval"]["state"] == "once"
            return bool(in_row or decided.get(call_id, {}).get("decision") == "once")

        return kept

    def _rows(self, db: sqlite3.Connection, id: str) -> list[Any]:
        rows = entities(db, self._conv) or []
        return [row for row in rows if row["id"] == id or row["id"].startswith(f"{id}:")]


# -- the bugs -------------------------------------------------------------------------------------------


def sync_at_checkpoints() -> None:
    """SQLite syncs when it writes back its -wal, and not with each commit."""
    _replace("synchronous = FULL", "synchronous = NORMAL")


def no_sync() -> None:
    """SQLite leaves it to the system when anything is on the disk."""
    _replace("synchronous = FULL", "synchronous = OFF")


def answer_first() -> None:
    """What was handed to the store is taken for stored."""
    from webchat_widget.timeline.sqlite import SQLiteStore

    write = SQLiteStore.write

    def hasty(self: SQLiteStore, batch: Any) -> asyncio.Future[None]:
        write(self, batch)
        at_once: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at_once.set_result(None)
        return at_once

    SQLiteStore.write = hasty  # type: ignore[method-assign]


def frame_first() -> None:
    """Pages hear of a thing while it is being stored."""
    from webchat_widget.runtime.coordinator import StreamCoordinator

    emit = StreamCoordinator.emit

    def hasty(self: StreamCoordinator, *events: Any, **parts: Any) -> Awaitable[None]:
        saved = emit(self, *events, **parts)
        unsent = self._unsent[-1]
        for frame in unsent.frames:
            self._publish(frame)
        unsent.frames = ()
        return saved

    StreamCoordinator.emit = hasty  # type: ignore[method-assign]


def _replace(pragma: str, by: str) -> None:
    from webchat_widget.timeline.sqlite.connection import Database

    execute: Callable[..., Any] = Database.execute

    def careless(self: Any, sql: str, *args: Any) -> Any:
        return execute(self, sql.replace(pragma, by), *args)

    Database.execute = careless  # type: ignore[method-assign]
