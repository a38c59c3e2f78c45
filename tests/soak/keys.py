"""The same prompt posted over and over under its key, while the server goes and comes back: it runs once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.soak.child import Child
from tests.soak.points import replace
from tests.soak.talk import Prompt, Talker
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = ["HARNESS", "digest_ignored", "key_forgotten_on_restart", "lookup_beside_a_write"]

_CLIENTS = 16
_CONVERSATIONS = 20
_OTHER_BODY = 0.1
_PATIENCE = 60


@dataclass
class Key:
    """A key, its prompt, and the answers to it. `conv_id` is what it is posted with."""

    name: str
    conv_id: str | None
    prompt: Prompt
    first: dict[str, Any] | None = None
    """The first answer that it was accepted, and the text that was."""
    text: str = ""
    accepted: int = 0
    """How often it was answered as if nobody had posted it before."""
    wrong: list[str] = field(default_factory=list)

    def body(self, other: bool) -> dict[str, Any]:
        """What is posted, or something `other` under the same key."""
        prompt = f"{self.prompt.text}0" if other else self.prompt.text
        place = {} if self.conv_id is None else {"conv_id": self.conv_id}
        return {"prompt": prompt, "idempotency_key": self.name, **place}

    def answered(self, text: str, said: httpx.Response) -> bool:
        """Take in an answer to *text*; False where it was none: the queue is full, or the server ends."""
        if said.status_code in (429, 503):
            return False
        if said.status_code == 422 and said.json()["code"] == "idempotency_key_reused":
            if text == self.text:
                self.wrong.append(f"{self.name} with its own body: {said.text}")
        elif said.status_code not in (200, 202):
            self.wrong.append(f"{self.name}: {said.status_code} {said.text}")
        else:
            self._accepted(text, said)
        return True

    def _accepted(self, text: str, said: httpx.Response) -> None:
        self.accepted += "Idempotency-Replayed" not in said.headers
        if self.first is None:
            self.first, self.text = said.json(), text
        elif text != self.text:
            self.wrong.append(f"{self.name} with another body: {said.text}")
        elif said.json() != self.first:
            self.wrong.append(f"{self.name} gave {self.first}, and then {said.text}")


class Keys:
    """Sixteen clients; one post in ten has another body than the rest under its key."""

    name, unit, quick, long = "keys", "posts", 300, 10_000
    plants: Mapping[str, int] = {
        "digest_ignored": 100,
        "key_forgotten_on_restart": 300,
        "lookup_beside_a_write": 300,
    }

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """One server, one storm."""
        talker = Talker()
        with talker.server:
            child = Child(folder, "keys", *filter(None, [plant]), model=talker.server.url)
            await child.start()
            try:
                storm = Storm(child, talker, n, seed)
                failures = await storm.run()
                if not failures and (status := await child.stop()) != 0:
                    failures = [f"the server ended with {status}"]
            finally:
                child.kill()
        failures += [str(breach) for breach in verify(child.timeline_db).breaches]
        return [f"seed {seed}, {n} posts: {failure}" for failure in failures]


class Storm:
    """*n* posts under a key each, and restarts between them: killed and politely, in turn."""

    def __init__(self, child: Child, talker: Talker, n: int, seed: int) -> None:
        self._child, self._talker = child, talker
        self._random = random.Random(seed)
        count = max(20, n // 50)
        self._keys = [self._key(f"k{seed}-{number}", number) for number in range(count)]
        posts = [(key, self._random.random() < _OTHER_BODY) for key in self._keys * -(-n // count)]
        self._random.shuffle(posts)
        self._posts = posts[:n]
        restarts = 5 if n >= 1000 else 2
        self._restarts = [n * part // (restarts + 1) for part in range(1, restarts + 1)]
        self._up = asyncio.Event()

    def _key(self, name: str, number: int) -> Key:
        conv_id = f"c{number // 2 % _CONVERSATIONS}" if number % 2 else None
        return Key(name, conv_id, Prompt(name, words=self._random.randint(1, 20), pause=2))

    async def run(self) -> list[str]:
        """Post everything; what is wrong."""
        self._up.set()
        posts = iter(enumerate(self._posts))
        await asyncio.gather(*(self._client(posts) for _ in range(_CLIENTS)))
        wrong = [each for key in self._keys for each in key.wrong]
        return wrong or await self._check()

    async def _client(self, posts: Iterator[tuple[int, tuple[Key, bool]]]) -> None:
        """Takes the next post, and posts it until it has an answer."""
        async with self._child.client() as client:
            for number, (key, other) in posts:
                if number in self._restarts:
                    await self._restart(polite=self._restarts.index(number) % 2 == 1)
                body = key.body(other)
                while True:
                    await self._up.wait()
                    try:
                        if key.answered(body["prompt"], await client.post("chat", json=body)):
                            break
                    except httpx.TransportError:  # it was not answered, and may be taken
                        pass
                    await asyncio.sleep(0.02)

    async def _restart(self, *, polite: bool) -> None:
        """In the midst of the others' posts."""
        await asyncio.sleep(self._random.uniform(0, 0.05))
        self._up.clear()
        if polite:
            await self._child.stop()
        else:
            self._child.kill()
        await self._child.start()
        self._up.set()

    async def _check(self) -> list[str]:
        """One run, one message and at most one request for each key, wherever it is."""
        wrong = []
        async with self._child.client() as client:
            conv_ids = {key.first["conv_id"] for key in self._keys if key.first is not None}
            rows = [row for conv_id in conv_ids for row in await self._ended(client, conv_id)]
            listed = (await client.get("conversations")).json()
            strangers = {each["conv_id"] for each in listed} - conv_ids
        statuses = {row["id"]: row["props"]["status"] for row in rows if row["kind"] == "run"}
        messages = Counter(row["props"]["content"] for row in rows if row["props"].get("role") == "user")
        asked = Counter(name for name, _ in self._talker.asked.elements())
        for key in self._keys:
            if key.first is None:
                wrong.append(f"{key.name} was never accepted")
                continue
            status = statuses.get(key.first["run_id"])
            count = asked[key.prompt.name]
            if (
                messages[key.text] != 1
                or key.accepted > 1
                or count > 1
                or (status == "finished" and not count)
            ):
                wrong.append(
                    f"{key.name}, whose run {status}, has {messages[key.text]} messages, was taken "
                    f"{key.accepted} times, and the model was asked {count} times"
                )
        runs: defaultdict[str, list[str]] = defaultdict(list)
        for row in rows:
            if row["kind"] == "run":
                runs[row["props"]["idempotencyKey"]].append(row["id"])
        wrong += [f"{key} has the runs {ids}" for key, ids in runs.items() if len(ids) > 1]
        wrong += [f"nobody was told of the conversation {conv_id}" for conv_id in strangers]
        return wrong

    async def _ended(self, client: httpx.AsyncClient, conv_id: str) -> list[dict[str, Any]]:
        """The rows of a conversation when everything in it has ended."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            rows: list[dict[str, Any]] = (await client.get("timeline", params={"conv_id": conv_id})).json()
            if not any(row["props"].get("status") in ("queued", "started") for row in rows):
                return rows
            await asyncio.sleep(0.05)
        raise AssertionError(f"{conv_id} does not end: {rows}")


HARNESS = Keys()


# -- plants -------------------------------------------------------------------------------------------


def digest_ignored() -> None:
    """A key gives its run for whatever body."""
    from webchat_widget.runtime import service

    replace(service, "_same_body", lambda digest, request: None)


def key_forgotten_on_restart() -> None:
    """What was stored under a key is not looked for."""
    from webchat_widget.timeline.sqlite import SQLiteStore

    async def none(self: Any, user: str, key: str) -> None:
        return None

    replace(SQLiteStore, "key", none)


def lookup_beside_a_write() -> None:
    """The second of two posts does not wait for the first, which is being stored."""
    from webchat_widget.runtime.service import ChatService

    chat = ChatService.chat

    async def alone(self: Any, *args: Any) -> Any:
        self._keys.clear()
        return await chat(self, *args)

    replace(ChatService, "chat", alone)
