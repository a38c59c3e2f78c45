"""What it costs that nothing is lost: a prompt's answer, and text that streams to disk."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiosqlite

from tests.support.jupyter import Jupyter
from tests.support.waiting import until
from webchat_widget.events import TextDelta, TextEnded, TextStarted
from webchat_widget.runtime.coordinator import StreamCoordinator
from webchat_widget.runtime.environment import unix_ms
from webchat_widget.timeline.migrations import MIGRATIONS
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.statements import UPSERT_ROW

__all__ = ["acknowledgements", "projections"]

_POSTS = 20
_AT_ONCE = 16
_PAGE = b"\x55" * 4096
_STEP, _PACE = 20, 0.05
"""Tokens that come together, and seconds until the next: 400 a second."""


def acknowledgements(server: Jupyter, runs: int) -> dict[str, list[float]]:
    """Milliseconds from a prompt to its answer, each in a conversation of its own: medians of a run each.
    Before them what the disk needs, and what server and client need for a request that stores nothing."""
    pages = [_Client(server) for _ in range(_AT_ONCE)]
    measured: dict[str, list[float]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for run in range(-1, runs):  # one run to warm up

            def post(count: int, name: str, run: int = run) -> list[float]:
                names = [f"bench-{run}-{name}-{number}" for number in range(count)]
                spent = list(threads.map(_Client.post, pages, names))
                for each in names:
                    until(lambda each=each: _has_ended(server, each), f"the run of {each} ends", timeout=60)
                return spent

            found = {
                "a bare fdatasync of 4 kB": _appended(server.timeline_db.with_name("bare")),
                "GET health": [pages[0].get() for _ in range(_POSTS)],
                "a prompt": [ms for turn in range(_POSTS) for ms in post(1, f"one-{turn}")],
                f"{_AT_ONCE} prompts at once": [
                    ms for turn in range(4) for ms in post(_AT_ONCE, f"many-{turn}")
                ],
            }
            for name, spent in found.items():
                measured.setdefault(name, []).append(statistics.median(spent))
    for page in pages:
        page.close()
    return {name: spent[1:] for name, spent in measured.items()}


def _appended(path: Path) -> list[float]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    spent = []
    for _ in range(_POSTS):
        began = time.perf_counter()
        os.write(file, _PAGE)
        os.fdatasync(file)
        spent.append((time.perf_counter() - began) * 1000)
    os.close(file)
    return spent


def _has_ended(server: Jupyter, conv_id: str) -> bool:
    return any(row["kind"] == "run" and "stopReason" in row["props"] for row in server.timeline(conv_id))


class _Client:
    """A connection that is kept open, with as little around it as there can be."""

    def __init__(self, server: Jupyter) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._headers = {"Authorization": f"token {server.token}", "Content-Type": "application/json"}

    def get(self) -> float:
        return self._timed("GET", "/webchat/health", None)

    def post(self, conv_id: str) -> float:
        return self._timed("POST", "/webchat/chat", json.dumps({"prompt": "go", "conv_id": conv_id}))

    def close(self) -> None:
        self._line.close()

    def _timed(self, method: str, path: str, body: str | None) -> float:
        began = time.perf_counter()
        self._line.request(method, path, body, self._headers)
        answer = self._line.getresponse()
        said = answer.read()
        spent = (time.perf_counter() - began) * 1000
        assert answer.status == 200, said
        return spent


def projections(folder: Path, tokens: Sequence[str], runs: int) -> dict[str, list[float]]:
    """Microseconds of processor time per token of an answer that becomes a row on disk, threads counted and
    always with synchronous=FULL: with a transaction for each token, then as our coordinator does it."""
    pace = asyncio.run(_waited(tokens))
    measured: dict[str, list[float]] = {}
    for run in range(-1, runs):  # one run to warm up
        path = folder / f"{run}.sqlite"
        spent = {
            "a transaction per token": asyncio.run(_naive(path.with_suffix(".naive"), tokens)),
            "in a burst": asyncio.run(_coordinated(path.with_suffix(".burst"), tokens, 0)),
            f"at {_STEP / _PACE:.0f} a second": asyncio.run(_coordinated(path, tokens, _PACE)) - pace,
        }
        for name, nanoseconds in spent.items():
            measured.setdefault(name, []).append(nanoseconds / len(tokens) / 1000)
    return {name: found[1:] for name, found in measured.items()}


async def _waited(tokens: Sequence[str]) -> int:
    """What waking up costs, which is no part of what is measured."""
    began = time.process_time_ns()
    for _ in range(0, len(tokens), _STEP):
        await asyncio.sleep(_PACE)
    return time.process_time_ns() - began


async def _coordinated(path: Path, tokens: Sequence[str], pace: float) -> int:
    store = SQLiteStore(path)
    stream = StreamCoordinator("c", store, lambda frame: None, unix_ms, [], 0)
    await stream.emit(TextStarted(id="text", role="assistant"))  # opens the file
    began = time.process_time_ns()
    for first in range(0, len(tokens), _STEP):
        for token in tokens[first : first + _STEP]:
            stream.delta(TextDelta("text", "assistant", token))
        await asyncio.sleep(pace)
    await stream.emit(TextEnded(id="text", role="assistant", status="complete", text="".join(tokens)))
    spent = time.process_time_ns() - began
    stream.close()
    await store.close()
    return spent


async def _naive(path: Path, tokens: Sequence[str]) -> int:
    async with aiosqlite.connect(path) as db:
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = FULL")
        for step in MIGRATIONS:
            await db.executescript(step)
        began = time.process_time_ns()
        text = ""
        for version, token in enumerate(tokens, 1):
            text += token
            props = {"role": "assistant", "content": text, "streaming": version < len(tokens)}
            await db.execute(UPSERT_ROW, ("c", "text", "message", 1, version, json.dumps(props)))
            await db.commit()
        return time.process_time_ns() - began
