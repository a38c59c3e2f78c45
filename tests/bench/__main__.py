"""Run all benchmarks and print a line each: medians of 5 in one run, against a baseline of the same run."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.bench import memory, tools
from tests.bench.durability import acknowledgements, projections
from tests.bench.kernel import Kernel, running_kernel
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.openai_protocol import Reply

RUNS = 5
TOKENS = 2000
CHUNKS = tuple(f"tok{number % 10} " for number in range(TOKENS))
TOOLS = [
    {"name": f"tool_{number}", "description": "A tool.", "parameters": {"type": "object"}}
    for number in range(20)
]


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
        with tempfile.TemporaryDirectory() as folder, running_kernel(model.url, Path(folder)) as kernel:
            hosted = [_in_kernel(kernel) for _ in range(RUNS + 1)][1:]
            state = kernel.state
    thinking = Reply(reasoning="".join(CHUNKS), chunks=CHUNKS)
    with ModelServer(answer=lambda _: thinking) as model, _webchat(model.url) as server:
        thoughtful = asyncio.run(_stream(server, with_tools=True))
    with (
        ModelServer(answer=lambda _: Reply(chunks=CHUNKS, delay=0.005)) as model,
        tempfile.TemporaryDirectory() as folder,
        running_kernel(model.url, Path(folder)) as kernel,
    ):
        steady = _in_kernel(kernel)
        latencies = _while_a_cell_runs(kernel)
    tokens = [run.cpu_ns / TOKENS / 1000 for run in ours]
    _say("server CPU per token, µs", tokens, "the SDK's loop", sdk, goal=0.35)
    tokens = [run.cpu_ns / (2 * TOKENS) / 1000 for run in thoughtful]
    _say(
        "the same with 20 tools and as many tokens of thinking, µs", tokens, "the SDK's loop", sdk, goal=0.35
    )
    wire = [float(run.socket_bytes) for run in ours]
    _say("bytes on the socket", wire, "the text", [float(run.text_bytes) for run in ours])
    print(f"frames on the socket: {statistics.median(run.frames for run in ours):.0f} for {TOKENS} tokens")
    tokens = [run.cpu_ns / TOKENS / 1000 for run in hosted]
    _say("kernel CPU per token, µs", tokens, "the SDK's loop", sdk, goal=0.5)
    print(
        f"comm: {statistics.median(run.messages for run in hosted):.0f} messages for a burst of {TOKENS} "
        f"tokens; {steady.messages / steady.seconds:.1f} a second while {TOKENS / steady.seconds:.0f} tokens "
        "a second come (goal ≤ 30)"
    )
    for name, values in latencies.items():
        print(f"{name}: {statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})")
    with tempfile.TemporaryDirectory() as folder:
        bare, *ways = asyncio.run(tools.latencies(Path(folder))).items()
    for name, values in ways:
        _say(f"tool in a kernel: {name}, ms", values, *bare)
    _durability()
    _memory()
    bundle = state["_esm"] + state["_css"]
    print(f"synced widget state: {sum(state.values()):,} bytes, of which {bundle:,} are the front-end")
    package, anywidget = _imports("import webchat_widget"), _imports("import anywidget")
    _say("import webchat_widget, ms", package, "import anywidget", anywidget, goal=1.2)
    widget = _imports("from webchat_widget import ChatWidget")
    _say("import ChatWidget, ms", widget, "import anywidget", anywidget, goal=1.2)


def _durability() -> None:
    with ModelServer() as model, _webchat(model.url) as server:
        bare, *ways = acknowledgements(server, RUNS).items()
    for name, values in ways:
        _say(f"to the answer of {name}, ms", values, *bare)
    with tempfile.TemporaryDirectory() as folder:
        naive, *ours = projections(Path(folder), CHUNKS, RUNS).items()
    for name, values in ours:
        _say(f"CPU of a token's way to the disk, {name}, µs", values, *naive, goal=0.05)


def _memory() -> None:
    size = sum(map(len, memory.ANSWER)) / 1e6
    for how, traced in (("of the process", False), ("allocated by Python", True)):
        alone, five = (
            [memory.stalled(readers, traced=traced) / 1e6 for _ in range(1 if traced else RUNS)]
            for readers in (0, 5)
        )
        each = (statistics.median(five) - statistics.median(alone)) / 5
        print(
            f"MB {how} at its height, {size:.0f} MB of answer, 5 readers that take nothing: "
            f"{statistics.median(five):.0f}; none: {statistics.median(alone):.0f}; {each:.1f} for each"
        )
    for how, conversations, traced in (("of the process", 1000, False), ("allocated by Python", 100, True)):
        held = memory.idle(conversations, traced=traced)
        print(
            f"kB {how} for each of {conversations:,} idle conversations with {memory.ROWS} rows: "
            f"{held['idle'] / 1000:.1f} (goal ≤ 50); when they were let go: {held['evicted'] / 1000:.1f}"
        )


@dataclass
class Hosted:
    """One prompt to its end in a kernel, as a page saw it."""

    cpu_ns: int
    messages: int
    seconds: float


def _in_kernel(kernel: Kernel) -> Hosted:
    opened = kernel.ask("open", {"conv_id": "bench"})
    kernel.reply(opened)
    kernel.wait_quiet()
    before, began = kernel.cpu_ns(), time.perf_counter()
    kernel.ask("chat", {"prompt": "go", "conv_id": "bench"})
    messages = 0
    text: list[str] = []
    for message in kernel.heard():
        messages += 1
        events = [frame["event"] for frame in message.get("frames", ())]
        text += [event["data"]["delta"] for event in events if event["type"] == "llm.delta"]
        if any(event["type"] == "run.finished" for event in events):
            break
    seconds = time.perf_counter() - began
    spent = kernel.cpu_ns() - before
    assert "".join(text) == "".join(CHUNKS)
    kernel.reply(kernel.ask("close", {"stream": opened}))
    return Hosted(spent, messages, seconds)


def _while_a_cell_runs(kernel: Kernel) -> dict[str, list[float]]:
    """Milliseconds from a prompt to its acceptance and to the first word, while a cell sleeps."""
    subshell = kernel.subshell()
    opened = kernel.ask("open", {"conv_id": "bench"}, subshell)
    kernel.reply(opened)
    kernel.begin("import time\nfor _ in range(600): time.sleep(0.1)")
    accepted, first = [], []
    for _ in range(RUNS):
        began = time.perf_counter()
        asked = kernel.ask("chat", {"prompt": "go", "conv_id": "bench"}, subshell)
        stop = ""
        for message in kernel.heard():
            spent = (time.perf_counter() - began) * 1000
            types = {frame["event"]["type"] for frame in message.get("frames", ())}
            if message.get("rid") == asked:
                accepted.append(spent)
            if "llm.delta" in types and not stop:
                first.append(spent)
                stop = kernel.ask("stop", {"conv_id": "bench"}, subshell)
            if "run.stopped" in types:
                break
    return {"a prompt while a cell runs, accepted after": accepted, "its first word after": first}


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


async def _stream(server: Jupyter, *, with_tools: bool = False) -> list[Streamed]:
    """One warm-up, which imports the SDK, then the runs that count; each in a conversation of its own."""
    names = [f"bench-{number}" for number in range(RUNS + 1)]
    if with_tools:
        kernel = await asyncio.to_thread(server.post_json, "api/kernels", {})
        offer = {"kernel_id": kernel["id"], "tools": TOOLS}
        for name in names:
            await asyncio.to_thread(server.put_json, f"webchat/conversations/{name}/tools", offer)
    return [await _one(server, name) for name in names][1:]


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
