"""A page at the end of a line to the host: what is on its way, and a tape of what came."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import msgspec
from msgspec import structs

from tests.soak.twin import Answer, Twin
from webchat_widget.requests import TimelineQuery
from webchat_widget.runtime.pool import Connection
from webchat_widget.runtime.pool import Reader as FarEnd
from webchat_widget.sem.frames import Control
from webchat_widget.typing import JSONObject

__all__ = ["Host", "Reader"]

_REASONS = {4408: "slow", 1001: "restart"}


class Host(Protocol):
    """What a reader is connected to."""

    async def connect(self, reader: FarEnd, *, append: bool) -> Connection:
        """Open a stream."""
        ...

    def disconnect(self, connection: Connection) -> None:
        """The reader of a stream is gone."""
        ...

    def pong(self) -> Control:
        """The answer to a ping."""
        ...

    async def page(self, query: TimelineQuery) -> Answer:
        """GET /timeline, as it comes over the wire."""
        ...

    def saw(self, reader: Reader, frame: str) -> None:
        """A frame is being sent."""
        ...


class Reader:
    """A page, its line to the host, and the tape of all that came to it.

    What the host sends waits on the line until a step delivers it; an answer is taken from the host by one
    step, and arrives by another.
    """

    def __init__(self, host: Host, *, append: bool, page_size: int) -> None:
        self.twin = Twin(page_size)
        self._append = append
        self.tape: list[JSONObject] = []
        self.stalled = False
        self._host = host
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
        self._connection = await self._host.connect(self, append=self._append)

    # -- what the host calls -------------------------------------------------------------------------

    async def send(self, frame: bytes) -> None:
        """Take a frame, when there is room for it."""
        while self.stalled:
            self._room.clear()
            await self._room.wait()
        text = frame.decode()
        self._host.saw(self, text)
        self._line.append(text)

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
                self._ended(_REASONS[came])
            else:
                self.tape.append({"do": "frame", "frame": msgspec.Raw(came.encode())})
                self.twin.message(msgspec.json.decode(came))
                self._hang_up_if_done()

    async def ask(self) -> None:
        """Have the host answer what was asked first and is not answered yet."""
        waiting = [query for query in self.twin.requests if query not in [a.query for a in self._answers]]
        if waiting:
            self._answers.append(await self._host.page(waiting[0]))

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
            self._connection.answer(self._host.pong())

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
        if connection is not None:
            self._host.disconnect(connection)
        self._line.clear()
        self._answers.clear()


def _asked(query: TimelineQuery) -> JSONObject:
    """Only what is named, as the page has it."""
    named = {"since": query.since, "limit": query.limit, "before": query.before}
    asked = {name: value for name, value in named.items() if value is not None}
    return {**asked, "unfinished": True} if query.unfinished else asked
