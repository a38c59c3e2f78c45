"""Many sessions of the real page behind a bad network, with a server that is restarted meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.soak.child import Forked
from tests.soak.network import Network, Weather
from tests.soak.pages import Browser, Page, Story, bundle, log_in
from tests.soak.plants import sow
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply, Request
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = ["HARNESS"]

PACE = 10
"""The pages' clock is so many times faster than ours."""
WITHIN = 30.0
"""Seconds of the pages' time in which all are equal once the network is well."""
SLACK = 3
"""How much longer that may take, for the server's clock is ours, and this machine has other things to do."""
A_BROWSER = 20
"""Sessions of one node process."""
A_BATCH = 40
RUNS_END = 60.0
"""Seconds in which the last run has ended."""
A_SESSION = 4
"""So often something is done to a session, in the mean."""


def answer(request: Request) -> Reply:
    """Slow words, the same for the same prompt; sometimes with thoughts, and sometimes they break off."""
    chance = random.Random(request.prompt)
    words = [chance.choice(("one ", "two ", "drei ", "четыре ", "𝔣𝔦𝔳𝔢 ", "🙂 ")) for _ in range(60)]
    return Reply(
        chunks=words[: chance.randint(1, 60)],
        reasoning="so it is " * chance.choice((0, 0, 0, 6)),
        delay=chance.choice((0.0, 0.01, 0.02)),
        fault="cut" if chance.random() < 0.05 else None,
    )


class Proxy:
    name = "proxy"
    unit = "sessions"
    quick = 12
    long = 1000
    at_once = 6
    plants: Mapping[str, int] = {
        "gap_ignored": 16,
        "cut_ignored": 4,
        "silence_ignored": 10,
        "another_key": 12,
        "older_rows_win": 12,
        "lost_before_it_was_counted": 4,
    }
    """What the server does wrong is a function below; what a page does is in js/src/testing/soakPlants.ts."""

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        built = folder / "page.mjs"
        await bundle(built)
        failures: list[str] = []
        counts: Counter[str] = Counter()
        slowest = 0.0
        on_server = plant in globals()
        with ModelServer(answer=answer) as model:
            jupyter = Forked(folder, model=model.url)
            if on_server and plant:
                sow(folder / "config", self.name, plant)
            await asyncio.to_thread(jupyter.start)
            try:
                for number, first in enumerate(range(0, n, A_BATCH)):
                    batch = Batch(
                        jupyter,
                        built,
                        seed=seed + number,
                        sessions=min(A_BATCH, n - first),
                        plant=None if on_server else plant,
                    )
                    failures += await batch.run()
                    counts += batch.network.counts + batch.counts
                    slowest = max(slowest, batch.slowest)
                    if plant and failures:
                        break
            finally:
                await asyncio.to_thread(jupyter.stop)
        found = verify(jupyter.timeline_db)
        failures += [f"verify: {each.conv_id} {each.id}: {each.sentence}" for each in found.breaches]
        if plant is None:
            did = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            print(f"{self.name}: {did}; all equal after at most {slowest:.1f} s of a page's time")
        return failures


class Batch:
    """Some sessions of some conversations, on a network of their own, until all of them agree."""

    def __init__(
        self,
        jupyter: Jupyter,
        bundle: Path,
        *,
        seed: int,
        sessions: int,
        plant: str | None,
    ) -> None:
        self.network = Network(jupyter.port, seed)
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        """Seconds of a page's time from when nothing was wrong any more to when the last page was right."""
        self._jupyter = jupyter
        self._bundle = bundle
        self._chance = random.Random(seed)
        self._plant = plant
        self._sessions = sessions
        self._conversations = [f"soak-{seed}-{number}" for number in range(max(2, sessions // 4))]
        self._story = Story(f"seed {seed}, {sessions} sessions")
        self._browsers: list[Browser] = []
        self._pages: list[Page] = []
        self._healed = 0.0

    async def run(self) -> list[str]:
        """What broke, each with its steps."""
        async with self.network:
            origin = f"http://127.0.0.1:{self.network.port}"
            cookies = await asyncio.to_thread(log_in, self.network.port, self._jupyter.token)
            options = {"pace": PACE, "origin": origin, "cookies": cookies, "plant": self._plant}
            for _ in range(0, self._sessions, A_BROWSER):
                self._browsers.append(await Browser.open(self._bundle, options, self._story))
            for number in range(self._sessions):
                browser = self._browsers[number // A_BROWSER]
                self._pages.append(Page(number, self._chance.choice(self._conversations), browser))
            try:
                await self._harm()
                if not (self._plant and self._story.broken):
                    await self._heal()
                    await self._compare()
            finally:
                for browser in self._browsers:
                    await browser.close()
        return self._story.told()

    # -- harm ---------------------------------------------------------------------------------------------

    async def _harm(self) -> None:
        async with asyncio.TaskGroup() as aside:
            self._aside = aside.create_task
            await self._act()

    async def _act(self) -> None:
        acts: dict[Callable[[Page], Awaitable[None]], float] = {
            self._send: 7,
            self._send_into_the_void: 8 if self._plant == "another_key" else 2,  # it shows nowhere else
            self._stop: 1,
            self._earlier: 2,
            self._retry: 2,
            self._reopen: 2,
            self._look_away: 1,
            self._shut_the_lid: 0.3,
            self._change_weather: 2,
            self._cut: 1,
            self._deafen: 0.7,
            self._refuse: 0.4,
        }
        closed, opened = list(self._pages), list[Page]()
        await self._change_weather(closed[0])
        for left in range(A_SESSION * self._sessions, 0, -1):
            if left == 2 * self._sessions and self._plant is None:
                self._aside(self._restart())
            if closed and (not opened or self._chance.random() < 0.5):
                opened.append(closed.pop())
                await opened[-1].open(self._chance)
            else:
                (act,) = self._chance.choices(list(acts), weights=list(acts.values()))
                await act(self._chance.choice(opened))
                await asyncio.sleep(self._chance.uniform(0.0, 0.2))
            if self._plant and self._story.broken:
                return
        for page in closed:
            await page.open(self._chance)

    async def _send(self, page: Page) -> None:
        prompt = f"{page.conv_id}: prompt {len(self._story.typed)}"
        self._story.add(f"page {page.number} sends {prompt!r}")
        self._story.typed[prompt] = page.conv_id
        await page.ask("send", prompt=prompt)

    async def _send_into_the_void(self, page: Page) -> None:
        """The prompt arrives, but no answer does, and who sent it tries again before there is a line."""
        self.network.cut(hard=True)
        self.network.weather = Weather(torn=1.0)
        await self._send(page)
        await asyncio.sleep(self._chance.uniform(0.1, 0.3))
        await self._change_weather(page)
        await page.ask("retry")

    async def _stop(self, page: Page) -> None:
        self._story.add(f"page {page.number} stops")
        await page.ask("stop")

    async def _earlier(self, page: Page) -> None:
        await page.ask("earlier")

    async def _retry(self, page: Page) -> None:
        await page.ask("retry")

    async def _reopen(self, page: Page) -> None:
        self._story.add(f"page {page.number} is closed and opened again")
        left = await page.ask("close")
        self._story.unsure |= {each["prompt"] for each in left}
        await page.open(self._chance)

    async def _look_away(self, page: Page) -> None:
        for what in ("hidden", "visible"):
            await page.ask("happen", what=what)
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def _shut_the_lid(self, page: Page) -> None:
        seconds = self._chance.uniform(0.2, 1.5)
        self._story.add(f"the computer of page {page.number} sleeps for {seconds:.1f} s")
        await page.browser.sleep(seconds)

    async def _change_weather(self, _: Page) -> None:
        some = self._chance.choice
        self.network.weather = Weather(
            delay=some((0.0, 0.02, 0.1)),
            rate=some((0.0, 0.0, 200_000)),
            lost=some((0.01, 0.01, 0.1)),
            doubled=some((0.0, 0.01, 0.1)),
            torn=some((0.0, 0.05, 0.2)),
            deaf=some((0.0, 0.0, 0.1)),
        )
        self._story.add(str(self.network.weather))

    async def _cut(self, _: Page) -> None:
        share, hard = self._chance.choice((0.3, 0.3, 1.0)), self._chance.random() < 0.5
        self._story.add(f"{share:.0%} of the lines are cut ({'RST' if hard else 'FIN'})")
        self.network.cut(share, hard=hard)

    async def _deafen(self, _: Page) -> None:
        share = self._chance.choice((0.2, 0.5))
        self._story.add(f"{share:.0%} of the lines lead nowhere")
        self.network.deafen(share)

    async def _refuse(self, _: Page) -> None:
        seconds = self._chance.uniform(0.1, 1.0)
        self._story.add(f"new lines are refused for {seconds:.1f} s")
        self.network.refuse()
        self.counts["refusals"] += 1

        async def later() -> None:
            await asyncio.sleep(seconds)
            await self.network.admit()

        self._aside(later())

    async def _restart(self) -> None:
        end = self._chance.choice(("terminate", "kill"))
        self._story.add(f"{end} the server")
        self.counts[end] += 1
        await asyncio.to_thread(getattr(self._jupyter, end))
        await asyncio.to_thread(self._jupyter.start)
        self._story.add("the server is there again")

    # -- what must hold -----------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """The network is back, and nearly well; then it is well, but for streams on lines that lead nowhere.

        Pages are to find that out by themselves, for something is said that they don't hear.
        """
        await self.network.admit()
        self.network.weather = Weather(lost=0.1, doubled=0.1)
        for browser in self._browsers:
            await browser.ask("happen", what="online")
        await asyncio.sleep(0.8)
        self.network.weather = Weather()
        self.network.deafen(0.7, streams=True)
        self._story.add("the network is well, but most streams lead nowhere")
        self._healed = time.time()
        for page in {page.conv_id: page for page in self._pages}.values():
            await self._send(page)

    async def _compare(self) -> None:
        """Wait until every page shows what its host has, and has no prompt left that was not taken."""
        count = len(self._pages)
        fresh = [Page(count + at, conv, self._browsers[0]) for at, conv in enumerate(self._conversations)]
        for page in fresh:
            await page.ask("open", conv=page.conv_id, rows=400)
        wrong = dict.fromkeys([*self._pages, *fresh], "")
        allowed = WITHIN * (SLACK if self._plant is None else 1)
        end = time.monotonic() + RUNS_END
        while wrong and self.slowest < allowed and time.monotonic() < end:
            await asyncio.sleep(0.1)
            timelines = {conv: await self._timeline(conv) for conv in self._conversations}
            for page in list(wrong):
                wrong[page] = await self._differs(page, timelines[page.conv_id])
                if not wrong[page]:
                    del wrong[page]
            if not any(_runs(rows) for rows in timelines.values()):
                calm = max(self._healed, *(_last(rows) for rows in timelines.values()))
                self.slowest = (time.time() - calm) * PACE
        for page, how in wrong.items():
            self._story.broken.append(f"page {page.number} ({page.conv_id}) {how}")
        for conv in self._conversations:
            self._once_each(conv, await self._timeline(conv))

    async def _differs(self, page: Page, timeline: list[dict[str, Any]]) -> str:
        """How the page differs from what its host has; empty where it does not."""
        if _runs(timeline):
            return "waits for a run"
        await page.ask("retry")
        look = await page.ask("look")
        if look["phase"] != "live":
            return f"is {look['phase']}: {look['failure']}"
        if look["local"]:
            return f"has prompts that nobody took: {look['local']}"
        shown = await page.ask("rows")
        rows = [row for row in timeline if row["createdSeq"] >= shown["floor"]]
        if shown["rows"] == rows:
            return ""
        mine, theirs = ({row["id"]: row for row in each} for each in (shown["rows"], rows))
        ids = [id for id in mine | theirs if mine.get(id) != theirs.get(id)]
        return f"differs: {[(mine.get(id), theirs.get(id)) for id in ids[:2]]} and {len(ids)} in all"

    def _once_each(self, conv_id: str, timeline: list[dict[str, Any]]) -> None:
        said = Counter(row["props"]["content"] for row in timeline if row["props"].get("role") == "user")
        for prompt in (prompt for prompt, conv in self._story.typed.items() if conv == conv_id):
            least = 0 if prompt in self._story.unsure else 1
            if not least <= said[prompt] <= 1:
                self._story.broken.append(f"{prompt!r} is there {said[prompt]} times")

    async def _timeline(self, conv_id: str) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._jupyter.timeline, conv_id)


def _runs(timeline: list[dict[str, Any]]) -> bool:
    """Is there a run that has not ended?"""
    runs = [row for row in timeline if row["kind"] == "run"]
    return any(row["props"]["status"] in ("started", "queued") for row in runs)


def _last(timeline: list[dict[str, Any]]) -> float:
    """When its last frame was made, in seconds since 1970."""
    return max((row["version"] for row in timeline), default=0) / 1e6


def lost_before_it_was_counted() -> None:
    """An outbox drops now and then what it should have numbered and sent."""
    from webchat_widget.runtime.pool import Connection

    put, chance = Connection.put, random.Random(0)

    def careless(self: Connection, frame: Any) -> None:
        if chance.random() > 0.3:
            put(self, frame)

    Connection.put = careless  # type: ignore[method-assign]


HARNESS = Proxy()
