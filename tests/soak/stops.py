"""Stop at random instants: of a model that has not begun, that writes, that thinks, of tools, of a queue.

Real servers, in both styles of the API, on a disk that takes its time; ten conversations at once. What runs
there is stopped, once or twice, by who sees it or by another; from the answer on nothing of it may change.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jupyter_core.utils import ensure_event_loop

from tests.soak.child import Forked
from tests.soak.plants import sow
from tests.soak.stop_plants import (
    TOOLS,
    deaf_tools,
    ground,
    late_delta,
    open_connection,
    open_tool,
    queue_ignored,
    unsaved_end,
)
from tests.soak.stop_scenes import Broken, Talk
from tests.soak.stop_states import IN_A_KERNEL, STATES, WAYS, Scene, State
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.notebook import Notebook
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = [
    "HARNESS",
    "deaf_tools",
    "ground",
    "late_delta",
    "open_connection",
    "open_tool",
    "queue_ignored",
    "unsaved_end",
]

_STATES = len(STATES)
_AT_ONCE = 10
_IN_ONE = 4
"""Stops in one conversation: each has to leave behind what the next can build on."""
_NEVER_SAID = ("Traceback (most recent", "was never", "Task was destroyed", "although it was stopped")
"""What a server's log must not hold, for nobody reads it in time."""


_NOTEBOOK = """
@tool(approval="never")
def keep_at_it(mark: str) -> None:
    "Keep the main thread busy until told to end."
    open(f"{mark}.begun", "w").close()
    try:
        while True:
            time.sleep(0.01)
    finally:
        open(f"{mark}.ended", "w").close()
"""


class Stops:
    """A harness: see `Harness`."""

    name, unit, quick, long = "stops", "stops", 2 * (_STATES + 1), 1000
    at_once = 3
    plants: Mapping[str, int] = {
        "late_delta": _STATES,
        "open_connection": _STATES,
        "unsaved_end": _STATES,
        "queue_ignored": _STATES,
        "open_tool": _STATES,
        "deaf_tools": _STATES,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """Two servers, one for each style of the API; one where a bug is planted."""
        if plant is not None:
            return await _on_a_server("chat", list(_cases(n, seed, STATES, 1)), folder / "chat", plant)
        cases = list(_cases(n, seed, (*STATES, IN_A_KERNEL), _IN_ONE))
        halves = (("chat", cases[::2]), ("responses", cases[1::2]))
        ran = [_on_a_server(api, half, folder / api, None) for api, half in halves if half]
        return [failure for failures in await asyncio.gather(*ran) for failure in failures]


HARNESS = Stops()


def _cases(n: int, seed: int, among: Sequence[State], in_one: int) -> Iterator[tuple[str, list[Scene]]]:
    """Conversations with their stops. All states come before one comes again, in an order by the seed."""
    deal = random.Random(seed)
    states = [state for _ in range(-(-n // len(among))) for state in deal.sample(among, len(among))]
    for first in range(0, n, in_one):
        name = f"stops-{seed}-{first // in_one}"
        rng = random.Random(name)
        yield name, [Scene(state, rng.choice(WAYS), rng) for state in states[first : min(first + in_one, n)]]


async def _on_a_server(
    api: str, cases: list[tuple[str, list[Scene]]], folder: Path, plant: str | None
) -> list[str]:
    """What broke in these conversations, in their server's log, or in its file at the end."""
    (folder / "marks").mkdir(parents=True)
    sow(folder / "config", "stops", "ground", *filter(None, [plant]))
    with ModelServer() as model:
        server = Forked(folder, model=model.url, env={"WEBCHAT_API": api})
        server.configure({"WebChat": {"profiles": [{"slug": "default", "tools": list(TOOLS)}]}})
        try:
            await asyncio.to_thread(server.start)
            convs = [name for name, scenes in cases if any(scene.state is IN_A_KERNEL for scene in scenes)]
            if convs:
                await asyncio.to_thread(_begin_a_notebook, server, convs)
            async with Talk(server, model) as talk:
                failures = await _held(talk, cases, first_only=plant is not None)
            if not failures:  # nothing that was stopped keeps it from ending
                await asyncio.to_thread(server.terminate)
        finally:
            if server in Jupyter.live:
                server.kill()
            server.stop()  # its kernels
    if plant is None:
        print(f"stops: the slowest of {talk.count} answers ({api}) took {talk.slowest:.2f} s")
    said = server.log_text()
    failures += [f"{api}: the server's log says {words!r}" for words in _NEVER_SAID if words in said]
    failures += [f"{api}: {breach}" for breach in verify(server.timeline_db).breaches]
    return failures


def _begin_a_notebook(server: Jupyter, convs: list[str]) -> None:
    """A notebook whose tool these conversations have; its kernel ends with the server."""
    notebook = Notebook(server)
    notebook.run(_NOTEBOOK)
    notebook.run(f"for conv in {convs!r}:\n    register(conv, keep_at_it)")
    notebook.close()
    ensure_event_loop().close()  # its client made one for this thread


async def _held(talk: Talk, cases: list[tuple[str, list[Scene]]], *, first_only: bool) -> list[str]:
    """Hold the conversations, so many at once; what broke in them."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def hold(name: str, scenes: list[Scene]) -> None:
        async with slots:
            await talk.conversation(name, scenes)

    tasks = [asyncio.create_task(hold(name, scenes), name=name) for name, scenes in cases]
    done, pending = await asyncio.wait(
        tasks, return_when=asyncio.FIRST_EXCEPTION if first_only else asyncio.ALL_COMPLETED
    )
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    broken = [error for task in done if (error := task.exception()) is not None]
    for error in broken:
        if not isinstance(error, Broken):
            raise error
    return [str(error) for error in broken]
