"""A conversation, its readers and its disk, moved by steps; what must hold is looked at all the way.

The runtime is the real one, from the service to the file; the schedule has its clock, its disk and the lines
to its readers in its hand, and speaks in the place of the runs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from tests.soak.speaker import Speaker
from tests.soak.twin import Answer, Twin
from tests.soak.virtual import SteppedStore
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import WebChatError
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import TimelineQuery
from webchat_widget.runtime.conversation import Conversation
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import Connection
from webchat_widget.runtime.service import ChatService
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.timeline.entities import entity
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.typing import Entity, JSONObject

__all__ = ["Reader", "World"]

_LOG = logging.Logger("schedules", logging.CRITICAL + 1)
"""What a disk that fails makes the host say is no news here."""
NOW_MS = 1_763_501_040_000
_KERNELS = "conversations"
_NOWHERE = Path("there is no such folder")
_ROUNDS = 200
"""So many times a reader may ask in a calm world until it has all."""
_SURE_SECONDS = 0.26
"""A text that was said so long ago is on disk, where nothing is wrong with that."""
_LONG = re.compile(r"-?\d{16,}")
_IN_PIECES = ("llm.delta", "llm.thinking.delta", "thinking.mode.update")


class Reader:
    """A page, its line to the host, and the tape of all that came to it.

    What the host sends waits on the line until a step delivers it; an answer is taken from the host by one
    step, and arrives by another.
    """

    def __init__(self, world: World, *, append: bool, page_size: int) -> None:
        self.twin = Twin(page_size)
        self.append = append
        self.tape: list[JSONObject] = []
        self.stalled = False
        self._world = world
        self._connection: Connection | None = None
        self._line: deque[str | int] = deque()
        """Frames, and the code with which the host hung up."""
        self._answers: deque[Answer] = deque()
        self._room = asyncio.Event()
        self._n = self._seq = 0

    @property
    def joined(self) -> bool:
        """There is a line, though the host may have hung up already."""
        return self._connection is not None

    @property
    def settled(self) -> bool:
        """It has all that was sent, and asks for nothing."""
        return self.joined and self.twin.live and not (self._line or self._answers or self.twin.requests)

    async def join(self) -> None:
        """Open a stream."""
        self._n = self._seq = 0
        self._line.clear()
        self.twin.opened()
        self.tape.append({"do": "open"})
        self._connection = await self._world.service.join("c", "default", self, append=self.append)

    # -- what the host calls -------------------------------------------------------------------------

    async def send(self, frame: str) -> None:
        """Take a frame, when there is room for it."""
        while self.stalled:
            self._room.clear()
            await self._room.wait()
        self._world.saw(self, frame)
        self._line.append(frame)

    @property
    def taken(self) -> int:
        """How many frames it had room for."""
        return self._n

    def sent(self) -> list[JSONObject]:
        """The events on the line."""
        return [msgspec.json.decode(frame)["event"] for frame in self._line if isinstance(frame, str)]

    def skip(self) -> None:
        """Look at nothing that came."""
        self._line.clear()

    def close(self, code: int, reason: str) -> None:
        """The host hangs up."""
        self._line.append(code)

    def counted(self, n: int, seq: int | None) -> None:
        """Look at the numbers of a frame that was sent."""
        assert n == self._n + 1, f"n is {n} after {self._n}"
        assert seq is None or seq > self._seq, f"seq is {seq} after {self._seq}"
        self._n, self._seq = n, seq or self._seq

    # -- what a schedule does ------------------------------------------------------------------------

    def deliver(self, most: int, fault: str = "") -> None:
        """Bring frames over the line: `lose` the first one, bring it `twice`, or `late`, behind the next."""
        line = self._line
        if fault and line and isinstance(line[0], str) and "ws.hello" not in line[0]:
            first = line.popleft()
            if fault == "twice":
                line.extendleft((first, first))
            elif fault == "late" and line and isinstance(line[0], str):
                line.insert(1, first)
        for _ in range(min(most, len(line))):
            if not self.joined:
                return
            came = line.popleft()
            if isinstance(came, int):
                self._ended({4408: "slow", 1001: "restart"}[came])
            else:
                self.tape.append({"do": "frame", "frame": msgspec.Raw(came.encode())})
                self.twin.message(msgspec.json.decode(came))
                self._hang_up_if_done()

    async def ask(self) -> None:
        """Have the host answer what was asked first and is not answered yet."""
        waiting = [query for query in self.twin.requests if query not in [a.query for a in self._answers]]
        if waiting:
            self._answers.append(await self._world.page(waiting[0]))

    async def follow(self) -> None:
        """Bring all that is on the line, have what it asks for answered, and bring that."""
        self.deliver(len(self._line))
        await self.ask()
        self.arrive()

    def arrive(self) -> None:
        """Bring the first answer."""
        if self._answers and self.joined:
            answer = self._answers.popleft()
            self.tape.append({"do": "answer", **structs.asdict(answer), "query": _asked(answer.query)})
            self.twin.answer(answer)
            self._hang_up_if_done()

    def earlier(self) -> None:
        """A person scrolls up."""
        if self.joined and self.twin.ask_earlier():
            self.tape.append({"do": "earlier"})

    def cut(self) -> None:
        """The line breaks, with all that is on it."""
        if self.joined:
            self._ended("lost")

    def unstall(self) -> None:
        """It takes frames again."""
        self.stalled = False
        self._room.set()

    def ping(self) -> None:
        """Ask how far the host is."""
        if self._connection is not None:
            self._connection.answer(self._world.service.pong("c"))

    def _ended(self, reason: str) -> None:
        self.tape.append({"do": "close", "reason": reason})
        self._hang_up()
        self.twin.closed()

    def _hang_up_if_done(self) -> None:
        if self.twin.hung_up:
            self._hang_up()

    def _hang_up(self) -> None:
        self.unstall()
        connection, self._connection = self._connection, None
        self._line.clear()
        self._answers.clear()
        if connection is not None and (live := self._world.live) is not None:
            live.pool.remove(connection)
        self._line.clear()


class World:
    """One conversation `c`, on a database without a file, or in `folder`. `now_ms` is when it begins.

    AssertionError where something that must hold does not.
    """

    def __init__(self, folder: Path | None = None, *, now_ms: int = NOW_MS) -> None:
        self.folder = folder
        self.readers: list[Reader] = []
        self._loop = asyncio.get_running_loop()
        self._began = now_ms
        self._epochs = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[str] = []
        self._said: list[tuple[float, str, int]] = []
        """When a text was so long, in code points: later it must be on disk."""
        self._kernel: SteppedStore | None = None
        """Where the conversation is while a kernel has it."""
        self._server = self._store_at(self._file("server.sqlite"))
        self.service = self._serve(self._server)
        self.live: Conversation | None = None
        self.speaker = Speaker(self._emit)

    @property
    def store(self) -> SteppedStore:
        """Where the conversation is now."""
        return self._kernel or self._server

    async def open(self) -> None:
        """Have the conversation in memory, with a reader that is always there, so that it stays."""
        self.store.release()
        self.live = await self.service._manager.get("c")
        self.watcher = Reader(self, append=True, page_size=400)
        await self.watcher.join()
        self.speaker.begin(self.live)

    # -- what happens to the host --------------------------------------------------------------------

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)
        self.watcher.skip()

    async def idle(self) -> None:
        """Let everything happen that needs no time."""
        await asyncio.sleep(1e-6)

    def set_clock(self, ms: int) -> None:
        """Somebody sets the time of day."""
        self._began += ms

    def fail(self, batches: int) -> None:
        """The disk refuses the next batches."""
        self.store.faults = batches

    def hold(self) -> None:
        """The disk takes its time."""
        self.store.held = True

    async def crash(self, *, words: bool) -> None:
        """The process is killed: the disk has what it had at that moment, readers what was on its way, or not
        even that. Then another one begins, and finds all that was promised."""
        old = self.store
        self._leave(words=words)
        promised = dict(old.durable)
        sure = self._sure()
        self._said.clear()
        image = self._image(old)
        old.die()
        await self._abandon()
        for reader in self.readers:
            reader.twin.bereaved(promised.keys() - old.refused.keys())
        new = self._reborn(old, image)
        if self._kernel is not None:
            self._kernel = new
        else:
            self._server = new
        loaded = await new.load("c")
        rows = {row["id"]: row for row in loaded.rows} if loaded else {}
        for id, version in promised.items():
            assert id in rows, f"{id} was on disk before the crash"
            assert rows[id]["version"] >= version, f"{id} was on disk at {version}"
        for id, length in sure:
            assert len(_text(rows[id])) >= length, f"{length} characters of {id} were said long before"
        self.service = self._serve(new)
        await self.open()

    async def evict(self) -> None:
        """Everybody leaves, and the conversation is let go; then it is read back."""
        self.store.faults = 0
        self.store.release()
        self.speaker.finish_all()
        await self._done()
        for reader in self.readers:
            reader.cut()
        live = self.live
        assert live is not None
        self.live = None
        live.pool.remove(self.watcher._connection)  # type: ignore[arg-type]
        settings = RuntimeSettings()
        await asyncio.sleep(settings.pool.idle_timeout + settings.evict_after + 1)
        assert self.service._manager.live("c") is None, "an idle conversation is let go"
        await self.open()

    async def move(self) -> None:
        """The conversation goes to a kernel, or comes back."""
        if self.folder is None:
            return
        self.store.faults = 0
        self.store.release()
        await self._done()
        self._leave(words=True)
        if self._kernel is None:
            await self.service.hand_over("c")
            self._kernel = self._store_at(conversation_file(self.folder / _KERNELS, "c"))
            self._moved_from, self.service = self.service, self._serve(self._kernel)
        else:
            await self.service.close()
            self._kernel, self.service = None, self._moved_from
        await self.open()

    # -- what readers ask, and are sent --------------------------------------------------------------

    async def join(self, *, append: bool, page_size: int) -> None:
        """Another page."""
        reader = Reader(self, append=append, page_size=page_size)
        self.readers.append(reader)
        await reader.join()

    async def page(self, query: TimelineQuery) -> Answer:
        """GET /timeline, as it comes over the wire."""
        page, epoch = await self.service.timeline(query)
        return Answer(query, _wire(page.entities), page.version, page.more, epoch)

    def saw(self, reader: Reader, text: str) -> None:
        """A frame is being sent: what it says must be so."""
        try:
            self._judge(reader, text)
        except Exception as fault:  # nobody asks the task that sends
            self._faults.append(f"{type(fault).__name__}: {fault}")

    def _judge(self, reader: Reader, text: str) -> None:
        frame = msgspec.json.decode(text)
        event = frame["event"]
        seq = event.get("seq")
        reader.counted(frame["n"], seq)
        for number in _LONG.findall(text):
            assert abs(int(number)) <= MAX_SEQ, f"{number} is not exact in JavaScript"
        pieces = event["type"] in _IN_PIECES or "append" in event["data"]
        if seq is None:
            return
        if pieces:
            live, id = self.live, event["id"]
            row = live.stream.timeline.row(id) if live else None
            if row is not None:
                self._said.append((self._loop.time(), id, len(_text(row))))
            return
        on_disk = max(self.store.durable.get(event["id"], 0), self.store.refused.get(event["id"], 0))
        assert on_disk >= seq, f"{event['type']} {event['id']} was sent before the disk had it"

    # -- what must hold ------------------------------------------------------------------------------

    def check(self) -> None:
        """What holds at any time."""
        assert not self._faults, self._faults[0]
        if self.live is None:
            return
        entities, _ = self.live.stream.snapshot()
        last = 0
        for each in entities:
            assert last < each["createdSeq"] <= each["version"], f"{each['id']} is out of its order"
            last = each["createdSeq"]

    async def calm(self) -> list[Entity]:
        """Nothing disturbs any more: then everybody sees the same, and so does who comes now. Returns it."""
        assert self.live is not None
        self.store.faults = 0
        self.store.release()
        for reader in self.readers:
            reader.unstall()
        await self._done()
        await self.wait(3)
        await self.live.stream.flush()
        fresh = Reader(self, append=True, page_size=5000)
        await fresh.join()
        for reader in (*self.readers, fresh):
            await self._catch_up(reader)
        rows = _wire(self.live.stream.snapshot()[0])
        loaded = await self.store.load("c")
        stored = _wire([entity(row) for row in loaded.rows]) if loaded else []
        assert stored == rows, _difference("the disk", stored, rows)
        for number, reader in enumerate((*self.readers, fresh)):
            shown = reader.twin.shown()
            assert shown == rows, _difference(f"reader {number}", shown, rows)
        fresh.cut()
        self.check()
        return rows

    async def end(self) -> list[str]:
        """Close everything; what is wrong with the files that are left."""
        await self.service.close()
        if self._kernel is not None:
            await self._moved_from.close()
        if self.folder is None:
            return []
        return [
            f"{file.name}: {breach.id}: {breach.rule}: {breach.sentence}"
            for file in (self.folder / "server.sqlite", self.folder / _KERNELS / "c.sqlite")
            if file.exists()
            for breach in verify(file).breaches
        ]

    async def _catch_up(self, reader: Reader) -> None:
        pinged = False
        for _ in range(_ROUNDS):
            if not reader.joined:
                await reader.join()
            await self.wait(0.02)
            reader.deliver(10_000)
            await reader.ask()
            reader.arrive()
            if reader.settled and not pinged:
                pinged = True
                reader.ping()
            elif reader.settled and reader.twin.floor:
                reader.earlier()
            elif reader.settled:
                await self.wait(0.02)
                if reader.settled:
                    return
        raise AssertionError(f"a reader never comes to its end: {reader.twin.requests}")

    # -- parts ---------------------------------------------------------------------------------------

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _store_at(self, file: Path | None, *, heir_of: SteppedStore | None = None) -> SteppedStore:
        """The server's store, which takes in what a kernel left, or a kernel's."""
        if self.folder is None or file is None:
            return SteppedStore(":memory:", _NOWHERE, heir_of=heir_of)
        file.parent.mkdir(exist_ok=True)
        return SteppedStore(file, _NOWHERE if file.parent.name == _KERNELS else self.folder / _KERNELS)

    def _serve(self, store: SteppedStore) -> ChatService:
        profile = Profile(slug="default", tools=())
        service = ChatService(
            Environment(
                engine=ScriptedEngine("Here I am \N{GRINNING FACE}.", "And here.", "Once more."),
                store=store,
                profiles=Profiles(profile),
                tools=ToolRegistry(()),
                now_ms=self._now_ms,
                log=_LOG,
            )
        )
        self._epochs += 1
        service._epoch = f"epoch {self._epochs}"
        return service

    def _now_ms(self) -> int:
        return self._began + int(self._loop.time() * 1000)

    def _sure(self) -> list[tuple[str, int]]:
        """Texts, and how much of each must be on disk by now, as far as the disk was well."""
        now, well = self._loop.time(), self.store.well_since
        if self.store.held:
            return []
        return [(id, length) for at, id, length in self._said if well < at <= now - _SURE_SECONDS]

    def _leave(self, *, words: bool) -> None:
        """The host that had the conversation is gone for its readers."""
        live = self.live
        assert live is not None
        self.live = None
        for connection in tuple(live.pool._connections):
            live.pool.remove(connection)
        if not words:
            for reader in self.readers:
                reader.cut()
        self._lost = live

    async def _abandon(self) -> None:
        await self._lost.abandon()
        for task in tuple(self._tasks):
            task.cancel()
        await self.idle()

    def _image(self, store: SteppedStore) -> dict[Path, bytes]:
        """What a crash leaves of a file: the file, and its -wal."""
        if self.folder is None:
            return {}
        files = [Path(store.path + suffix) for suffix in ("", "-wal")]
        return {file: file.read_bytes() for file in files if file.exists()}

    def _reborn(self, old: SteppedStore, image: dict[Path, bytes]) -> SteppedStore:
        if self.folder is None:
            return self._store_at(None, heir_of=old)
        if old._db is not None:
            old._db.close()
        Path(old.path + "-wal").unlink(missing_ok=True)
        for file, content in image.items():
            file.unlink(missing_ok=True)
            file.write_bytes(content)
        return self._store_at(Path(old.path))

    def _emit(self, emitted: Awaitable[Any] | Coroutine[Any, Any, Any]) -> asyncio.Task[bool]:
        """Whether what a run says, and nobody waits for, is on disk."""

        async def done() -> bool:
            try:
                await emitted
            except WebChatError:
                return False
            return True

        task = asyncio.create_task(done())
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.append(f"{type(error).__name__}: {error}")

    async def _done(self) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))


def _asked(query: TimelineQuery) -> JSONObject:
    """Only what is named, as the page has it."""
    named = {"since": query.since, "limit": query.limit, "before": query.before}
    asked = {name: value for name, value in named.items() if value is not None}
    return {**asked, "unfinished": True} if query.unfinished else asked


def _wire(entities: list[Entity]) -> Any:
    """As they come out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(entities))


def _text(row: Any) -> str:
    props = row["props"]
    return str(props.get("content") or props.get("stdout") or props.get("reasoning") or "")


def _difference(who: str, has: list[Entity], host: list[Entity]) -> str:
    mine, theirs = ({each["id"]: each for each in rows} for rows in (has, host))
    for id in [*theirs, *mine]:
        if mine.get(id) != theirs.get(id):
            return f"{who} has {mine.get(id)}, and the host {theirs.get(id)}"
    return f"{who} has another order: {list(mine)}, and the host {list(theirs)}"
