"""Readers that stall, read a byte a second, or vanish: nobody else notices, they are let go of, and what they
cost is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.soak.child import Forked
from tests.soak.flow import Watcher, flow, quantile
from tests.soak.plants import sow
from tests.soak.reader_plants import hasty, immortal, narrow, publish_awaits, unbounded, unnoticed
from tests.support.jupyter import Jupyter
from tests.support.raw_socket import RawSocket
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = ["HARNESS", "hasty", "immortal", "narrow", "publish_awaits", "unbounded", "unnoticed"]

_HEALTHY = 20
_STUCK = ("append", "cumulative", "a byte a second", "gone")
_FACTOR, _SLACK = 1.5, 0.03
"""Beside stuck readers the others may wait so many times as long, and so many seconds longer: the machine has
other things to do as well."""
_NOTICED = 2.4
"""Seconds in which a stuck reader has been let go of: it is behind after one, and stalled after another."""
_MEMORY = 16 * 2**20
"""Bytes that a process may grow by for no reason."""
_COPIES = 4
"""How often a stuck reader may have the text in memory: what waits, what is on its way, what is encoded."""
_TOO_SLOW, _SILENT = (4408, "too slow"), (4408, "silent")


@dataclass
class Measured:
    """What answers looked like from outside."""

    late: list[float] = field(default_factory=list)
    """Seconds from the model to a healthy reader, of each chunk."""
    grown: int = 0
    """Bytes by which the server grew at most while it answered."""

    def add(self, other: Measured) -> None:
        self.late += other.late
        self.grown = max(self.grown, other.grown)

    def __str__(self) -> str:
        p50, p99 = (1000 * quantile(self.late, q) for q in (0.5, 0.99))
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {self.grown / 2**20:.1f} MB more"


class Readers:
    """A harness: see `Harness`. Each round: an answer to twenty readers, one beside four that are stuck, and
    one that is too large for an outbox."""

    name, unit, quick, long = "readers", "rounds", 1, 20
    at_once = 4
    plants: Mapping[str, int] = {"unbounded": 1, "publish_awaits": 1, "unnoticed": 1, "immortal": 1}

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        size, seconds = (10_000_000, 20.0) if n >= self.long else (1_000_000, 3.0)
        faults: list[str] = []
        async with flow() as address:
            if plant != "unbounded":
                with _server(folder / "hasty", address, "hasty", plant) as server:
                    faults += await _beside(server, n, size, seconds)
                faults += _breaches(server)
            if plant in (None, "unbounded"):
                with _server(folder / "narrow", address, "narrow", plant) as server:
                    for index in range(n):
                        faults += await _flooded(server, f"flooded-{index}")
                faults += _breaches(server)
        return faults


HARNESS = Readers()


async def _beside(server: Jupyter, n: int, size: int, seconds: float) -> list[str]:
    """The same answers without and with readers that are stuck."""
    faults: list[str] = []
    calm, beside = Measured(), Measured()
    for index in range(n):
        async with _answer(server, f"calm-{index}", size, seconds) as answer:
            pass
        faults += answer.faults
        calm.add(answer.measured)
        async with _answer(server, f"beside-{index}", size, seconds, _STUCK) as answer:
            await answer.let_go(_NOTICED)
        faults += answer.faults
        beside.add(answer.measured)
    print(f"readers: alone {calm}; beside stuck ones {beside}")
    for q in (0.5, 0.99):
        before, after = quantile(calm.late, q), quantile(beside.late, q)
        if after > _FACTOR * before + _SLACK:
            faults.append(f"chunks came {before:.3f} s late, beside stuck readers {after:.3f} s (q {q})")
    most = len(_STUCK) * _COPIES * size + _MEMORY
    if beside.grown - calm.grown > most:
        faults.append(f"stuck readers cost {beside.grown - calm.grown:,} bytes, more than {most:,}")
    return faults


async def _flooded(server: Jupyter, conv_id: str) -> list[str]:
    """A reader for whom more waits than may is let go of, however short a time it has stood still."""
    async with _answer(server, conv_id, 1_000_000, 1.0, ("append", "cumulative")) as answer:
        await answer.ended()
        await answer.let_go(0)
    return answer.faults


class Answer:
    """An answer that is under way, its readers, and what is wrong with them."""

    def __init__(self, server: Jupyter, conv_id: str, size: int, seconds: float) -> None:
        self._server = server
        self._conv_id = conv_id
        self._size = size
        self._seconds = seconds
        self.watchers: list[Watcher] = []
        self.stuck: dict[str, RawSocket] = {}
        self.gone: asyncio.Future[tuple[int, str]] | None = None
        self.measured = Measured()
        self.faults: list[str] = []

    async def begin(self, stuck: tuple[str, ...]) -> None:
        """Have the readers join, and send the prompt."""
        self.watchers = [await Watcher().join(self._server, self._conv_id) for _ in range(_HEALTHY)]
        for kind in stuck:
            form = "cumulative" if kind == "cumulative" else "append"
            # A page that is gone is in another country: what is sent to it vanishes, until somebody wonders.
            self.stuck[kind] = RawSocket(
                self._server,
                buffer=None if kind == "gone" else 4096,
                conv_id=self._conv_id,
                deltas=form,
            )
        if "gone" in stuck:
            self.gone = asyncio.ensure_future(asyncio.to_thread(self._verdict, "gone", 10))
        self._begun = time.monotonic()
        body = {"prompt": f"{self._size} {self._seconds}", "conv_id": self._conv_id}
        await asyncio.to_thread(self._server.post_json, "webchat/chat", body)

    async def let_go(self, after: float) -> None:
        """After so many seconds those who are stuck have been let go of; they come back, and see it all."""
        while (left := self._begun + after - time.monotonic()) > 0:
            if "a byte a second" in self.stuck:
                self.stuck["a byte a second"].take(1)
            await asyncio.sleep(min(1.0, left))
        kinds = [kind for kind in self.stuck if kind != "gone"]
        told = await asyncio.gather(*(asyncio.to_thread(self._verdict, kind, 2) for kind in kinds))
        for kind, said in zip(kinds, told, strict=True):
            self._expect(said == _TOO_SLOW, f"the reader that is stuck ({kind}) was told {said}")
            self.watchers.append(await Watcher().join(self._server, self._conv_id))
            rows = await asyncio.to_thread(self._server.timeline, self._conv_id)
            self.watchers[-1].know(_text(rows))

    async def ended(self) -> None:
        """Wait for the end of the run at every healthy reader."""
        async with asyncio.timeout(60 + 5 * self._seconds):
            for watcher in self.watchers[:_HEALTHY]:
                await watcher.ended.wait()

    async def end(self) -> None:
        """Look at what every reader has in the end."""
        await self.ended()
        if self.gone is not None:
            said = await self.gone
            self._expect(said == _SILENT, f"the reader that is gone was told {said}")
        rows = await asyncio.to_thread(self._server.timeline, self._conv_id)
        text = _text(rows)
        self._expect(len(text) == self._size // 2000 * 2000, f"the answer has {len(text):,} characters")
        for index, watcher in enumerate(self.watchers):
            who = "a healthy reader" if index < _HEALTHY else "a reader that came back"
            self._expect(watcher.text == text, f"{who} has {len(watcher.text):,} of {len(text):,} characters")
            if index < _HEALTHY:
                self.measured.late += watcher.late

    async def close(self) -> None:
        """Hang up everywhere."""
        for stuck in self.stuck.values():
            stuck.close()
        await asyncio.gather(*(watcher.leave() for watcher in self.watchers))

    async def weigh(self) -> None:
        """Watch the server's memory until cancelled."""
        process = psutil.Process(self._server.pid)
        before = process.memory_info().rss
        while True:
            self.measured.grown = max(self.measured.grown, process.memory_info().rss - before)
            await asyncio.sleep(0.1)

    def _verdict(self, kind: str, seconds: float) -> tuple[int, str]:
        try:
            return self.stuck[kind].closing(seconds)
        except TimeoutError:
            return 0, "still open"

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults.append(f"{self._conv_id}: {what}")


@contextlib.asynccontextmanager
async def _answer(
    server: Jupyter, conv_id: str, size: int, seconds: float, stuck: tuple[str, ...] = ()
) -> AsyncIterator[Answer]:
    answer = Answer(server, conv_id, size, seconds)
    scales = asyncio.create_task(answer.weigh())
    try:
        await answer.begin(stuck)
        yield answer
        await answer.end()
    finally:
        scales.cancel()
        await answer.close()


@contextlib.contextmanager
def _server(folder: Path, address: str, kind: str, plant: str | None) -> Iterator[Jupyter]:
    server = Forked(folder, model=address, args=["--WebChat.max_text=100000000"])
    sow(folder / "config", "readers", kind, *([plant] if plant else []))
    with server:
        yield server


def _breaches(server: Jupyter) -> list[str]:
    return [f"{breach}" for breach in verify(server.timeline_db).breaches]


def _text(rows: list[dict[str, Any]]) -> str:
    """What the model has said so far."""
    said = [row["props"]["content"] for row in rows if row["props"].get("role") == "assistant"]
    return str(said[0]) if said else ""
