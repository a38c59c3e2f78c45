"""Pages without a screen: sessions of the real front-end in node, what was done to them, and how it went."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.plants import ROOT

__all__ = ["Browser", "Page", "Story", "bundle", "log_in"]

ENDED = "The pages' process has ended; above is what it had to say."


@dataclass
class Story:
    """What happened, and what was typed, in one batch."""

    title: str
    start: float = field(default_factory=time.monotonic)
    steps: list[str] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)
    """Each prompt, and its conversation."""
    unsure: set[str] = field(default_factory=set)
    """Prompts of pages that were closed before they knew what became of them."""
    broken: list[str] = field(default_factory=list)

    def add(self, step: str) -> None:
        self.steps.append(f"{time.monotonic() - self.start:.1f} s {step}")

    def told(self) -> list[str]:
        """What broke, each with the batch that it broke in; the steps stand by the first."""
        if not self.broken:
            return []
        first, *more = [f"{self.title}: {what}" for what in self.broken]
        return [f"{first}; steps: {'; '.join(self.steps)}", *more]


class Browser:
    """A node process with the sessions of several pages in it."""

    def __init__(self, process: asyncio.subprocess.Process, story: Story) -> None:
        self._process = process
        self._story = story
        self._asked = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, bundle: Path, options: Mapping[str, Any], story: Story) -> Browser:
        process = await asyncio.create_subprocess_exec(
            *("node", "--experimental-websocket", "--no-warnings", bundle, json.dumps(options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        return cls(process, story)

    async def ask(self, what: str, /, **more: Any) -> Any:
        """Have it done, and return the answer."""
        assert not self._reading.done(), ENDED
        self._asked += 1
        answer = self._answers[self._asked] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, "ask": self._asked, **more}).encode() + b"\n")
        return await answer

    async def sleep(self, seconds: float) -> None:
        """As a computer does that is shut: no clock, no network, and then it is later."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "broke" in said:
                self._story.add(f"page {said['page']} has broken")
                self._story.broken.append(f"page {said['page']}: {said['broke']}")
            else:
                self._answers.pop(said["ask"]).set_result(said["answer"])
        for answer in self._answers.values():
            answer.set_exception(AssertionError(ENDED))


@dataclass(frozen=True)
class Page:
    number: int
    conv_id: str
    browser: Browser

    async def ask(self, what: str, /, **more: Any) -> Any:
        return await self.browser.ask(what, page=self.number, **more)

    async def open(self, chance: random.Random) -> None:
        await self.ask("open", conv=self.conv_id, rows=chance.choice((400, 400, 8)))


async def bundle(out: Path) -> None:
    """Build what `Browser` runs."""
    built = await asyncio.create_subprocess_exec(
        ROOT / "js/node_modules/.bin/esbuild",
        *("src/testing/soakPage.ts", "--bundle", "--platform=node", "--format=esm", f"--outfile={out}"),
        "--log-level=warning",
        cwd=ROOT / "js",
    )
    assert await built.wait() == 0, "the pages could not be built"


def log_in(port: int, token: str) -> str:
    """The cookies of who has come in with the token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/webchat/?token={token}")
        response = connection.getresponse()
        return "; ".join(value.partition(";")[0] for value in response.headers.get_all("Set-Cookie", []))
