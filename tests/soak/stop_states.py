"""How far a run can be when it is stopped, and how it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.model_server import Gate, Reply

__all__ = ["IN_A_KERNEL", "STATES", "WAYS", "Scene", "State"]

_MANY = tuple(f"word{number} " for number in range(400))


@dataclass(frozen=True)
class State:
    """How far a run is when it is stopped.

    `answers`: what the model says, given the place for the marks of tools; `sign`: the type of the frame that
    tells, if one does, of which up to `most` are waited for; `ends`: what the run may end as; `hangs`: the
    model would go on for ever.
    """

    name: str
    answers: Callable[[str], Sequence[Reply]]
    sign: str = ""
    most: int = 1
    ends: tuple[str, ...] = ("stopped",)
    hangs: bool = False


def _never_ending(**more: Any) -> Sequence[Reply]:
    return [Reply(fault="stall", delay=0.002, **more)]


def _calls(name: str, mark: str) -> Sequence[Reply]:
    return [Reply("Let me see. ", tool_calls=[{"name": name, "arguments": {"mark": mark}}])]


IN_A_KERNEL = State("in a tool of a kernel", lambda mark: _calls("keep_at_it", mark), "tool.start")
"""For a server with a kernel whose notebook has such a tool."""

STATES = (
    State("before the model was asked", lambda _: [Reply("never", hold=Gate())], hangs=True),
    State("before the first word", lambda _: [Reply("never", hold=Gate())], "asked", hangs=True),
    State("in text", lambda _: _never_ending(chunks=_MANY, after=400), "llm.delta", 30, hangs=True),
    State(
        "in thoughts",
        lambda _: _never_ending(reasoning="".join(_MANY), after=400),
        "llm.thinking.delta",
        30,
        hangs=True,
    ),
    State("in a tool on a thread", lambda mark: _calls("linger", mark), "tool.start"),
    State("in an async tool", lambda mark: _calls("await_long", mark), "tool.start"),
    State(
        "in a tool that can't be ended",
        lambda mark: _calls("deaf", mark),
        "tool.start",
        ends=("stopped", "finished"),
    ),
    State("while a person is asked", lambda mark: _calls("guarded", mark), "tool.delta"),
    State("between retries", lambda _: [Reply(status=429, headers={"Retry-After": "25"})], "log"),
    State("between retries of a fault", lambda _: [Reply(status=503, headers={"Retry-After": "25"})], "log"),
    State("in the queue", lambda _: ()),
    State(
        "about to end",
        lambda _: [Reply("One two three four five six.", delay=0.004)],
        "llm.delta",
        6,
        ends=("stopped", "finished"),
    ),
    State("ended", lambda _: [Reply("Well.")], "run.finished", ends=("finished",)),
)

WAYS = ("once", "twice at once", "from another page", "with nobody there")


class Scene:
    """A state, a way to stop, and dice that fall the same way for the same seed."""

    def __init__(self, state: State, way: str, rng: random.Random) -> None:
        self.state, self.way = state, way
        self.signs = rng.randint(1, state.most)
        self.pause = rng.uniform(0, 0.04)
        self.named = rng.random() < 0.5
        """Whether Stop says which run."""
        self.queue = rng.random() < 0.4
        """Whether another prompt waits behind."""

    def __str__(self) -> str:
        return f"{self.state.name}, {self.way}{', with a queue' if self.queue else ''}"
