"""A page in Python: what HydrationGate, WsManager and TimelineStore of js/src do with frames and rows.

It has no clock and no socket. Whoever holds it hands it frames and answers, and looks at what it asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct

from webchat_widget.requests import TimelineQuery
from webchat_widget.timeline.entities import Row, entity, is_terminal
from webchat_widget.timeline.merge import merge
from webchat_widget.timeline.projector import Applied, Projector, makes_and_changes
from webchat_widget.typing import Entity, JSONObject

__all__ = ["Answer", "Twin"]

_SINCE = 1000
_FOREIGN = 5
"""So many answers of another history in a row, and the page hangs up."""
_STUCK = 3


class Answer(Struct, frozen=True):
    """What GET /timeline said."""

    query: TimelineQuery
    rows: list[JSONObject]
    version: int
    more: bool
    epoch: str


class _Gate:
    """The twin of HydrationGate, word for word."""

    def __init__(self) -> None:
        self.open = False
        self.covered = 0
        self.restart()

    def restart(self) -> None:
        self.open = False
        self._held: deque[JSONObject] = deque()
        self._expected = 1
        self._hole = False
        self._stuck = 0

    def arrive(self, frame: JSONObject) -> str:
        hole = frame["n"] > self._expected
        self._expected = max(self._expected, frame["n"] + 1)
        if self.open and not hole:
            return "apply"
        self._held.append(frame)
        self._hole = self._hole or hole
        if not self.open:
            return "held"
        self.open = False
        return "resync"

    def applied(self, frame: JSONObject) -> None:
        self.covered = max(self.covered, frame["event"].get("seq", 0))

    def refused(self, frame: JSONObject) -> None:
        self.open = False
        self._held.appendleft(frame)

    def asking(self) -> None:
        self._hole = False

    def replay(self, apply: Callable[[JSONObject], bool]) -> bool:
        """True where all is in order; False where something is still missing."""
        if self._hole:
            return False
        while self._held:
            frame = self._held[0]
            if frame["event"].get("seq", self.covered + 1) > self.covered:
                if not apply(frame):
                    self._stuck += 1
                    if self._stuck < _STUCK:
                        return False
                self._stuck = 0
                self.applied(frame)
            self._held.popleft()
        self.open = True
        return True


class Twin:
    """One page of a conversation. `page_size` is how many rows it asks for at first, and with each page up.

    `requests` are what it has asked for and waits for. AssertionError where what it is told takes back what a
    person has seen.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.floor = 0
        self.requests: list[TimelineQuery] = []
        self.hung_up = False
        """It gave the connection up by itself."""
        self._epoch: str | None = None
        self._gate = _Gate()
        self._rows = Projector()
        self._history = 0
        """How often another history took the place of the one before: last words may be gone in it."""
        self._seen: dict[str, tuple[int, Entity]] = {}
        """The rows as they were shown last, and in which history."""
        self._kept: dict[str, Collection[str]] = {}
        """The rows that hosts which died have left for sure, by their epochs."""
        # of the hydration that is under way
        self._target = ""
        self._at_least = 0
        self._full = False
        self._first: Answer | None = None
        self._foreign = 0

    @property
    def live(self) -> bool:
        """All is in order, and frames flow."""
        return self._gate.open

    def shown(self) -> list[Entity]:
        """What is on the screen."""
        return [each for each in self._rows.entities() if each["createdSeq"] >= self.floor]

    def bereaved(self, epoch: str, kept: Collection[str]) -> None:
        """The host of that epoch has died; only these rows are sure to be there under the next one. A page
        may know others: it is told of what the disk refused, and of what it had yet to take."""
        self._kept[epoch] = kept

    # -- the connection ------------------------------------------------------------------------------

    def opened(self) -> None:
        """A new stream begins."""
        self._gate.restart()
        self.hung_up = False

    def closed(self) -> None:
        """It has ended, and with it all requests."""
        self._gate.open = False
        self.requests.clear()

    def message(self, frame: JSONObject) -> None:
        """A frame has come."""
        event = frame["event"]
        if event["type"] == "ws.hello":
            self._gate.arrive(frame)
            self._hydrate(event["data"]["epoch"], event["data"]["version"])
            return
        verdict = self._gate.arrive(frame)
        if verdict == "apply":
            if self._apply(frame):
                self._gate.applied(frame)
            else:
                self._gate.refused(frame)
                verdict = "resync"
        if verdict == "resync":
            self._hydrate(self._epoch or "", 0)
        elif event["type"] == "ws.pong" and self._gate.open and event["data"]["version"] > self._gate.covered:
            self._gate.open = False
            self._hydrate(self._epoch or "", 0)

    def ask_earlier(self) -> bool:
        """Ask for the page above; False where there is none, or it has been asked for."""
        query = TimelineQuery("c", before=self.floor, limit=self.page_size)
        if not self.floor or query in self.requests:
            return False
        self.requests.append(query)
        return True

    def answer(self, answer: Answer) -> None:
        """What it asked for has come."""
        self.requests.remove(answer.query)
        if answer.query.before is not None:
            self._earlier(answer)
        elif self._full:
            self._answered_full(answer)
        else:
            self._answered_since(answer)

    # -- hydration -----------------------------------------------------------------------------------

    def _hydrate(self, epoch: str, at_least: int) -> None:
        self._full = self._epoch != epoch
        if self._full:
            self._gate.covered = 0
        self._target, self._at_least, self._foreign = epoch, at_least, 0
        self._ask()

    def _ask(self) -> None:
        self._gate.asking()
        self._first = None
        self._ask_on()

    def _ask_on(self) -> None:
        if not self._full:
            self.requests.append(TimelineQuery("c", since=self._gate.covered, limit=_SINCE))
        elif self._first is None:
            self.requests.append(TimelineQuery("c", limit=self.page_size))
        else:
            self.requests.append(TimelineQuery("c", unfinished=True))

    def _answered_full(self, answer: Answer) -> None:
        first = self._first or answer
        if answer.epoch != self._target or first.version < self._at_least:
            return self._foreign_came()
        floor = _floor(first)
        if self._first is None and floor:
            self._first = answer
            return self._ask_on()
        above = [row for row in answer.rows if row["createdSeq"] < floor] if floor else []
        coming: dict[str, Row] = {}
        for row in (*above, *first.rows):
            coming[row["id"]] = merge(coming.get(row["id"]), _row(row))
        self._rows = Projector(coming.values())
        self.floor = floor
        self._history += 1
        for epoch in [each for each in self._kept if each != answer.epoch]:
            kept = self._kept.pop(epoch)
            self._seen = {id: seen for id, seen in self._seen.items() if id in kept}
        self._covers(first.version)

    def _answered_since(self, answer: Answer) -> None:
        if answer.epoch != self._target:
            return self._foreign_came()
        for row in answer.rows:
            self._lay(row)
        before, self._gate.covered = self._gate.covered, max(self._gate.covered, answer.version)
        if answer.more and answer.version > before:
            return self._ask_on()
        self._covers(answer.version)

    def _covers(self, version: int) -> None:
        """All up to a version is in the rows: on with what was held, if that makes sense by now."""
        self._gate.covered = max(self._gate.covered, version)
        if self._gate.covered >= self._at_least:
            self._full = False
            self._epoch = self._target
            if self._gate.replay(self._apply):
                return self._look()
        self._look()
        self._ask()

    def _foreign_came(self) -> None:
        self._foreign += 1
        if self._foreign == _FOREIGN:
            self.closed()
            self.hung_up = True
        else:
            self._ask()

    def _earlier(self, answer: Answer) -> None:
        if answer.epoch != self._epoch or answer.query.before != self.floor:
            return
        for row in answer.rows:
            assert row["createdSeq"] < self.floor, (
                f"the page above {self.floor} has {row['id']}, which is below"
            )
            self._lay(row)
        floor = _floor(answer)
        self.floor = min(self.floor, floor)
        self._look()

    # -- rows ----------------------------------------------------------------------------------------

    def _apply(self, frame: JSONObject) -> bool:
        event: Any = frame["event"]
        type_, id = event["type"], event["id"]
        if type_.startswith("ws."):
            return True
        if id not in self._rows and makes_and_changes(type_):
            made_at = event.get("createdSeq", event["seq"])
            if made_at < self.floor:  # it has but a part of a row's props
                return False
        applied = self._rows.apply(event)
        assert applied is not Applied.UNKNOWN, f"nobody knows {type_}"
        if applied is Applied.CHANGED:
            self._compare(id)
        return applied is not Applied.GAP

    def _lay(self, row: JSONObject) -> None:
        self._rows.restore(row["id"], merge(self._rows.row(row["id"]), _row(row)))

    # -- what a person sees --------------------------------------------------------------------------

    def _look(self) -> None:
        """Compare the screen with what was on it: after rows have come."""
        shown = self.shown()
        missing = {id for id, (_, each) in self._seen.items() if each["createdSeq"] >= self.floor}
        missing -= {each["id"] for each in shown}
        assert not missing, f"{sorted(missing)} vanished"
        for each in shown:
            self._compare(each["id"])

    def _compare(self, id: str) -> None:
        row = self._rows.row(id)
        assert row is not None
        now = entity({**row, "props": dict(row["props"])})
        history, before = self._seen.get(id, (self._history, now))
        self._seen[id] = self._history, now
        same = history == self._history
        assert before["createdSeq"] == now["createdSeq"], f"{id} has another place"
        assert before["version"] <= now["version"] or not same, f"{id} is older than it was"
        assert is_terminal(now) or not is_terminal(before), f"{id} goes on after its end"
        old, new = _text(before), _text(now)
        cut = not same and is_terminal(now) and old.startswith(new)
        assert new.startswith(old) or cut, f"{id} read {old!r}, and now {new!r}"


def _row(row: JSONObject) -> Row:
    """A row of an answer, without its times, and nobody else's."""
    return {
        **{name: row[name] for name in ("id", "kind", "createdSeq", "version")},
        "props": dict(row["props"]),
    }


def _floor(answer: Answer) -> int:
    """Where the rows of a page begin, if there are others above them."""
    return int(answer.rows[0]["createdSeq"]) if answer.more and answer.rows else 0


def _text(each: Entity) -> str:
    props = each["props"]
    return str(props.get("content") or props.get("stdout") or props.get("reasoning") or "")
