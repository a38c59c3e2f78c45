"""The stream of one conversation: the only writer of `seq`, and of rows.

An event is numbered, translated, projected, stored, and sent, in this order. Every frame but a delta is on
disk before it is sent; deltas run ahead of the disk, but never ahead of a frame that came before them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from webchat_widget.errors import WebChatError
from webchat_widget.events import CallOutput, RunEvent, TextDelta, ThinkingModeDelta
from webchat_widget.sem.frames import Delta, Frame
from webchat_widget.sem.translator import translate
from webchat_widget.timeline.entities import Row, entity
from webchat_widget.timeline.projector import Projector, makes_and_changes
from webchat_widget.timeline.store import Batch, TimelineStore, TurnRecord
from webchat_widget.typing import Entity

__all__ = ["RunSink", "StreamCoordinator"]

_WRITE_SECONDS = 0.25
"""Streaming text is written at most this often (docs/contract.md, 8)."""
_RETRY_SECONDS = 2.0
"""A write that failed is tried again after this, unless another comes first."""

_Held = dict[str, tuple[int, Row | None]]
"""By id: the seq that a row waits with, and the row as it was before; None where there was none."""


class _Unsent:
    """Frames that wait for the disk, or for those before them. `free`: no longer for the disk."""

    __slots__ = ("frames", "free")

    def __init__(self, frames: tuple[Frame | Delta, ...], *, free: bool) -> None:
        self.frames = frames
        self.free = free


class StreamCoordinator:
    """Numbers, projects, stores and sends the events of one conversation.

    `publish` hands a frame to the readers; `now_ms` is the clock, Unix milliseconds.
    """

    def __init__(
        self,
        conv_id: str,
        store: TimelineStore,
        publish: Callable[[Frame | Delta], None],
        now_ms: Callable[[], int],
        rows: list[Row],
        version: int,
    ) -> None:
        self._conv_id = conv_id
        self._store = store
        self._publish = publish
        self._now_ms = now_ms
        self.timeline = Projector(rows)
        self.version = version
        """The last `seq` that was given out; projected, but not always on disk yet."""
        self.committed = version
        """The last `seq` of a frame that is on disk: readers compare it with what they were sent."""
        self._said = version
        """The last `seq` of a frame that stands; those of records, and of what was undone, lie between."""
        self._dirty: set[str] = set()
        """Rows with text that is not on disk yet."""
        self._owed: dict[str, tuple[Any, ...]] = {}
        """Parts of the next batch: records, and ends of runs and their turns that could not be written."""
        self._tentative: _Held = {}
        """Rows that nobody may see as they are before that is on disk."""
        self._unsent: deque[_Unsent] = deque()
        self._writer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Future[None]] = set()
        """What is on its way to the disk."""
        self._closed = False

    def emit(self, *events: RunEvent, undo: bool = False, **parts: Any) -> Awaitable[None]:
        """Number events at once; done when they, and `parts` of a Batch, are on disk in one transaction.

        Raises TypeError or ValueError at once, and nothing has happened, for what is no JSON;
        StoreUnavailable where they are not on disk. With `undo` the rows are then as they were before and
        nothing is sent: what was not stored was not accepted. Without, they are sent all the same, for a
        person should see what happened, and stored with the next write that succeeds. While a row waits with
        `undo`, nothing else may change it.
        A cancel of the caller does not cancel the write.
        """
        frames = tuple(self._framed(event) for event in events)
        for frame in frames:
            frame.encoded()  # what is no JSON is refused here, before it is in a row that no write would take
        last = self.version if frames else self._said
        self._said = self._said if undo else last
        before: _Held = {}
        for frame in frames:
            id, seq = frame.event["id"], frame.event["seq"]
            before.setdefault(id, (seq, self.timeline.row(id)))
            self.timeline.apply(frame.event)
        held = before if undo else None
        self._tentative.update(held or {})
        saved = self._write(tuple(before), parts, said=last, tentative=held)
        unsent = _Unsent(frames, free=False)
        self._unsent.append(unsent)
        saved.add_done_callback(lambda done: self._saved(done, held or {}, unsent))
        return asyncio.shield(saved)

    def delta(self, event: TextDelta | CallOutput | ThinkingModeDelta) -> None:
        """Send more text of a row that exists. Never waits; costs what is new."""
        text = event.text
        seq = self._said = self._next_seq()
        if isinstance(event, CallOutput):
            type_, name = "tool.delta", "stdout"
        elif isinstance(event, ThinkingModeDelta):
            type_, name = "thinking.mode.update", "reasoning"
        else:
            type_, name = "llm.thinking.delta" if event.role == "thinking" else "llm.delta", "content"
        offset = self.timeline.offset(event.id, name)
        self.timeline.append(event.id, seq, text, name)
        frame = Delta.of(type_, event.id, seq, offset, text)
        self._dirty.add(event.id)
        if self._unsent:
            self._unsent.append(_Unsent((frame,), free=True))
        else:
            self._publish(frame)
        self._write_within(_WRITE_SECONDS)

    def record(self, record: TurnRecord) -> None:
        """Keep what the model was sent or gave: numbered at once, stored with the next batch, or soon. Never
        waits, and nothing is sent."""
        numbered = replace(record, seq=self._next_seq())
        self._owed["records"] = (*self._owed.get("records", ()), numbered)
        self._write_within(_WRITE_SECONDS)

    def snapshot(self) -> tuple[list[Entity], int]:
        """The rows as a reader may see them, and the version up to which they are complete.

        A prompt that is being stored is not accepted yet: its rows are as they were before, and the version
        ends there, so that a reader who asks again from there gets them. Nobody is told a number of what was
        undone: the store does not know it, and after a restart it may be given out again.
        """
        entities = self.timeline.entities()
        if not self._tentative:
            return entities, self._said
        seen = [each for each in entities if each["id"] not in self._tentative]
        seen += [entity(old) for _, old in self._tentative.values() if old is not None]
        seen.sort(key=lambda each: each["createdSeq"])
        return seen, min(self._said, min(seq for seq, _ in self._tentative.values()) - 1)

    def text_of(self, id: str) -> str:
        """The text of a row so far; empty where there is none."""
        row = self.timeline.row(id)
        return str(row["props"].get("content", "")) if row else ""

    def owes_end(self, run_id: str | None) -> bool:
        """Whether the end of that run, or of any, could not be stored yet."""
        owed = self._owed.get("ended", ())
        return bool(owed) if run_id is None else run_id in owed

    async def flush(self) -> None:
        """Write what waits, be it that an earlier write of it failed. Raises StoreUnavailable."""
        whole = False
        while not whole:  # what one of those under way fails to store, a later one may take along
            own = self._write_waiting()
            if under_way := tuple(self._writing):  # later ones are in nobody's way
                await asyncio.wait(under_way)
            if own is not None:
                own.result()
            whole = all(saved.exception() is None for saved in under_way)

    def close(self) -> None:
        """Stop the timer; `flush` first."""
        self._closed = True
        self._stop_writer()

    # -- parts ---------------------------------------------------------------------------------------

    def _framed(self, event: RunEvent) -> Frame:
        framed = translate(event, self._next_seq())
        if makes_and_changes(framed["type"]) and (made_at := self.timeline.made_at(framed["id"])):
            framed["createdSeq"] = made_at
        return Frame(framed)

    def _next_seq(self) -> int:
        self.version = max(self.version + 1, self._now_ms() * 1000)
        return self.version

    def _write(
        self, touched: tuple[str, ...], parts: dict[str, Any], *, said: int, tentative: _Held | None = None
    ) -> asyncio.Future[None]:
        """Hand the rows to the store now, in the order of the calls; done when they are on disk.

        `said` is the last frame's number. What could not be written is kept for the next write: rows,
        records, ends of runs and turns, but nothing of what is `tentative`.
        """
        ids = tuple(dict.fromkeys((*touched, *self._dirty)))
        self._dirty.clear()
        self._stop_writer()
        due, self._owed = self._owed, {}
        parts = {**parts, **{name: (*late, *parts.get(name, ())) for name, late in due.items()}}
        rows = tuple(_snapshot(row) for id in ids if (row := self.timeline.row(id)) is not None)
        batch = Batch(conv_id=self._conv_id, version=self.version, rows=rows, **parts)
        written = self._store.write(batch)

        async def settle() -> None:
            try:
                await written
            except BaseException as error:
                self._dirty.update(id for id in ids if id in self.timeline and id not in (tentative or ()))
                # Not `pending`: its run may have ended by then; one that is missing is only run again. And
                # where it is not the disk, a turn or record is no JSON: it would keep the rest from the disk.
                lasting = ("ended", "turns", "records") if isinstance(error, WebChatError) else ("ended",)
                for name, late in (parts if tentative is None else due).items():
                    if name in lasting:
                        self._owed[name] = (*late, *self._owed.get(name, ()))
                self._write_within(_RETRY_SECONDS)
                raise
            self._said = max(self._said, said)
            self.committed = max(self.committed, said)

        saved = asyncio.ensure_future(settle())
        self._writing.add(saved)
        saved.add_done_callback(self._writing.discard)
        return saved

    def _saved(self, done: asyncio.Future[None], tentative: _Held, unsent: _Unsent) -> None:
        failed = done.cancelled() or done.exception() is not None
        for id in tentative:
            del self._tentative[id]
        if failed and tentative:
            for id, (_, old) in tentative.items():
                self.timeline.restore(id, old)
            unsent.frames = ()
        unsent.free = True
        # Others may be done in the same moment: each is looked at in its own call, for it may have failed.
        while self._unsent and self._unsent[0].free:
            for frame in self._unsent.popleft().frames:
                self._publish(frame)

    def _write_waiting(self) -> asyncio.Future[None] | None:
        """Write what waits for a write, if anything does."""
        self._stop_writer()
        if not self._dirty and not self._owed:
            return None
        saved = self._write((), {}, said=self._said)
        saved.add_done_callback(_retrieve)
        return saved

    def _write_within(self, seconds: float) -> None:
        if self._writer is None and not self._closed:
            self._writer = asyncio.get_running_loop().call_later(seconds, self._write_waiting)

    def _stop_writer(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None


class RunSink:
    """The `Sink` of one run: once it is closed nothing more is heard of the run, whatever goes on in it."""

    def __init__(self, stream: StreamCoordinator) -> None:
        self._stream = stream
        self._closed = False

    def emit(self, *events: RunEvent, **parts: Any) -> Awaitable[None]:
        """`StreamCoordinator.emit`; who speaks too late is cancelled."""
        self._check()
        return self._stream.emit(*events, **parts)

    def delta(self, event: TextDelta | CallOutput | ThinkingModeDelta) -> None:
        """`StreamCoordinator.delta`; who speaks too late is cancelled."""
        self._check()
        self._stream.delta(event)

    def record(self, record: TurnRecord) -> None:
        """`StreamCoordinator.record`; what comes too late is forgotten."""
        if not self._closed:
            self._stream.record(record)

    def close(self) -> None:
        """The run has ended."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise asyncio.CancelledError


def _snapshot(row: Row) -> Row:
    """A copy for the store's thread; the row itself goes on growing."""
    return {**row, "props": dict(row["props"])}


def _retrieve(done: asyncio.Future[None]) -> None:
    """A failed write of streaming text is tried again with the next one: the rows stay dirty."""
    if not done.cancelled():
        done.exception()
