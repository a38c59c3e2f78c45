"""Run all benchmarks and print a line each: medians of 5 in one run, against a baseline of the same run."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.openai_protocol import Reply

RUNS = 5
TOKENS = 2000
CHUNKS = tuple(f"tok{number % 10} " for number in range(TOKENS))


@dataclass
class Streamed:
    """One prompt to its end, as its reader saw it."""

    cpu_ns: int
    socket_bytes: int
    text_bytes: int
    frames: int


def main() -> None:
    """All figures."""
    with ModelServer(answer=lambda _: Reply(chunks=CHUNKS)) as model:
        sdk = [spent / tokens / 1000 for spent, tokens in _sdk_loop(model.url)]
        with _webchat(model.url) as server:
            ours = asyncio.run(_stream(server))
    tokens = [run.cpu_ns / TOKENS / 1000 for run in ours]
    _say("server CPU per token, µs", tokens, "the SDK's loop", sdk, goal=0.35)
    wire = [float(run.socket_bytes) for run in ours]
    _say("bytes on the socket", wire, "the text", [float(run.text_bytes) for run in ours])
    print(f"frames on the socket: {statistics.median(run.frames for run in ours):.0f} for {TOKENS} tokens")
    package, anywidget = _imports("import webchat_widget"), _imports("import anywidget")
    _say("import webchat_widget, ms", package, "import anywidget", anywidget, goal=1.2)
    widget = _imports("from webchat_widget import ChatWidget")
    _say("import ChatWidget, ms", widget, "import anywidget", anywidget, goal=1.2)


def _say(
    name: str, values: list[float], baseline_name: str, baseline: list[float], goal: float | None = None
) -> None:
    ours, theirs = statistics.median(values), statistics.median(baseline)
    aim = "" if goal is None else f" (goal ≤ {goal}x)"
    spread = f"{min(values):.1f} to {max(values):.1f}"
    print(
        f"{name}: {ours:.1f} ({spread}); {baseline_name}: {theirs:.1f}; {ours / theirs:.2f}x{aim}", flush=True
    )


def _sdk_loop(url: str) -> Iterator[tuple[int, int]]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.sdk_loop", url, str(RUNS)],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in ran.stdout.splitlines():
        spent, tokens = line.split()
        yield int(spent), int(tokens)


def _imports(statement: str) -> list[float]:
    code = f"import time; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1000)"
    times = []
    for _ in range(RUNS + 1):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append(float(ran.stdout))
    return times[1:]


@contextmanager
def _webchat(model_url: str) -> Iterator[Jupyter]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Jupyter(Path(folder), command="webchat", env={"OPENAI_BASE_URL": model_url}) as server,
    ):
        yield server


async def _stream(server: Jupyter) -> list[Streamed]:
    """One warm-up, which imports the SDK, then the runs that count; each in a conversation of its own."""
    runs = [await _one(server, f"bench-{number}") for number in range(RUNS + 1)]
    return runs[1:]


async def _one(server: Jupyter, conv_id: str) -> Streamed:
    headers = {"Authorization": f"token {server.token}"}
    address = server.url("webchat/ws").replace("http", "ws", 1)
    query = urlencode({"conv_id": conv_id, "deltas": "append"})
    socket = await websocket_connect(HTTPRequest(f"{address}?{query}", headers=headers))
    await socket.read_message()  # ws.hello
    before = server.cpu_ns()
    await asyncio.to_thread(server.post_json, "webchat/chat", {"prompt": "go", "conv_id": conv_id})
    size = frames = 0
    text: list[str] = []
    while True:
        message = await socket.read_message()
        assert isinstance(message, str), "the socket was closed"
        size += len(message.encode())
        frames += 1
        event = json.loads(message)["event"]
        if event["type"] == "llm.delta":
            text.append(event["data"]["delta"])
        if event["type"].startswith("run.") and event["type"] != "run.started":
            break
    assert event["type"] == "run.finished", event
    assert "".join(text) == "".join(CHUNKS)
    spent = server.cpu_ns() - before
    socket.close()
    return Streamed(spent, size, len("".join(text).encode()), frames)


if __name__ == "__main__":
    main()
