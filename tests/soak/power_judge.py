"""What left a server before it was on the disk, by the trace of its calls."""

from __future__ import annotations

import random
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.soak.power_disk import Disk
from tests.support.strace import Moment, moments
from webchat_widget.errors import StoreUnavailable
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.timeline.sqlite.snapshot import snapshot

__all__ = ["NUMBER", "Judge", "Promise"]

Promise = Callable[[sqlite3.Connection], bool]
"""Whether the database has what was answered."""

NUMBER = "X-Proof"
"""The header by which a request is known again in the trace."""

_NUMBER = re.compile(rf"\r\n{NUMBER}: (\S+)\r\n".encode(), re.IGNORECASE)
_SOCKET = re.compile(rb"GET /webchat/ws\?conv_id=([\w.-]+)")
_FRAME = re.compile(rb'"event":\{"type":"([\w.]+)","id":"[^"]*","seq":(\d+)')
_MAY_RUN_AHEAD = ("llm.delta", "llm.thinking.delta")


class Judge:
    """Follows a trace, and lets the power fail whenever an answer or a frame leaves.

    `file` is the database; `promises` are what was promised, by the numbers of the requests.
    """

    def __init__(self, file: Path, promises: Mapping[str, Promise], seed: str) -> None:
        self._name, self._promises, self._seed = file.name, promises, seed
        self._rng = random.Random(seed)
        self._disk = Disk(file.parent)
        self._asked: dict[str, str] = {}
        """By socket, the request that is not answered yet."""
        self._readers: dict[str, str] = {}
        """By socket, whose conversation it shows."""
        self._versions: tuple[int, dict[str, int]] = -1, {}
        self.failures: list[str] = []
        self.answers: set[str] = set()
        self.frames = 0

    def follow(self, trace: Path) -> None:
        """All of a trace. An answer that is not in it is a failure too: then nothing was shown of it."""
        for moment in moments(trace):
            self._disk.take(moment)
            if moment.call == "recvfrom" and moment.what == "ended":
                self._heard(moment)
            elif moment.what == "began" and moment.file.startswith("socket:"):
                self._told(moment)
        missing = sorted(self._promises.keys() - self.answers)
        self.failures += [f"seed {self._seed}: {number} is not in the trace" for number in missing]
        if not self.frames:
            self.failures.append(f"seed {self._seed}: no frame is in the trace")

    def _heard(self, moment: Moment) -> None:
        if found := _NUMBER.search(moment.data):
            self._asked[moment.file] = found[1].decode()
        elif found := _SOCKET.match(moment.data):
            self._readers[moment.file] = found[1].decode()

    def _told(self, moment: Moment) -> None:
        if moment.file in self._readers:
            for type, seq in _FRAME.findall(moment.data):
                self._frame(self._readers[moment.file], type.decode(), int(seq))
        elif moment.data.startswith(b"HTTP/1.1 ") and moment.file in self._asked:
            self._answer(self._asked.pop(moment.file))

    def _answer(self, number: str) -> None:
        self.answers.add(number)
        for luck, keeps in (("nothing", 0.0), ("some", self._rng.random())):
            try:
                wrong = self._lacks(self._promises[number], keeps)
            except (StoreUnavailable, ValueError, LookupError) as error:
                wrong = f"the timeline can't be read ({error})"
            if wrong:
                place = f"seed {self._seed}, {number}, {luck} of what was not synced remains"
                self.failures.append(f"{place}: {wrong}")

    def _lacks(self, promise: Promise, keeps: float) -> str | None:
        with self._after_a_cut(keeps) as file, snapshot(file) as db:
            if not promise(db):
                return "what was answered is not there"
            breaches = verify(file).breaches
        return str(breaches[0]) if breaches else None

    def _frame(self, conv: str, type: str, seq: int) -> None:
        if type in _MAY_RUN_AHEAD:
            return
        self.frames += 1
        if self._version(conv) < seq:
            self.failures.append(f"seed {self._seed}: {type} {seq} of {conv} left before it was on the disk")

    def _version(self, conv: str) -> int:
        """Up to where a conversation is on the disk for certain."""
        state, versions = self._versions
        if state != self._disk.syncs:
            versions = {}
            # There may be no timeline yet.
            with self._after_a_cut(0.0) as file, suppress(StoreUnavailable), snapshot(file) as db:
                versions = dict(db.execute("SELECT conv_id, version FROM conversations"))
            self._versions = self._disk.syncs, versions
        return versions.get(conv, 0)

    @contextmanager
    def _after_a_cut(self, keeps: float) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="webchat-") as folder:
            self._disk.leave(Path(folder), self._rng, keeps)
            yield Path(folder) / self._name
