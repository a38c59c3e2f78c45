"""Sockets that come and go, and short runs of all kinds: at rest the server has what it had at first."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.soak.child import Forked
from tests.soak.flat_plants import GAUGE, gauge, never_evicted, never_removed, timer_not_cancelled
from tests.soak.plants import sow
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply, Request
from tests.support.raw_socket import RawSocket
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = ["HARNESS", "gauge", "never_evicted", "never_removed", "timer_not_cancelled"]

_SLICES = 5
"""After each of them the server comes to rest and is looked at; the first is for it to get warm."""
_AT_ONCE = 8
_CONVERSATIONS = 4
"""As many units as this share one."""
_SPARE: Mapping[str, int] = {"tasks": 2, "timers": 4, "descriptors": 4, "threads": 3}
"""By how much a count may differ at rest; those of our own objects by `_OBJECTS`."""
_OBJECTS = 8
_BYTES_PER_UNIT, _NOISE = 1024, 6 * 2**20
"""What a unit may leave in memory, and what an allocator may do at will."""
_NEVER_SAID = ("[E ", "was never", "Task was destroyed")
_NO_SPARE = httpx.Limits(max_keepalive_connections=0)
"""A connection that is kept for later is a descriptor of the server too."""
_CONTINENT = "x" * 10_000

Counts = dict[str, int]


class Flat:
    """A harness: see `Harness`. A unit is a socket or a run; a fifth of them comes before the first look."""

    name, unit, quick, long = "flat", "connects and runs", 300, 10_000
    at_once = 3
    plants: Mapping[str, int] = {"timer_not_cancelled": 60, "never_removed": 60, "never_evicted": 60}

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        draw = random.Random(seed)
        with ModelServer(answer=_answer) as model:
            args = ["--WebChat.idle_timeout=0.3", "--WebChat.evict_after=0.3"]
            server = Forked(folder, model=model.url, args=args)
            sow(folder / "config", "flat", "gauge", *([plant] if plant else []))
            profiles = [{"slug": "default", "tools": ["calculate"]}]
            server.configure({"WebChat": {"profiles": profiles}})
            with server:
                faults = await _soaked(server, model, n, draw, patience=3 if plant else 20)
        said = server.log_text()
        faults += [
            f"the log says: {line}" for line in said.splitlines() if any(x in line for x in _NEVER_SAID)
        ]
        faults += [str(breach) for breach in verify(server.timeline_db).breaches]
        return [f"{fault} (seed {seed}, {n} units)" for fault in faults]


HARNESS = Flat()


async def _soaked(
    server: Jupyter, model: ModelServer, n: int, draw: random.Random, patience: float
) -> list[str]:
    """Do it all, in slices; what is different at rest from what was after the first."""
    units = Units(server)
    looks: list[Counts] = []
    try:
        for part in range(_SLICES):
            due = iter(range(part * n // _SLICES, (part + 1) * n // _SLICES))
            await asyncio.gather(*(_work(units, due, draw) for _ in range(_AT_ONCE)))
            await units.notebook(f"notebook-{part}")
            model.reset()
            looks.append(await _at_rest(server, looks[0] if looks else None, patience))
            if _differs(looks[0], looks[-1]):
                break
    finally:
        await units.client.aclose()
    rss = ", ".join(f"{look['rss'] / 2**20:.1f}" for look in looks)
    counts = ", ".join(f"{looks[-1][name]} {name}" for name in _SPARE)
    print(f"flat: {rss} MB; {counts} at rest")
    return units.faults + _grown(looks, n)


async def _work(units: Units, due: Any, draw: random.Random) -> None:
    for index in due:
        kind = draw.choice(units.kinds)
        try:
            async with asyncio.timeout(60):
                await kind(index)
        except Exception as error:
            units.faults.append(f"unit {index}, {kind.__name__}: {type(error).__name__} {error}")


class Units:
    """The things that are done to a server, each from its beginning to its end."""

    def __init__(self, server: Jupyter) -> None:
        self._server = server
        headers = {"Authorization": f"token {server.token}"}
        self.client = httpx.AsyncClient(base_url=server.url(), headers=headers, timeout=60, limits=_NO_SPARE)
        self.faults: list[str] = []
        self.kinds: list[Callable[[int], Awaitable[None]]] = [
            self.page,
            self.page,
            self.crash,
            self.no_handshake,
            self.no_request,
            self.answer,
            self.answer,
            self.call,
            self.refusal,
            self.cut,
            self.stop,
            self.row,
        ]

    async def page(self, index: int) -> None:
        """A page that comes, says hello, and goes."""
        address = self._server.url(f"webchat/ws?conv_id={_conv(index)}").replace("http", "ws", 1)
        headers = {"Authorization": f"token {self._server.token}"}
        socket = await websocket_connect(HTTPRequest(address, headers=headers))
        await socket.read_message()
        await socket.write_message("ping")
        await socket.read_message()
        socket.close()
        while await socket.read_message() is not None:
            pass

    async def crash(self, index: int) -> None:
        """A page that vanishes."""
        reader = await asyncio.to_thread(RawSocket, self._server, conv_id=_conv(index))
        reader.close(abruptly=True)

    async def no_handshake(self, index: int) -> None:
        """A page that has gone before it is let in."""
        request = (
            f"GET /webchat/ws?conv_id={_conv(index)}&token={self._server.token} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self._server.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        self._hang_up_after(request.encode())

    async def no_request(self, index: int) -> None:
        """One that has gone in the middle of its request."""
        self._hang_up_after(b"GET /webchat/ws?conv_id=" + _conv(index).encode())

    async def answer(self, index: int) -> None:
        await self._run(index, "answer", "finished")

    async def call(self, index: int) -> None:
        await self._run(index, "call", "finished")

    async def refusal(self, index: int) -> None:
        await self._run(index, "refusal", "failed")

    async def cut(self, index: int) -> None:
        await self._run(index, "cut", "failed")

    async def stop(self, index: int) -> None:
        """A run that would never end, and one that waits behind it."""
        conv_id = f"{_conv(index)}-stop-{index}"
        first = await self._say(conv_id, "hang")
        second = await self._say(conv_id, "hang")
        for run_id in (second, first):
            await self._post(f"webchat/conversations/{conv_id}/stop", {"run_id": run_id})
        await self._until(conv_id, first, "stopped")

    async def row(self, index: int) -> None:
        """A row of a person's own kind."""
        conversation = f"webchat/conversations/{_conv(index)}"
        await self._post(f"{conversation}/events", {"kind": "note", "props": {"n": index}})

    async def notebook(self, conv_id: str) -> None:
        """A notebook that brings texts, and whose kernel then ends."""
        kernel = (await self._post("api/kernels", {}))["id"]
        body = {"kernel_id": kernel, "contexts": [{"name": "continent", "text": _CONTINENT}]}
        (await self.client.put(f"webchat/conversations/{conv_id}/tools", json=body)).raise_for_status()
        (await self.client.delete(f"api/kernels/{kernel}")).raise_for_status()

    # -- parts ---------------------------------------------------------------------------------------

    async def _run(self, index: int, prompt: str, end: str) -> None:
        conv_id = _conv(index)
        await self._until(conv_id, await self._say(conv_id, prompt), end)

    async def _say(self, conv_id: str, prompt: str) -> str:
        return str((await self._post("webchat/chat", {"prompt": prompt, "conv_id": conv_id}))["run_id"])

    async def _until(self, conv_id: str, run_id: str, end: str) -> None:
        status = ""
        while status not in ("finished", "failed", "stopped"):
            rows = (await self.client.get("webchat/timeline", params={"conv_id": conv_id})).json()
            status = next((row["props"]["status"] for row in rows if row["id"] == run_id), "")
            await asyncio.sleep(0.02)
        if status != end:
            self.faults.append(f"the run {run_id} of {conv_id} is {status}, not {end}")

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        reply = await self.client.post(path, json=body)
        reply.raise_for_status()
        return reply.json()

    def _hang_up_after(self, said: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._server.port)) as line:
            line.sendall(said)


def _conv(index: int) -> str:
    return f"flat-{index // _CONVERSATIONS}"


def _answer(request: Request) -> Reply:
    """What the model says to a prompt of ours."""
    match request.prompt:
        case "call" if request.body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[{"name": "calculate", "arguments": {"expression": "6 * 7"}}])
        case "refusal":
            return Reply(status=400)
        case "cut":
            return Reply("one two three four", fault="cut")
        case "hang":
            return Reply("one two three four", fault="stall")
    return Reply("a few words of an answer", reasoning="let me think")


async def _at_rest(server: Jupyter, first: Counts | None, patience: float) -> Counts:
    """What there is once nothing changes any more; where there is more than at first, some time later."""
    end = time.monotonic() + patience
    before: Counts = {}
    while True:
        now = await _look(server)
        quiet = now == before and not now.get("Conversation objects")
        if (quiet and not (first and _differs(first, now))) or time.monotonic() > end:
            process = psutil.Process(server.pid)
            return now | {"rss": process.memory_info().rss}
        before = now
        await asyncio.sleep(0.5)


async def _look(server: Jupyter) -> Counts:
    file = server.folder / "config" / GAUGE
    file.unlink(missing_ok=True)
    os.kill(server.pid, signal.SIGUSR2)
    async with asyncio.timeout(60):
        while not file.exists():
            await asyncio.sleep(0.01)
    counts: Counts = json.loads(file.read_text())
    process = psutil.Process(server.pid)
    return counts | {"descriptors": process.num_fds(), "threads": process.num_threads()}


def _differs(first: Counts, last: Counts) -> list[str]:
    return [
        f"{last.get(name, 0)} {name} at rest, {count} after a fifth of it"
        for name, count in ({name: 0 for name in last} | first).items()
        if name != "rss" and last.get(name, 0) - count > _SPARE.get(name, _OBJECTS)
    ]


def _grown(looks: list[Counts], n: int) -> list[str]:
    """What there is more of in the end than after the first slice."""
    first, last = looks[0], looks[-1]
    found = _differs(first, last)
    found += [f"{last[name]} {name} are live" for name in ("Conversation objects",) if last.get(name)]
    middle, units = looks[len(looks) // 2], n * (_SLICES - 1 - _SLICES // 2) // _SLICES
    if last["rss"] - middle["rss"] > _BYTES_PER_UNIT * units + _NOISE:
        found.append(f"{last['rss'] - middle['rss']:,} more bytes after {units} more")
    return found
