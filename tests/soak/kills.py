"""A server that is killed again and again, while it is used: nothing is lost, doubled, or stuck."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed

from tests.soak.aftermath import Aftermath, Death
from tests.soak.burst import Burst
from tests.soak.child import Child, Died
from tests.soak.kernels import KernelCase
from tests.soak.points import POINTS, arm, disarm, points, replace, tools
from tests.soak.talk import Talker
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = [
    "HARNESS",
    "checkpoint_not_stored",
    "cut_runs_left_open",
    "points",
    "queue_turned_round",
    "reply_before_commit",
    "tool_called_again",
    "tools",
]

_BURST_SECONDS = 1.5
_LANES = 2
_PASSINGS = {"mid_delta": 40, "mid_tool": 3, "mid_stop": 2}
_KERNEL = 10
"""So many kills have one among them that is of a kernel; plants are bugs of a server."""
_CONFIG = {"WebChat": {"profiles": [{"slug": "default", "tools": ["note", "note_if_allowed"]}]}}


class Kills:
    """Each kill has a seed of its own, from the harness's upwards, and can be had alone: `--n 1 --seed S`."""

    name, unit, quick, long = "kills", "kills", 6, 1000
    plants: Mapping[str, int] = {
        "reply_before_commit": 8,
        "queue_turned_round": 8,
        "cut_runs_left_open": 8,
        "tool_called_again": 12,
        "checkpoint_not_stored": 8,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """Two servers side by side, each killed every other time."""
        cases = iter(range(seed, seed + n))
        lanes = [Lane(folder / f"lane{lane}", plant) for lane in range(min(n, _LANES))]

        failures: list[str] = []

        async def work(lane: Lane) -> None:
            with lane.talker.server:
                try:
                    for case in cases:
                        kernel = case % _KERNEL == _KERNEL - 1 and not plant
                        failures.extend(await (lane.kernel(case) if kernel else lane.case(case)))
                        if plant and failures:
                            return
                    if not failures:  # or what is open may be for that reason
                        failures.extend(await lane.end())
                finally:
                    lane.kill()

        await asyncio.gather(*map(work, lanes))
        if not plant:
            print(
                f"{self.name}: {max(lane.closed_seconds for lane in lanes):.2f} s at most from the first "
                "answer until nothing that was cut was streaming; text of at most "
                f"{max(lane.lost_seconds for lane in lanes):.2f} s was lost"
            )
        return failures


class Lane:
    """A server that dies over and over, and its model."""

    def __init__(self, folder: Path, plant: str | None) -> None:
        self.talker = Talker()
        self.folder = folder
        self._plants = ["points", "tools", *filter(None, [plant])]
        self._child: Child | None = None
        self.closed_seconds = 0.0
        self.lost_seconds = 0.0

    async def case(self, seed: int) -> list[str]:
        """One burst, one death or two, and what is wrong then."""
        if self._child is None:
            self._child = Child(
                self.folder, "kills", *self._plants, model=self.talker.server.url, config=_CONFIG
            )
            await self._child.start()
        child, chance = self._child, random.Random(f"{seed} death")
        point = POINTS[seed // 2 % len(POINTS)] if seed % 2 else "any time"
        self.talker.forget()
        self.talker.hurry.clear()
        burst = Burst(child, seed)
        await burst.begin()
        nth = chance.randint(1, _PASSINGS.get(point, 6))
        if point not in ("any time", "mid_recovery"):
            arm(child.work, seed, point, nth)
            await child.gone(_BURST_SECONDS)
        else:
            await asyncio.sleep(chance.uniform(0, _BURST_SECONDS))
        child.kill()
        deaths = [Death.now(disarm(child.work))]
        await burst.end()
        self.talker.hurry.set()
        if point == "mid_recovery":
            arm(child.work, seed, point, nth)
        wrong = await self._come_back(burst, deaths)
        head = f"seed {seed}, killed at {point} ({nth})"
        return [f"{head}: {each}\n    {'; '.join(burst.steps)}" for each in wrong]

    async def kernel(self, seed: int) -> list[str]:
        """One death of a kernel that is the host, and what is wrong then."""
        self.talker.forget()
        self.talker.hurry.clear()
        case = KernelCase(self.folder / f"kernel{seed}", self.talker, seed)
        wrong = await asyncio.to_thread(case.run)
        self.closed_seconds = max(self.closed_seconds, case.closed_seconds)
        self.lost_seconds = max(self.lost_seconds, case.lost_seconds)
        return [f"seed {seed}, a kernel: {each}\n    {'; '.join(case.steps)}" for each in wrong]

    async def _come_back(self, burst: Burst, deaths: list[Death]) -> list[str]:
        """Start it, once more where it dies at that, and look at what is there."""
        child = burst.child
        while True:
            try:
                answered = await child.start()
                if len(deaths) == 1 and await child.gone(0.1):
                    raise Died
            except Died:
                if len(deaths) > 1:
                    return ["the server does not start any more"]
                child.kill()
                deaths.append(Death.now(disarm(child.work)))
                continue
            disarm(child.work)
            async with child.client() as client:
                aftermath = Aftermath(burst, self.talker, deaths, client)
                try:
                    wrong = await aftermath.look(answered)
                except Exception:  # rows that can't be read, or a server that is gone again
                    wrong = [*aftermath.wrong, traceback.format_exc()]
            self.closed_seconds = max(self.closed_seconds, aftermath.closed_seconds)
            self.lost_seconds = max(self.lost_seconds, aftermath.lost_seconds)
            return wrong

    def kill(self) -> None:
        """Let nothing live on."""
        if self._child is not None:
            self._child.kill()

    async def end(self) -> list[str]:
        """Stop it politely; what is wrong with its file."""
        if self._child is None:
            return []
        status, file = await self._child.stop(), self._child.timeline_db
        wrong = [] if status == 0 else [f"the server ended with {status}"]
        wrong += [str(breach) for breach in verify(file).breaches]
        with sqlite3.connect(file) as db:
            wrong += [f"left unfinished: {run}" for run in db.execute("SELECT * FROM runs")]
            wrong += [
                f"{count} messages {prompt!r}"
                for prompt, count in db.execute(
                    "SELECT json_extract(props, '$.content') AS said, count(*) FROM entities "
                    "WHERE json_extract(props, '$.role') = 'user' GROUP BY said HAVING count(*) > 1"
                )
            ]
        db.close()
        return [f"{self.folder.name}: {each}" for each in wrong]


HARNESS = Kills()


# -- plants -------------------------------------------------------------------------------------------


def reply_before_commit() -> None:
    """A prompt is acknowledged at once, by a host whose disk takes its time."""
    from webchat_widget.runtime.coordinator import StreamCoordinator

    emit = StreamCoordinator.emit

    def early(self: Any, *events: Any, **parts: Any) -> Any:
        if not parts.get("undo"):
            return emit(self, *events, **parts)
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, lambda: asyncio.ensure_future(emit(self, *events, **parts)))
        done = loop.create_future()
        done.set_result(None)
        return done

    replace(StreamCoordinator, "emit", early)


def checkpoint_not_stored() -> None:
    """Where a run stands is not in the transaction of what it says."""
    _write_without(checkpoints=())


def queue_turned_round() -> None:
    """Those that waited go on from the last."""
    from webchat_widget.runtime.conversation import Conversation

    recover = Conversation.recover

    async def turned(self: Any) -> None:
        self._pending = self._pending[::-1]
        await recover(self)

    replace(Conversation, "recover", turned)


def cut_runs_left_open() -> None:
    """What had begun is left as it is."""
    from webchat_widget.runtime.conversation import Conversation

    recover = Conversation.recover

    async def without(self: Any) -> None:
        self._pending = [run for run in self._pending if not run.started]
        await recover(self)

    replace(Conversation, "recover", without)


def tool_called_again() -> None:
    """A call that had begun counts as one that has not."""
    from webchat_widget.tools import calls
    from webchat_widget.tools.checkpoint import Checkpoint

    restored = calls._restored

    def anew(call: Any, timeline: Any) -> Any:
        found = restored(call, timeline)
        if found.stage == "running":
            found.stage = "new"
        return found

    replace(calls, "_restored", anew)
    replace(Checkpoint, "waits", lambda self, timeline: True)


def _write_without(**parts: Any) -> None:
    from webchat_widget.timeline.sqlite import statements

    write = statements.write
    replace(statements, "write", lambda db, batch: write(db, changed(batch, **parts)))
