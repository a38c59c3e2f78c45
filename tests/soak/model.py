"""A conversation, its readers and its disk, moved by steps; what must hold is looked at all the way.

The runtime is the real one, from the service to the file; the schedule has its clock, its disk and the lines
to its readers in its hand, and speaks in the place of the runs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.soak.line import Reader
from tests.soak.speaker import Speaker
from tests.soak.twin import Answer
from tests.soak.virtual import SteppedStore
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import WebChatError
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.requests import TimelineQuery
from webchat_widget.runtime.conversation import Conversation
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import RESTARTING, Connection
from webchat_widget.runtime.pool import Reader as FarEnd
from webchat_widget.runtime.service import ChatService
from webchat_widget.sem.frames import MAX_SEQ, Control
from webchat_widget.timeline.entities import Row, entity
from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.typing import Entity

__all__ = ["NOW_MS", "World"]

_LOG = logging.Logger("schedules", logging.CRITICAL + 1)
"""What a disk that fails makes the host say is no news here."""
NOW_MS = 1_763_501_040_000
_SERVER = "server.sqlite"
_KERNELS = "conversations"
_NOWHERE = Path("there is no such folder")
_ROUNDS = 200
"""So many times a reader may ask in a calm world until it has all."""
_SURE_SECONDS = 0.26
"""A text that was said so long ago is on disk, where nothing is wrong with that."""
_RETRIED_SECONDS = 3.0
"""By then what the disk had refused is tried again."""
_LONG = re.compile(r"-?\d{16,}")
_IN_PIECES = ("llm.delta", "llm.thinking.delta", "thinking.mode.update")


class _Serving(NamedTuple):
    """A host: a process that has the conversation, or had it."""

    service: ChatService
    store: SteppedStore
    epoch: str


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
        self._tasks: set[asyncio.Task[bool]] = set()
        self._faults: list[str] = []
        self._said: list[tuple[float, str, int]] = []
        """When a text was so long, in code points: later it must be on disk."""
        self._server = self._serve(self._store_at(folder and folder / _SERVER))
        self._kernel: _Serving | None = None
        """Who has the conversation while it is away from the server."""
        self._live: Conversation | None = None
        self._watcher = Reader(self, append=True, page_size=400)
        """Somebody who is always there, so that the conversation is not let go."""
        self.speaker = Speaker(self._emit)

    @property
    def store(self) -> SteppedStore:
        """Where the conversation is now."""
        return self._here.store

    async def open(self) -> None:
        """Have the conversation in memory."""
        self.store.release()
        self._live = await self._here.service._manager.get("c")
        self.store.durable.update(_versions(self._live.stream.timeline.rows()))
        await self._watcher.join()
        self.speaker.begin(self._live)

    # -- what happens --------------------------------------------------------------------------------

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)
        self._watcher.skip()

    async def idle(self) -> None:
        """Let everything happen that needs no time."""
        await asyncio.sleep(1e-6)

    async def join(self, *, append: bool, page_size: int) -> None:
        """Another page."""
        reader = Reader(self, append=append, page_size=page_size)
        self.readers.append(reader)
        await reader.join()

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
        """The process is killed: the disk has what it had at that moment, and readers get what is on its way,
        the last `words`, or not even that. Then another one begins, and finds all that was promised."""
        died, store = self._leave(words=words), self.store
        sure, self._said = self._sure(), []
        image = self._image(store)
        store.die()
        await died.abandon()
        for task in tuple(self._tasks):
            task.cancel()
        await self.idle()
        for reader in self.readers:
            reader.twin.bereaved(self._here.epoch, store.durable.keys() - store.refused.keys())
        new = self._serve(self._reborn(store, image))
        if self._kernel is not None:
            self._kernel = new
        else:
            self._server = new
        loaded = await new.store.load("c")
        rows = {row["id"]: row for row in loaded.rows} if loaded else {}
        for id, version in store.durable.items():
            assert id in rows, f"{id} was on disk before the crash"
            assert rows[id]["version"] >= version, f"{id} was on disk at {version}"
        for id, length in sure:
            assert len(_text(rows[id])) >= length, f"{length} characters of {id} were said long before"
        await self.open()

    async def evict(self) -> None:
        """Everybody leaves, and the conversation is let go; then it is read back."""
        self.speaker.finish_all()
        await self._well()
        for reader in (*self.readers, self._watcher):
            reader.cut()
        self._live = None
        settings = RuntimeSettings()
        await asyncio.sleep(settings.pool.idle_timeout + settings.evict_after + 1)
        assert self._here.service._manager.live("c") is None, "an idle conversation is let go"
        await self.open()

    async def move(self) -> None:
        """The conversation goes to a kernel, or comes back; where it has no file, it stays."""
        if self.folder is None:
            return
        await self._well()
        self._leave(words=True)
        if self._kernel is None:
            await self._server.service.hand_over("c")
            self._kernel = self._serve(self._store_at(conversation_file(self.folder / _KERNELS, "c")))
        else:
            await self._kernel.service.close()
            self._kernel = None
        await self.open()

    # -- what readers are connected to ---------------------------------------------------------------

    async def connect(self, reader: FarEnd, *, append: bool) -> Connection:
        """Open a stream."""
        return await self._here.service.join("c", "default", reader, append=append)

    def disconnect(self, connection: Connection) -> None:
        """The reader of a stream is gone."""
        if self._live is not None:
            self._live.pool.remove(connection)

    def pong(self) -> Control:
        """The answer to a ping."""
        return self._here.service.pong("c")

    async def page(self, query: TimelineQuery) -> Answer:
        """GET /timeline, as it comes over the wire."""
        page, epoch = await self._here.service.timeline(query)
        return Answer(query, _wire(page.entities), page.version, page.more, epoch)

    def saw(self, reader: Reader, frame: str) -> None:
        """A frame is being sent: what it says must be so."""
        try:
            self._judge(reader, frame)
        except Exception as fault:  # nobody asks the task that sends
            self._faults.append(f"{type(fault).__name__}: {fault}")

    def _judge(self, reader: Reader, text: str) -> None:
        frame = msgspec.json.decode(text)
        event = frame["event"]
        id, seq = event["id"], event.get("seq")
        reader.counted(frame["n"], seq)
        for number in _LONG.findall(text):
            assert abs(int(number)) <= MAX_SEQ, f"{number} is not exact in JavaScript"
        if event["type"] in _IN_PIECES or "append" in event["data"]:
            row = self._live.stream.timeline.row(id) if self._live is not None else None
            if row is not None:
                self._said.append((self._loop.time(), id, len(_text(row))))
        elif seq is not None:
            told = max(self.store.durable.get(id, 0), self.store.refused.get(id, 0))
            assert told >= seq, f"{event['type']} {id} was sent before the disk had it"

    # -- what must hold ------------------------------------------------------------------------------

    def check(self) -> None:
        """What holds at any time."""
        assert not self._faults, self._faults[0]
        assert self._live is not None
        entities, _ = self._live.stream.snapshot()
        last = 0
        for each in entities:
            assert last < each["createdSeq"] <= each["version"], f"{each['id']} is out of its order"
            last = each["createdSeq"]

    async def calm(self) -> list[Entity]:
        """Nothing disturbs any more: then everybody sees the same, and so does who comes now. Returns it."""
        assert self._live is not None
        for reader in self.readers:
            reader.unstall()
        await self._well()
        await self.wait(_RETRIED_SECONDS)
        await self._live.stream.flush()
        fresh = Reader(self, append=True, page_size=5000)
        await fresh.join()
        for reader in (*self.readers, fresh):
            await self._catch_up(reader)
        rows = _wire(self._live.stream.snapshot()[0])
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
        for each in filter(None, (self._kernel, self._server)):
            await each.service.close()
        if self.folder is None:
            return []
        return [
            f"{file.name}: {breach.id}: {breach.rule}: {breach.sentence}"
            for file in (self.folder / _SERVER, self.folder / _KERNELS / "c.sqlite")
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

    @property
    def _here(self) -> _Serving:
        return self._kernel or self._server

    def _store_at(self, file: Path | None, *, heir_of: SteppedStore | None = None) -> SteppedStore:
        """The server's store, which takes in what a kernel left, or a kernel's."""
        if self.folder is None or file is None:
            return SteppedStore(":memory:", _NOWHERE, heir_of=heir_of)
        file.parent.mkdir(exist_ok=True)
        return SteppedStore(file, _NOWHERE if file.parent.name == _KERNELS else self.folder / _KERNELS)

    def _serve(self, store: SteppedStore) -> _Serving:
        env = Environment(
            engine=ScriptedEngine("Here I am \N{GRINNING FACE}.", "And here.", "Once more."),
            store=store,
            profiles=Profiles(Profile(slug="default", tools=())),
            tools=ToolRegistry(()),
            now_ms=lambda: self._began + int(self._loop.time() * 1000),
            log=_LOG,
        )
        service = ChatService(env)
        self._epochs += 1
        service._epoch = f"epoch {self._epochs}"  # the same one whenever the schedule is played
        return _Serving(service, store, service._epoch)

    def _sure(self) -> list[tuple[str, int]]:
        """Texts, and how much of each must be on disk by now, as far as the disk was well."""
        now, well = self._loop.time(), self.store.well_since
        if self.store.held:
            return []
        return [(id, length) for at, id, length in self._said if well < at <= now - _SURE_SECONDS]

    async def _well(self) -> None:
        """The disk works again, and has taken all that was handed in."""
        self.store.faults = 0
        self.store.release()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _leave(self, *, words: bool) -> Conversation:
        """The host hangs up on everybody, and has the conversation no longer."""
        live, self._live = self._live, None
        assert live is not None
        live.pool.close(RESTARTING, "gone")
        for reader in self.readers if not words else ():
            reader.cut()
        self._watcher.cut()
        return live

    def _image(self, store: SteppedStore) -> dict[Path, bytes]:
        """What a crash leaves of a file: the file, and its -wal."""
        if self.folder is None:
            return {}
        files = [Path(store.path + suffix) for suffix in ("", "-wal")]
        return {file: file.read_bytes() for file in files if file.exists()}

    def _reborn(self, died: SteppedStore, image: dict[Path, bytes]) -> SteppedStore:
        """The store of the next process."""
        if self.folder is None:
            return self._store_at(None, heir_of=died)
        died.drop()
        file = Path(died.path)
        Path(died.path + "-wal").unlink(missing_ok=True)
        for each, content in image.items():
            each.write_bytes(content)
        breaches = verify(file).breaches if file.exists() else []
        assert not breaches, f"after the crash: {breaches[0]}"
        return self._store_at(file)

    def _emit(self, emitted: Awaitable[Any]) -> asyncio.Task[bool]:
        """Whether what a run says, and nobody waits for, is on disk."""

        async def done() -> bool:
            try:
                await emitted
            except WebChatError:
                return False
            return True

        task = asyncio.create_task(done())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.append(f"{type(error).__name__}: {error}")


def _wire(entities: list[Entity]) -> Any:
    """As they come out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(entities))


def _versions(rows: Iterable[Row]) -> dict[str, int]:
    return {row["id"]: row["version"] for row in rows}


def _text(row: Any) -> str:
    props = row["props"]
    return str(props.get("content") or props.get("stdout") or props.get("reasoning") or "")


def _difference(who: str, has: list[Entity], host: list[Entity]) -> str:
    mine, theirs = ({each["id"]: each for each in rows} for rows in (has, host))
    for id in [*theirs, *mine]:
        if mine.get(id) != theirs.get(id):
            return f"{who} has {mine.get(id)}, and the host {theirs.get(id)}"
    return f"{who} has another order: {list(mine)}, and the host {list(theirs)}"
