"""Schedules of one conversation, driven by plain seeds, and each played again to the page itself."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from tests.soak.line import Reader
from tests.soak.model import NOW_MS, World
from tests.soak.plants import ROOT, planted
from tests.soak.virtual import VirtualLoop
from webchat_widget.runtime import service
from webchat_widget.runtime.coordinator import StreamCoordinator
from webchat_widget.runtime.pool import Connection
from webchat_widget.sem import frames, text
from webchat_widget.sem.frames import Delta
from webchat_widget.timeline.pages import Page, page
from webchat_widget.timeline.projector import Projector
from webchat_widget.typing import Entity

__all__ = ["HARNESS", "HOST", "LINES", "SAID", "Step", "one", "play", "steps_of", "take"]

Step = tuple[str, int, int]
"""What happens, and two numbers that say what it is about."""

SAID = {"prompt": 5, "start": 2, "finish": 2, "text": 12, "end_text": 2, "call": 6, "log": 2, "mode": 1}
SAID |= {"phase": 4, "plan": 4, "pause": 1, "row": 3, "own": 4, "record": 1}
LINES = {"join": 2, "follow": 14, "deliver": 5, "ask": 4, "arrive": 4, "earlier": 3, "cut": 1, "stall": 1}
LINES |= {"unstall": 1, "lose": 2, "twice": 2, "late": 2, "ping": 1}
HOST = {"wait": 6, "fail": 2, "hold": 1, "release": 3, "crash": 1, "evict": 1, "clock": 1, "move": 1}
STEPS: Mapping[str, int] = {**SAID, **LINES, **HOST}
"""Each step, and how often it comes."""

_WAITS = (0.0, 0.001, 0.02, 0.1, 0.3, 3.0, 11.0)
_STALLED_SECONDS = 12.0
"""A reader that takes nothing for so long is hung up on."""
_CLOCKS = (-3_600_000, -5_000, 1, 60_000)
_PAGES = (400, 3, 2)
_BATCH = 1000
"""Schedules for one process of node."""
_IN_A_FILE = 10
"""Every so many schedules the disk has files, which takes more time."""
_LATEST_MS = (2**53 - 1) // 1000 - 10 * 365 * 86_400_000
"""When the numbers of ten more years are left."""


# -- one schedule ------------------------------------------------------------------------------------


def steps_of(seed: str, least: int = 5, most: int = 70) -> list[Step]:
    """The steps of a seed: a page is there from the beginning."""
    rng = random.Random(seed)
    names = rng.choices([*STEPS], [*STEPS.values()], k=rng.randint(least, most))
    numbers = lambda: (rng.randrange(60), rng.randrange(60))  # noqa: E731
    return [("join", *numbers()), *((name, *numbers()) for name in names)]


async def take(world: World, step: Step) -> None:
    """Do one step, and look at what must hold at any time."""
    name, a, b = step
    readers = world.readers
    reader = readers[a % len(readers)] if readers else None
    if name in SAID:
        getattr(world.speaker, name)(a, b)
    elif name == "join":
        gone = next((each for each in readers if not each.joined), None)
        if gone is not None:
            await gone.join()
        elif len(readers) < 3:
            await world.join(append=a % 3 != 0, page_size=_PAGES[b % len(_PAGES)])
    elif name in LINES:
        await _line(world, name, reader, b)
    elif name == "wait":
        await world.wait(_WAITS[a % len(_WAITS)])
    elif name == "fail":
        world.fail(1 + a % 2)
    elif name == "hold":
        world.hold()
    elif name == "release":
        world.store.release()
    elif name == "clock":
        world.set_clock(_CLOCKS[a % len(_CLOCKS)])
    elif name == "crash":
        await world.crash(words=a % 2 == 0)
    elif name == "evict":
        await world.evict()
    elif name == "move":
        await world.move()
    await world.idle()
    world.check()


async def _line(world: World, name: str, reader: Reader | None, b: int) -> None:
    if reader is None:
        return
    if name == "follow":
        await world.wait(0.02)
        await reader.follow()
    elif name == "deliver":
        await world.wait(0.02)
        reader.deliver(1 + b % 8)
    elif name in ("lose", "twice", "late"):
        await world.wait(0.02)
        reader.deliver(2, name)
    elif name == "ask":
        await reader.ask()
    elif name == "stall":
        reader.stalled = True
        if b % 3 == 0:
            world.speaker.own(b, b)
            await world.wait(_STALLED_SECONDS)
    else:
        getattr(reader, name)()


async def play(steps: list[Step], folder: Path | None = None, now_ms: int = NOW_MS) -> dict[str, Any]:
    """Play a schedule to its calm end. Returns its tapes and the rows that all readers have by then.

    AssertionError says what broke, with the step at which it did.
    """
    world = World(folder, now_ms=now_ms)
    await world.open()
    done = 0
    try:
        for step in steps:
            await take(world, step)
            done += 1
        rows = await world.calm()
    except Exception as error:
        where = f"at step {done}, {steps[done]}" if done < len(steps) else "in the end"
        raise AssertionError(f"{type(error).__name__ if not str(error) else error} ({where})") from error
    breaches = await world.end()
    assert not breaches, breaches[0]
    tapes = [{"pageSize": reader.twin.page_size, "steps": reader.tape} for reader in world.readers]
    return {"readers": tapes, "rows": rows}


def one(seed: int, number: int, folder: Path) -> dict[str, Any]:
    """Play the schedule of that number; every tenth one with files, in *folder*."""
    own = f"{seed}:{number}"
    now_ms = random.Random(own).choice((1, NOW_MS, NOW_MS, _LATEST_MS))
    home = folder / str(number) if number % _IN_A_FILE == 0 else None
    if home is not None:
        home.mkdir()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        played = runner.run(play(steps_of(own), home, now_ms))
    if home is not None:
        shutil.rmtree(home)
    return {"number": number, **played}


# -- the page itself ---------------------------------------------------------------------------------


class _Page:
    """The page's own manager, gate and store, in node: told what a reader of ours was told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bundle = folder / "replay.mjs"

    async def differences(self, played: list[dict[str, Any]]) -> list[str]:
        """What the page does otherwise, with the numbers of the schedules."""
        if not self._bundle.exists():
            await _output(
                str(ROOT / "js/node_modules/.bin/esbuild"),
                str(ROOT / "js/src/testing/replayMain.ts"),
                *("--bundle", "--platform=node", "--format=esm", "--log-level=warning"),
                f"--outfile={self._bundle}",
            )
        tapes = self._folder / "tapes.jsonl"
        tapes.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in played))
        *found, last = map(json.loads, (await _output("node", str(self._bundle), str(tapes))).splitlines())
        tapes.unlink()
        assert last == {"count": len(played)}, last
        return [f"schedule {each['number']}: the page: {each['why']}" for each in found]


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    return out.decode()


# -- planted bugs: each is caught within so many schedules ---------------------------------------------


def a_number_is_used_twice() -> AbstractContextManager[None]:
    right = StreamCoordinator._next_seq

    def wrong(self: StreamCoordinator) -> int:
        if self.version % 7 == 3:
            return self.version
        return right(self)

    return planted(StreamCoordinator, "_next_seq", wrong)


def a_delta_is_merged_across_another_frame() -> AbstractContextManager[None]:
    right = Connection.put

    def wrong(self: Connection, frame: frames.Frame | Delta) -> None:
        own = self._own
        right(self, frame)
        if not isinstance(frame, Delta):
            self._own = own

    return planted(Connection, "put", wrong)


def a_snapshot_is_one_version_ahead() -> AbstractContextManager[None]:
    def wrong(entities: list[Entity], version: int, **query: Any) -> Page:
        right = page(entities, version, **query)
        return Page(right.entities, right.version + 1, right.more)

    return planted(service, "page", wrong)


@contextmanager
def offsets_count_characters() -> Iterator[None]:
    """Host and reader agree here, for they are one program: only the page can tell."""
    with ExitStack() as stack:
        for module in (text, frames):
            stack.enter_context(planted(module, "utf16_len", len))
            stack.enter_context(planted(module, "utf16_prefix", lambda whole, count: whole[:count]))
        yield


def what_was_refused_is_not_undone() -> AbstractContextManager[None]:
    return planted(Projector, "restore", _restore_only_over)


def a_page_above_has_the_first_row_again() -> AbstractContextManager[None]:
    def wrong(entities: list[Entity], version: int, *, before: int | None = None, **query: Any) -> Page:
        return page(entities, version, before=None if before is None else before + 1, **query)

    return planted(service, "page", wrong)


def a_page_above_leaves_a_row_out() -> AbstractContextManager[None]:
    def wrong(entities: list[Entity], version: int, *, before: int | None = None, **query: Any) -> Page:
        return page(entities, version, before=None if before is None else before - 1, **query)

    return planted(service, "page", wrong)


def a_hello_says_too_much() -> AbstractContextManager[None]:
    right = service.ChatService._hello

    def wrong(self: service.ChatService, *args: Any) -> dict[str, Any]:
        hello = right(self, *args)
        return {**hello, "version": hello["version"] + 1}

    return planted(service.ChatService, "_hello", wrong)


def frames_do_not_wait_for_the_disk() -> AbstractContextManager[None]:
    right = StreamCoordinator.emit

    def wrong(self: StreamCoordinator, *events: Any, **parts: Any) -> Any:
        emitted = right(self, *events, **parts)
        while self._unsent:
            for frame in self._unsent.popleft().frames:
                self._publish(frame)
        return emitted

    return planted(StreamCoordinator, "emit", wrong)


_restore = Projector.restore


def _restore_only_over(self: Projector, id: str, row: Any) -> None:
    """The readers here fold with the same projector: what they lay over a row goes on to work."""
    if row is not None and id in self and row["version"] >= self._rows[id]["version"]:
        _restore(self, id, row)


# -- the harness -------------------------------------------------------------------------------------


class Schedules:
    name = "schedules"
    unit = "schedules"
    quick = 300
    long = 100_000
    plants: Mapping[str, int] = {
        "a_number_is_used_twice": 200,
        "a_delta_is_merged_across_another_frame": 200,
        "a_snapshot_is_one_version_ahead": 200,
        "offsets_count_characters": 50,
        "what_was_refused_is_not_undone": 200,
        "a_page_above_has_the_first_row_again": 200,
        "a_page_above_leaves_a_row_out": 200,
        "a_hello_says_too_much": 200,
        "frames_do_not_wait_for_the_disk": 200,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """A failure begins with the number of its schedule: `one(seed, number)` plays it alone."""
        page = _Page(folder)
        failures: list[str] = []
        for first in range(0, n, _BATCH):
            numbers = range(first, min(first + _BATCH, n))
            played, broken = await asyncio.to_thread(_played, numbers, seed, folder, plant)
            failures += broken
            if not (plant and failures):
                failures += await page.differences(played)
            if plant and failures:
                break
        return failures


def _played(
    numbers: range, seed: int, folder: Path, plant: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    played: list[dict[str, Any]] = []
    broken: list[str] = []
    with globals()[plant]() if plant else nullcontext():
        for number in numbers:
            try:
                played.append(one(seed, number, folder))
            except AssertionError as error:
                steps = steps_of(f"{seed}:{number}")
                broken.append(f"schedule {number} of seed {seed}: {error}: {steps}")
                if plant:
                    break
    return played, broken


HARNESS = Schedules()
