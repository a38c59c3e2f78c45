"""What people do to a server until it dies, and what they were told until then."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.soak.child import Child
from tests.soak.talk import Prompt

__all__ = ["Answer", "Burst", "Post", "Stop", "replay_faults"]

_CONVERSATIONS = 5
_KINDS = ("talk", "talk", "talk", "call", "ask", "both")
_ASK_SECONDS = 0.4


@dataclass
class Post:
    """A prompt, and what became of it: `status` is None where no answer came. Monotonic seconds."""

    prompt: Prompt
    conv_id: str | None
    key: str | None
    sent: float = 0.0
    answered: float = 0.0
    status: int | None = None
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """What is posted."""
        body = {"prompt": self.prompt.text, "conv_id": self.conv_id, "idempotency_key": self.key}
        return {name: value for name, value in body.items() if value is not None}

    @property
    def other_body(self) -> dict[str, Any]:
        """The same key with something else."""
        return {**self.body, "prompt": f"{self.prompt.text}0"}

    @property
    def accepted(self) -> bool:
        return self.status in (200, 202)


@dataclass
class Stop:
    """A Stop of a run; `before` are the run's rows right after the answer, where there was time to look."""

    conv_id: str
    run_id: str
    answered: bool = False
    before: list[dict[str, Any]] | None = None


@dataclass
class Answer:
    """What a person said to a call."""

    decision: str
    answered: bool = False


class Burst:
    """Some conversations, each with a reader and somebody who does one thing after another.

    The same *seed* does the same things, in conversations of the same names. What is wrong at once is in
    `wrong`.
    """

    def __init__(self, child: Child, seed: int) -> None:
        self.child = child
        self.seed = seed
        self.random = random.Random(seed)
        self.convs = [f"{seed}-{letter}" for letter in "abcde"[:_CONVERSATIONS]]
        self.posts: list[Post] = []
        self.stops: list[Stop] = []
        self.answers: dict[str, Answer] = {}
        """By the id of the call."""
        self.steps: list[str] = []
        self.wrong: list[str] = []
        self._texts: dict[str, list[str | bytes]] = {conv_id: [] for conv_id in self.convs}
        self._sockets: list[WebSocketClientConnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Open the sockets, and let everybody act."""
        for conv_id in self.convs:
            address = HTTPRequest(
                self.child.socket(conv_id), headers={"Authorization": f"token {self.child.token}"}
            )
            self._sockets.append(
                await websocket_connect(address, on_message_callback=partial(self._hear, conv_id))
            )
        self._tasks = [asyncio.create_task(self._act(conv_id)) for conv_id in (*self.convs, None)]

    async def end(self) -> None:
        """Wait until everybody has noticed that the server is gone."""
        await asyncio.gather(*self._tasks)
        for socket in self._sockets:
            socket.close()

    def _hear(self, conv_id: str, text: str | bytes | None) -> None:
        if text is not None:  # that is the end
            self._texts[conv_id].append(text)

    def frames(self, conv_id: str) -> Iterator[dict[str, Any]]:
        """What the reader of a conversation was sent, down to now."""
        for text in list(self._texts.get(conv_id, [])):
            frame = json.loads(text)
            if "seq" in frame["event"]:
                yield frame["event"]

    def asked(self, conv_id: str) -> dict[str, str]:
        """The calls of which the reader was told that they ask, by id, and the digests to be answered."""
        patches = ((f["id"], f["data"].get("patch", {})) for f in self.frames(conv_id))
        return {id: patch["approval"]["digest"] for id, patch in patches if patch.get("status") == "asking"}

    # -- people --------------------------------------------------------------------------------------

    async def _act(self, conv_id: str | None) -> None:
        """One person: in a conversation, or with prompts that begin new ones."""
        chance = random.Random(f"{self.seed} {conv_id}")
        async with self.child.client() as client:
            try:
                for _ in range(chance.randint(2, 5)):
                    await asyncio.sleep(chance.choice((0, 0.02, 0.1)))
                    await self._step(client, conv_id, chance)
            except httpx.TransportError:
                pass  # the server is gone

    async def _step(self, client: httpx.AsyncClient, conv_id: str | None, chance: random.Random) -> None:
        mine = [post for post in self.posts if post.conv_id == conv_id]
        step = chance.choices(("post", "two", "again", "stop", "answer"), (6, 1, 1, 2, 2))[0]
        if step == "two":
            await asyncio.gather(*(self._post(client, conv_id, chance) for _ in "ab"))
        elif step == "again" and mine:
            await self._again(client, chance.choice(mine), chance.random() < 0.5)
        elif step == "stop" and conv_id and (known := [p for p in mine if p.accepted]):
            await self._stop(client, conv_id, chance.choice(known), chance.random() < 0.5 and len(mine) == 1)
        elif step == "answer" and conv_id:
            await self._answer(client, conv_id, chance.choice(("once", "deny")))
        else:
            await self._post(client, conv_id, chance)

    async def _post(self, client: httpx.AsyncClient, conv_id: str | None, chance: random.Random) -> None:
        kind = chance.choice(_KINDS) if conv_id else "talk"
        count = sum(post.conv_id == conv_id for post in self.posts)
        name = f"{conv_id or f'{self.seed}-new'}.{count}"
        prompt = Prompt(name, kind, chance.randint(1, 60), chance.randint(0, 30))
        key = f"key-{prompt.name}" if chance.random() < 0.7 else None
        post = Post(prompt, conv_id, key, sent=time.monotonic())
        self.posts.append(post)
        self.steps.append(f"post {prompt.text!r} to {conv_id or 'a new conversation'}, key {key}")
        said = await client.post("chat", json=post.body)
        post.answered, post.status, post.reply = time.monotonic(), said.status_code, said.json()
        self.steps.append(f"{prompt.name}: {said.status_code}")
        if not post.accepted:
            self.wrong.append(f"{prompt.name} was refused: {said.text}")

    async def _again(self, client: httpx.AsyncClient, post: Post, other: bool) -> None:
        """The same key again, with the same body or another one."""
        if post.key is None or not post.accepted:
            return
        self.steps.append(f"{post.prompt.name} again, {'another' if other else 'the same'} body")
        said = await client.post("chat", json=post.other_body if other else post.body)
        self.wrong += replay_faults(post, said, other)

    async def _stop(self, client: httpx.AsyncClient, conv_id: str, post: Post, whatever: bool) -> None:
        stop = Stop(conv_id, str(post.reply["run_id"]))
        self.stops.append(stop)
        self.steps.append(f"stop {post.prompt.name}")
        path = f"conversations/{conv_id}/stop"
        said = await client.post(path, json={} if whatever else {"run_id": stop.run_id})
        stop.answered = said.status_code == 200
        self.steps.append(f"stopped {post.prompt.name}: {said.status_code}")
        rows = (await client.get("timeline", params={"conv_id": conv_id})).json()
        stop.before = [row for row in rows if row["id"].startswith(stop.run_id)]

    async def _answer(self, client: httpx.AsyncClient, conv_id: str, decision: str) -> None:
        """Say something to the first call that asks, if one does in time."""
        deadline = time.monotonic() + _ASK_SECONDS
        while time.monotonic() < deadline:
            for call_id, digest in self.asked(conv_id).items():
                if call_id in self.answers:
                    continue
                answer = self.answers[call_id] = Answer(decision)
                self.steps.append(f"{decision} to {call_id}")
                path = f"conversations/{conv_id}/approvals/{call_id}"
                said = await client.post(path, json={"decision": decision, "digest": digest})
                answer.answered = said.status_code == 200
                self.steps.append(f"{decision} to {call_id}: {said.status_code}")
                if said.status_code == 409:  # it was stopped meanwhile
                    del self.answers[call_id]
                return
            await asyncio.sleep(0.02)


def replay_faults(post: Post, said: httpx.Response, other: bool = False) -> list[str]:
    """What is wrong with the answer to a key that was accepted before, with the same body or an `other`."""
    name = post.prompt.name
    if other:
        fine = said.status_code == 422 and said.json()["code"] == "idempotency_key_reused"
        return [] if fine else [f"{name}: its key with another body gave {said.status_code} {said.text}"]
    if said.status_code != post.status or said.json() != post.reply:
        return [f"{name}: its key gave {post.reply}, and later {said.status_code} {said.text}"]
    return [] if "Idempotency-Replayed" in said.headers else [f"{name} ran again: {said.text}"]
