"""Prompts whose answers can be told from them, and the model that gives these."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from tests.support.gate import Gate
from tests.support.model_server import ModelServer, Reply, Request

__all__ = ["Pace", "Prompt", "Talker"]


@dataclass(frozen=True)
class Prompt:
    """`name` is like no other's. `kind`: `talk`, or with tools before: `call`, `ask` (a person), `both`.
    The answer has so many `words`, and `pause` milliseconds before each."""

    name: str
    kind: str = "talk"
    words: int = 1
    pause: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """The prompt that was sent as *text*."""
        name, kind, words, pause = text.split()
        return cls(name, kind, int(words), int(pause))

    @property
    def text(self) -> str:
        return f"{self.name} {self.kind} {self.words} {self.pause}"

    @property
    def answer(self) -> list[str]:
        """Word by word, as the model sends it."""
        return [f"{self.name}.{n} " for n in range(self.words)]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tools that the model asks for first."""
        names = {"call": ["note"], "ask": ["note_if_allowed"], "both": ["note", "note_if_allowed"]}
        return [{"name": name, "arguments": {"line": self.name}} for name in names.get(self.kind, [])]


class Pace(Gate):
    """Says when each word was sent."""

    def __init__(self, seconds: float, hurry: threading.Event) -> None:
        super().__init__()
        self._seconds, self._hurry = seconds, hurry
        self.times: list[float] = []
        """When the model came to each word: all before it were sent by then. The last is the end."""

    async def wait_open(self) -> None:
        self.times.append(time.monotonic())
        if not self._hurry.is_set():
            await asyncio.sleep(self._seconds)


class Talker:
    """The model. In `hurry` it answers at once."""

    def __init__(self) -> None:
        self.server = ModelServer(answer=self._answer)
        self.hurry = threading.Event()
        self.forget()

    def forget(self) -> None:
        """Begin anew, for prompts of other names."""
        self.server.reset()
        self.paces: dict[str, Pace] = {}
        """How the answer to a prompt was sent."""
        self.asked: Counter[tuple[str, bool]] = Counter()
        """How often each prompt came, before and after its tools."""
        self.histories: dict[str, list[dict[str, Any]]] = {}
        """What was sent with a prompt, itself included."""

    def lost(self, name: str, words: int, at: float) -> float:
        """How old the oldest text was, in seconds at the monotonic time *at*, that had been sent as an answer
        to the prompt of this name and is not among its first *words*."""
        pace = self.paces.get(name)
        if pace is None or words + 1 >= len(pace.times):
            return 0.0
        return max(0.0, at - pace.times[words + 1])

    def _answer(self, request: Request) -> Reply:
        prompt = Prompt.read(request.prompt)
        messages = request.body["messages"]
        called = messages[-1]["role"] == "tool"
        self.asked[prompt.name, called] += 1
        if prompt.calls and not called:
            return Reply(tool_calls=prompt.calls)
        self.histories[prompt.name] = messages
        pace = self.paces[prompt.name] = Pace(prompt.pause / 1000, self.hurry)
        return Reply(chunks=prompt.answer, hold=pace)
