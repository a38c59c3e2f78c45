"""A dialogue over a disk that fails, and what must hold of it whatever the disk has said when."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.runtime.conftest import Page
from webchat_widget import tool
from webchat_widget.errors import Conflict, NotFound, StoreUnavailable
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import ChatRequest, Decision, EventRequest, Overrides, TimelineQuery
from webchat_widget.runtime.environment import Environment
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.entities import entity
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.timeline.sqlite.snapshot import copied
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Turn

from .disk_faults import Disk, Fault

__all__ = ["Broken", "Dialogue"]

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds within which every call is answered, and every run that nothing holds has ended."""
_OPEN = ("queued", "started")
_log = logging.getLogger("tests.soak.disk")
_log.addHandler(logging.NullHandler())
_log.propagate = False


class Broken(Exception):
    """What does not hold, in a sentence."""


class Prompt:
    """One that was sent, perhaps more than once, always under the same key."""

    def __init__(self, number: int, conv_id: str, kind: str, padding: int) -> None:
        self.mark = f"p{number}"
        self.request = ChatRequest(
            prompt=f"{self.mark} {kind}" + " x" * padding, conv_id=conv_id, key=self.mark, digest=self.mark
        )
        self.run_id: str | None = None
        """Its run, once it was accepted."""
        self.unsure = False
        """It was refused, though the disk had taken it."""

    @property
    def conv_id(self) -> str:
        assert self.request.conv_id is not None
        return self.request.conv_id


class Model:
    """Answers by what a prompt asks for; `asked` counts the prompts that have come to it."""

    name = model = "a model"

    def __init__(self, asked: Counter[str]) -> None:
        self._asked = asked
        self.gate = asyncio.Event()
        self.alive = True

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """One request."""
        words = next(each.content for each in reversed(turn.messages) if each.role == "user").split()
        mark, kind = words[:2]
        if turn.messages[-1].role == "tool":
            kind = "say"
        else:
            self._asked[mark] += self.alive
        if kind in ("double", "wipe"):
            yield CallRequest("call", kind, f'{{"mark": "{mark}"}}')
            yield Finish("tool_calls", model=self.model)
            return
        for piece in ("Well, ", mark, " it is."):
            yield TextChunk(piece)
            await asyncio.sleep(0)
            if kind == "hold":
                await self.gate.wait()
        yield Finish("stop", model=self.model)

    async def aclose(self) -> None:
        """Nothing to let go of."""


class Dialogue:
    """Steps that follow from a case's name alone, as far as a real system lets them."""

    def __init__(self, case: str, folder: Path) -> None:
        self.steps: list[str] = []
        self._random = random.Random(case)
        self._folder = folder
        self._file = folder / "0" / "timeline.sqlite"
        self._file.parent.mkdir(parents=True)
        self._disk = Disk(self._file)
        self._asked: Counter[str] = Counter()
        self._wiped: Counter[str] = Counter()
        self._allowed: set[str] = set()
        self._prompts: list[Prompt] = []
        self._order: dict[str, list[Prompt]] = {"a": [], "b": []}
        """The accepted ones of each conversation, as they were accepted."""
        self._ended: dict[str, str] = {}
        """Runs of which it was said that they were stopped, and how they had ended by then."""
        self._settings: dict[str, list[Any]] = {"a": [{}], "b": [{}]}
        """What a conversation's settings may be."""
        self._events: dict[tuple[str, str], list[Any]] = {}
        """What the value of an own row may be; None: there may be none."""
        self._start()

    async def run(self) -> None:
        """All of it. Raises Broken."""
        try:
            for _ in range(self._random.randint(6, 14)):
                if self._disk.fault is None and self._random.random() < 0.4:
                    self._disk.fault = Fault.drawn(self._random)
                    self._note(f"the disk will say {self._disk.fault}")
                elif self._random.random() < 0.25:
                    self._note("the disk is well")
                    self._disk.heal()
                await self._random.choices(*zip(*self._choices(), strict=True))[0]()
                if self._disk.dead:
                    await self._crash()
            await self._come_to_an_end()
        finally:
            self._model.gate.set()
            self._disk.heal()
            await self._within(self._service.close(), "the chat's end")

    def _choices(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            (self._say, 8),
            (self._say_again, 3),
            (self._stop, 3),
            (self._decide, 3),
            (self._let_go_on, 2),
            (self._configure, 2),
            (self._emit, 3),
            (self._read, 3),
            (self._restart, 1),
            (self._crash, 1),
        ]

    # -- steps ---------------------------------------------------------------------------------------

    async def _say(self) -> None:
        conv_id, kind = self._conversation(), self._random.choice(("say", "say", "hold", "double", "wipe"))
        prompt = Prompt(len(self._prompts), conv_id, kind, self._random.choice((0, 0, 100, 3000)))
        self._prompts.append(prompt)
        await self._send(prompt)

    async def _say_again(self) -> None:
        if self._prompts:
            await self._send(self._random.choice(self._prompts))

    async def _send(self, prompt: Prompt) -> None:
        taken = self._disk.taken
        reply = await self._asking(
            f"{prompt.request.prompt[:12]!r} to {prompt.conv_id}", self._service.chat(prompt.request)
        )
        if reply is None:
            prompt.unsure = prompt.unsure or (prompt.run_id is None and self._disk.taken > taken)
            rows = await self._rows(prompt.conv_id)
            shown = rows is not None and any(_prompt(row) == prompt.request.prompt for row in rows)
            if shown and prompt.run_id is None and not prompt.unsure:
                raise Broken(f"{prompt.mark} was refused, and is shown")
            return
        run_id = reply.body["run_id"]
        if prompt.run_id is None:
            prompt.run_id = run_id
            self._order[prompt.conv_id].append(prompt)
        elif run_id != prompt.run_id:
            raise Broken(f"{prompt.mark} was accepted as {prompt.run_id}, and again as {run_id}")

    async def _stop(self) -> None:
        accepted = [each for each in self._prompts if each.run_id is not None]
        if not accepted:
            return
        prompt = self._random.choice(accepted[-3:])
        run_id = prompt.run_id
        assert run_id is not None
        done = await self._asking(f"stop {prompt.mark}", _true(self._service.stop(prompt.conv_id, run_id)))
        if done and (rows := await self._rows(prompt.conv_id)) is not None:
            status = next((row["props"]["status"] for row in rows if row["id"] == run_id), None)
            if status is None or status in _OPEN:
                raise Broken(f"{prompt.mark} was said to be stopped, and is {status}")
            self._ended[run_id] = status

    async def _decide(self) -> None:
        conv_id = self._conversation()
        for row in await self._rows(conv_id) or ():
            if row["kind"] == "tool_call" and row["props"]["status"] == "asking":
                await self._answer(conv_id, row, self._random.choice(("once", "deny")))

    async def _answer(self, conv_id: str, call: dict[str, Any], word: str) -> None:
        if word == "once":
            self._allowed.add(call["props"]["input"]["mark"])
        decision = Decision(word, call["props"]["approval"]["digest"])
        await self._asking(
            f"{word} in {conv_id}", _true(self._service.approve(conv_id, call["id"], decision))
        )

    async def _let_go_on(self) -> None:
        self._note("the model goes on")
        self._model.gate.set()
        self._model.gate = asyncio.Event()

    async def _configure(self) -> None:
        conv_id, words = self._conversation(), f"Be {len(self.steps)}."
        taken = self._disk.taken
        done = await self._asking(
            f"settings of {conv_id}",
            _true(self._service.configure(conv_id, Overrides(system_prompt=words))),
        )
        _may_be(self._settings[conv_id], {"system_prompt": words}, done, self._disk.taken > taken)

    async def _emit(self) -> None:
        conv_id, id, value = self._conversation(), self._random.choice("xy"), len(self.steps)
        taken = self._disk.taken
        done = await self._asking(
            f"row {id} of {conv_id}", self._service.emit(conv_id, EventRequest("note", id, {"v": value}))
        )
        may_be = self._events.setdefault((conv_id, f"event:note:{id}"), [None])
        _may_be(may_be, value, bool(done), self._disk.taken > taken)
        if (rows := await self._rows(conv_id)) is not None:
            self._check_events(conv_id, rows)

    async def _read(self) -> None:
        conv_id = self._conversation()
        spared = self._disk.spares_reads and conv_id in self._pages
        rows = await self._rows(conv_id)
        listed = await self._asking("the list", self._service.conversations())
        if spared and self._disk.spares_reads and (rows is None or listed is None):
            raise Broken("a disk that only refuses writes keeps from reading")

    async def _restart(self) -> None:
        self._note("restart")
        await self._within(self._service.close(), "the chat's end")
        self._start()
        await self._asking("start", self._service.start())

    async def _crash(self) -> None:
        """The host is killed, and another one begins with what is on the disk."""
        self._note("killed")
        self._model.alive = False
        killed, model, disk = self._service, self._model, self._disk
        folder = self._folder / str(len(self.steps))
        folder.mkdir()
        if self._file.exists():
            self._file = copied(self._file, folder)
            self._check_file()
        else:
            self._file = folder / self._file.name
        self._disk = Disk(self._file)
        self._start()
        disk.dead = False
        disk.heal()
        model.gate.set()
        await self._within(killed.close(), "the end of one that is dead already")
        await self._asking("start", self._service.start())

    # -- the end -------------------------------------------------------------------------------------

    async def _come_to_an_end(self) -> None:
        """Once the disk is well: what was accepted comes to its end, and what is shown is what is stored."""
        self._note("the disk is well; to an end")
        self._disk.heal()
        if self._store.notices:  # damage, or no right to write, is looked at anew by the next host
            await self._restart()
        async with _patience("all can be read, with a disk that is well"):
            # What began before may still fail, or be the end of the disk. The list comes from the disk.
            while None in [
                await self._asking("the list", self._service.conversations()),
                *[await self._rows(conv_id) for conv_id in self._order],
            ]:
                if self._disk.dead:
                    await self._crash()
                await asyncio.sleep(0.005)
        for prompt in self._prompts:
            if prompt.run_id is None and (prompt.unsure or self._random.random() < 0.5):
                await self._send(prompt)
                if prompt.run_id is None:
                    raise Broken(f"{prompt.mark} is refused again, with a disk that is well")
        for conv_id in self._order:
            await self._until_ended(conv_id)
            last = Prompt(len(self._prompts), conv_id, "say", 0)
            self._prompts.append(last)
            await self._send(last)
            if last.run_id is None:
                raise Broken(f"{conv_id} takes nothing, with a disk that is well")
            await self._until_ended(conv_id)
            await self._within(self._service.stop(conv_id, None), "what is left to store")
        shown = {conv_id: await self._rows(conv_id) or [] for conv_id in self._order}
        for conv_id, rows in shown.items():
            await self._check_page(conv_id, rows)
        await self._within(self._service.close(), "the chat's end")
        self._check_file()
        store = SQLiteStore(self._file)
        for conv_id, rows in shown.items():
            loaded = await store.load(conv_id)
            assert loaded is not None
            stored = [dict(entity(row)) for row in loaded.rows]
            if stored != rows:
                raise Broken(f"{conv_id} is shown as {_brief(rows)}, and stored as {_brief(stored)}")
            if loaded.settings not in self._settings[conv_id]:
                raise Broken(f"{conv_id} has the settings {loaded.settings}, not {self._settings[conv_id]}")
            self._check_prompts(conv_id, rows)
            self._check_events(conv_id, rows)
        await store.close()

    async def _until_ended(self, conv_id: str) -> None:
        async with _patience(f"{conv_id} comes to its end", self._open_rows):
            while True:
                self._model.gate.set()
                rows = await self._rows(conv_id)
                if rows is None:
                    raise Broken(f"{conv_id} can't be read, with a disk that is well")
                self._open = [row for row in rows if row["props"].get("status") in _OPEN]
                if not self._open:
                    return
                for row in rows:
                    if row["kind"] == "tool_call" and row["props"]["status"] == "asking":
                        await self._answer(conv_id, row, "deny")
                await asyncio.sleep(0.005)

    def _open_rows(self) -> str:
        return ", ".join(
            f"{row['props'].get('prompt', '')[:8]} is {row['props']['status']}" for row in self._open
        )

    def _check_prompts(self, conv_id: str, rows: list[dict[str, Any]]) -> None:
        there = [text for row in rows if (text := _prompt(row)) is not None]
        if twice := [text for text, count in Counter(there).items() if count > 1]:
            raise Broken(f"{twice[0][:12]!r} is there twice")
        accepted = [each.request.prompt for each in self._order[conv_id] if not each.unsure]
        kept = [text for text in there if text in accepted]
        if kept != accepted:
            raise Broken(f"accepted were {_marks(accepted)}, stored are {_marks(kept)}")
        for prompt in self._prompts:
            if prompt.conv_id != conv_id:
                continue
            asked, wiped = self._asked[prompt.mark], self._wiped[prompt.mark]
            if prompt.run_id is None and (asked or prompt.request.prompt in there):
                raise Broken(f"{prompt.mark} was refused, is stored or was sent to the model {asked} times")
            if asked > 1 or wiped > (prompt.mark in self._allowed):
                raise Broken(f"the model was sent {prompt.mark} {asked} times, its tool called {wiped} times")
        for row in rows:
            if (said := self._ended.get(row["id"])) and row["props"]["status"] != said:
                raise Broken(f"a run was said to be {said}, and is {row['props']['status']}")

    def _check_events(self, conv_id: str, rows: list[dict[str, Any]]) -> None:
        found = {row["id"]: row["props"]["v"] for row in rows if row["kind"] == "note"}
        for (conv, id), may_be in self._events.items():
            if conv == conv_id and found.get(id) not in may_be:
                raise Broken(f"{id} of {conv_id} is {found.get(id)}, not one of {may_be}")

    async def _check_page(self, conv_id: str, rows: list[dict[str, Any]]) -> None:
        """A page that has read all the time has seen every row as it is."""
        page = self._pages[conv_id]
        want: dict[str, int] = {}
        seen: dict[str, int] = {}

        def behind() -> str:
            return f"{len(page.frames)} frames; {set(want.items()) ^ set(seen.items())}"

        async with _patience(f"a page sees what is stored of {conv_id}", behind):
            while True:
                seen = {
                    event["id"]: event["seq"]
                    for event in (frame["event"] for frame in page.frames)
                    if "seq" in event
                }
                want = {row["id"]: row["version"] for row in rows if row["id"] in seen}
                if want == seen:
                    return
                await asyncio.sleep(0.005)

    def _check_file(self) -> None:
        for breach in verify(self._file).breaches:
            raise Broken(
                f"the file breaks {breach.rule!r}: {breach.id} of {breach.conv_id}: {breach.sentence}"
            )

    # -- parts ---------------------------------------------------------------------------------------

    def _start(self) -> None:
        def double(mark: str) -> str:
            return mark * 2

        def wipe(mark: str) -> str:
            self._wiped[mark] += model.alive
            return "wiped"

        model = self._model = Model(self._asked)
        self._store = SQLiteStore(self._file)
        tools = ToolRegistry((function_tool(tool(read_only=True)(double)), function_tool(tool(wipe))))
        self._service = ChatService(
            Environment(
                engine=model,
                store=self._store,
                profiles=Profiles(Profile(slug="default", tools=tools.names)),
                tools=tools,
                log=_log,
            )
        )
        self._pages: dict[str, Page] = {}
        """One for each conversation, since it could first be read here."""

    def _conversation(self) -> str:
        return self._random.choice("aab")

    async def _rows(self, conv_id: str) -> list[dict[str, Any]] | None:
        """What is shown of a conversation; None where it can't be read."""
        if conv_id not in self._pages:
            page = Page()
            if await self._asking("join", self._service.join(conv_id, "default", page, append=True)) is None:
                return None
            self._pages[conv_id] = page
        shown = await self._asking("rows", self._service.timeline(TimelineQuery(conv_id)))
        return None if shown is None else [dict(row) for row in shown[0].entities]

    async def _asking(self, what: str, call: Awaitable[T]) -> T | None:
        """The answer; None where the disk is the reason that there is none."""
        try:
            answer = await self._within(call, what)
        except StoreUnavailable as error:
            self._note(f"{what}: {error}")
            return None
        except (Conflict, NotFound) as error:  # a decision that comes too late
            self._note(f"{what}: {error.code}")
            return None
        self._note(what)
        return answer

    async def _within(self, call: Awaitable[T], what: str) -> T:
        async with _patience(what):
            return await call

    def _note(self, step: str) -> None:
        if step not in ("rows", "join"):
            self.steps.append(step)


@asynccontextmanager
async def _patience(what: str, state: Callable[[], str] = str) -> AsyncIterator[None]:
    """Raise Broken where something takes too long; `state` says how far it is."""
    try:
        async with asyncio.timeout(_PATIENCE):
            yield
    except TimeoutError:
        raise Broken(f"not within {_PATIENCE:g} s: {what} {state()}") from None


async def _true(call: Awaitable[None]) -> bool:
    await call
    return True


def _may_be(values: list[Any], value: Any, done: object, taken: bool) -> None:
    """What something may be after it was to become `value`."""
    if done:
        values[:] = [value]
    elif taken:
        values.append(value)


def _prompt(row: dict[str, Any]) -> str | None:
    return row["props"].get("prompt") if row["kind"] == "run" else None


def _marks(prompts: list[str]) -> str:
    return " ".join(prompt.split()[0] for prompt in prompts) or "none"


def _brief(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['id'][-14:]} v{row['version']} {row['props'].get('status', '')}" for row in rows)
