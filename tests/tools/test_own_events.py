"""Events of a person's own: what makes a row, what can't, and what a tool says while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, ClassVar

import pytest

from tests.tools.conftest import Told
from tests.tools.test_loop import CALLS, Stage
from tests.tools.test_reports import Kept
from webchat_widget import Event, emit, tool
from webchat_widget.events import CallDone, CallRequest, LogWritten, RunEvent, ThinkingModeDelta, Upserted
from webchat_widget.middlewares.base import Ask, Middleware, RunView, Stream
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.own_events import MAX_BYTES, RESERVED, BadEvent, OwnRow, own_row, row_of
from webchat_widget.tools.reports import CallReport
from webchat_widget.tools.row_queue import MAX_ROWS, RowQueue
from webchat_widget.turns import Turn


class Weather(Event):
    city: str
    celsius: float = 0.0


class Anything(Event):
    value: Any


class Colour(Enum):
    RED = "red"


@dataclass
class Place:
    name: str


class Scalar:
    """As numpy's numbers are."""

    def tolist(self) -> float:
        return 2.5


class Array:
    """As numpy's arrays are."""

    def __init__(self, *values: Any, size: int = 0) -> None:
        self.values = values
        self.size = size or len(values)

    def tolist(self) -> list[Any]:
        assert self.size == len(self.values), "nobody asks for the numbers of one that is too large"
        return list(self.values)


class DataFrame:
    def to_dict(self) -> dict[str, Any]:
        raise AssertionError("which of its forms is meant, we do not know")


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class TestRows:
    def test_its_fields_are_the_props(self) -> None:
        row = row_of(Weather("Rome", 21.5))
        assert (row.kind, row.id, row.props) == ("weather", "", {"city": "Rome", "celsius": 21.5})
        assert row_of(Weather("Rome", id="rome.1")).id == "rome.1"

    def test_its_kind_is_its_name_unless_it_says_otherwise(self) -> None:
        class WindSpeed(Event):
            pass

        class Wind(Event):
            kind: ClassVar[str] = "wind_now"

        assert (row_of(WindSpeed()).kind, row_of(Wind()).kind) == ("wind_speed", "wind_now")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (float("nan"), None),
            ([1.5, float("-inf")], [1.5, None]),
            ((1, 2), [1, 2]),
            ({3}, [3]),
            ({1: "a"}, {"1": "a"}),
            (datetime(2026, 11, 21, 12, tzinfo=UTC), "2026-11-21T12:00:00Z"),
            (date(2026, 11, 21), "2026-11-21"),
            (Colour.RED, "red"),
            (Place("Rome"), {"name": "Rome"}),
            (Weather("Rome"), {"city": "Rome", "celsius": 0.0, "id": ""}),
            ("a\x00b\ud800", "a\ufffdb\ufffd"),
            (MAX_SEQ, MAX_SEQ),
            (MAX_SEQ + 1, str(MAX_SEQ + 1)),
            (True, True),
            (Scalar(), 2.5),
            (Array(1, float("nan")), [1, None]),
            (Text("x"), "x"),
            (Number(0.5), 0.5),
        ],
    )
    def test_what_its_fields_may_be(self, value: Any, shown: Any) -> None:
        props = row_of(Anything(value)).props
        assert props == {"value": shown}
        assert type(props["value"]) is type(shown)

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (DataFrame(), "make dicts and lists of the DataFrame first, as its to_dict() does"),
            (object(), "make numbers, texts, lists or dicts of the object first"),
            (Array(size=MAX_BYTES + 1), "the 262,145 numbers of the Array are too many"),
            ("x" * MAX_BYTES, "Anything is too large: 262,156 bytes, and an event may have 262,144"),
        ],
    )
    def test_what_they_may_not_be(self, value: Any, why: str) -> None:
        with pytest.raises(ValueError, match="Anything") as refused:
            row_of(Anything(value))
        assert why in str(refused.value)

    def test_what_holds_itself(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(BadEvent, match="they are too deep"):
            row_of(Anything(endless))
        deep: Any = 1
        for _ in range(32):
            deep = [deep]
        with pytest.raises(BadEvent, match="they are too deep"):
            row_of(Anything(deep))

    @pytest.mark.parametrize("kind", [*sorted(RESERVED), "", "Weather", "my kind", "_x", "9", "a" * 65, "ä"])
    def test_kinds_that_are_refused(self, kind: str) -> None:
        with pytest.raises(BadEvent, match="can't have rows of kind") as refused:
            own_row(kind, "", {})
        assert refused.value.field == "kind"

    @pytest.mark.parametrize("id", ["a b", "a:b", "/", ".x", "a" * 129, 7])
    def test_ids_that_are_refused(self, id: Any) -> None:
        with pytest.raises(BadEvent, match="Weather can't have the id") as refused:
            row_of(Weather("Rome", id=id))
        assert refused.value.field == "id"

    def test_what_came_as_json_is_spoken_of_in_good_sentences(self) -> None:
        deep: list[Any] = []
        for _ in range(40):
            deep = [deep]
        with pytest.raises(BadEvent, match=r"^The event can't have the id 'a b': an id has letters"):
            own_row("weather", "a b", {})
        with pytest.raises(BadEvent, match=r"^The event has fields that are no JSON: they are too deep"):
            own_row("weather", "", {"a": deep})

    def test_a_kind_that_was_made_a_field(self) -> None:
        class Wind(Event):
            kind: str = "wind"  # type: ignore[misc]

        with pytest.raises(BadEvent, match="Write `kind: ClassVar"):
            row_of(Wind())

    @pytest.mark.parametrize(
        ("value", "said"), [(Weather, "the class Weather"), ({"city": "Rome"}, "dict"), (None, "NoneType")]
    )
    def test_what_is_no_event(self, value: Any, said: str) -> None:
        with pytest.raises(TypeError, match=f"{said} is none"):
            row_of(value)


def rows(told: list[RunEvent]) -> list[tuple[str, Any]]:
    """The rows that were made or changed: the ends of their ids, and one of their props."""
    own = [event for event in told if isinstance(event, Upserted)]
    assert all(event.kind == "weather" for event in own)
    return [(event.id, event.props["celsius"]) for event in own]


async def test_an_engine_says_one_between_its_texts() -> None:
    stage = Stage(["Look: ", Weather("Rome", 1), Weather("Rome", 2), Weather("Rome", 3, id="1"), "warm."])
    await stage.run_and_close()
    assert rows(stage.told) == [("r:event:1", 1), ("r:event:2", 2), ("r:event:weather:1", 3)]
    assert stage.ends() == [("r:text:1", "complete", "Look: "), ("r:text:2", "complete", "warm.")]


async def test_an_event_has_no_row_of_the_run_s_own() -> None:
    """Kinds and ids that sound like those of the run's other rows are other rows."""

    class Text(Event):
        pass

    stage = Stage(["One ", Text(), Text(id="1"), "two.", CallRequest("c", "calculate", "{}"), CALLS], ["Ok."])
    await stage.run_and_close()
    made = [event.id for event in stage.told if not isinstance(event, Upserted) and hasattr(event, "id")]
    assert not {event.id for event in stage.told if isinstance(event, Upserted)} & set(made)


async def test_one_that_can_have_no_row_ends_the_run_with_a_sentence() -> None:
    class Message(Event):
        pass

    failed = await Stage(["Look: ", Message()]).fail()
    assert failed.code == "bad_event"
    assert "Message can't have rows of kind 'message'" in failed.message


class Barometer(Middleware, frozen=True):
    """Says something before and after the model."""

    name: ClassVar[str] = "barometer"
    start: float = 0.0

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        yield Weather("before", self.start)
        async with aclosing(ask(turn)) as said:
            async for each in said:
                yield each
        yield Weather("after", self.start + 1)


async def test_a_middleware_says_one() -> None:
    stage = Stage("Warm.", middlewares=(Barometer(start=5.0),))
    await stage.run_and_close()
    assert rows(stage.told) == [("r:event:1", 5.0), ("r:event:2", 6.0)]


async def test_a_run_has_so_many_and_a_line_says_that_there_were_more() -> None:
    endless = [Weather("Rome", n) for n in range(MAX_ROWS + 2)]
    stage = Stage([Weather("Rome", -1, id="one"), *endless, Weather("Rome", -2, id="one"), "Warm."])
    await stage.run_and_close()
    shown = [celsius for _, celsius in rows(stage.told)]
    assert shown == [-1, *range(MAX_ROWS - 1), -2], "one that is there can still be changed"
    (written,) = (event for event in stage.told if isinstance(event, LogWritten))
    assert written.message.startswith("A run shows at most 1,000 rows that its engine and its middlewares")
    assert stage.ends() == [("r:text:1", "complete", "Warm.")]


async def test_more_of_a_thought_that_was_never_begun_is_passed_over() -> None:
    stage = Stage([ThinkingModeDelta("r:thinking_mode:1", "hm"), "Warm."])
    await stage.run_and_close()
    assert not [event for event in stage.told if isinstance(event, ThinkingModeDelta)]


class TestEmit:
    """From within a tool, however it runs."""

    @staticmethod
    def plain() -> str:
        print("looking")
        emit(Weather("Rome", 1))
        return "warm"

    @staticmethod
    def steps() -> Iterator[float]:
        emit(Weather("Rome", 1))
        yield 0.5

    @staticmethod
    async def later() -> str:
        await asyncio.sleep(0)
        await asyncio.to_thread(emit, Weather("Rome", 1))
        return "warm"

    @staticmethod
    async def later_steps() -> AsyncIterator[float]:
        yield 0.5
        emit(Weather("Rome", 1))

    @pytest.mark.parametrize("name", ["plain", "steps", "later", "later_steps"])
    async def test_it_goes_to_the_call(self, name: str) -> None:
        told = Told()
        await function_tool(getattr(self, name)).call({}, told)
        assert told.rows == [row_of(Weather("Rome", 1))]

    def test_outside_of_a_tool_it_says_what_to_do(self) -> None:
        with pytest.raises(RuntimeError, match=r"Elsewhere use chat\.emit\(event\)"):
            emit(Weather("Rome"))

    async def test_a_thread_that_outlives_its_tool_is_outside(self) -> None:
        go, ended, raised = threading.Event(), threading.Event(), list[BaseException]()

        def late() -> None:
            go.wait(10)
            try:
                emit(Weather("Rome"))
            except RuntimeError as error:
                raised.append(error)
            ended.set()

        def leaving() -> str:
            threading.Thread(target=copy_context().run, args=(late,), daemon=True).start()
            return "left"

        told = Told()
        await function_tool(leaving).call({}, told)
        go.set()
        assert await asyncio.to_thread(ended.wait, 10)
        assert raised
        assert not told.rows

    async def test_one_that_is_refused_is_the_tool_s_own_error(self) -> None:
        def wrong() -> None:
            emit(Anything(object()))

        stage = Stage([CallRequest("c", "wrong", "{}"), CALLS], "Sorry.", tools=[wrong])
        await stage.run_and_close()
        status, result = stage.result()
        assert status == "failed"
        assert "Anything has fields that are no JSON" in result

    async def test_each_call_has_its_own(self) -> None:
        both = threading.Barrier(2)

        @tool(read_only=True)
        def look(celsius: float) -> str:
            both.wait(10)
            emit(Weather("Rome", celsius))
            emit(Weather("Rome", celsius, id=f"at-{celsius:g}"))
            both.wait(10)
            return "ok"

        asked = [CallRequest(f"c{n}", "look", f'{{"celsius": {n}}}') for n in (1, 2)]
        stage = Stage([*asked, CALLS], "Warm.", tools=[look])
        await stage.run_and_close()
        assert sorted(rows(stage.told)) == [
            ("r:call:1:event:1", 1.0),
            ("r:call:2:event:1", 2.0),
            ("r:event:weather:at-1", 1.0),
            ("r:event:weather:at-2", 2.0),
        ]

    async def test_all_are_there_before_the_call_ends(self) -> None:
        def look() -> str:
            for celsius in range(50):
                emit(Weather("Rome", celsius))
            return "ok"

        stage = Stage([CallRequest("c", "look", "{}"), CALLS], "Warm.", tools=[look])
        await stage.run_and_close()
        assert [celsius for _, celsius in rows(stage.told)] == list(range(50))
        kinds = [type(event) for event in stage.told]
        assert max(at for at, kind in enumerate(kinds) if kind is Upserted) < kinds.index(CallDone)


def a_row(celsius: float, id: str = "") -> OwnRow:
    return row_of(Weather("Rome", celsius, id=id))


class TestReports:
    async def flood(self, row: Callable[[int], OwnRow], count: int) -> tuple[Kept, list[RunEvent]]:
        """So many rows from another thread; the sink, and what is told at the end."""
        sink = Kept()
        report = CallReport("r", "r:call:1", sink, 1000, lambda _: None)
        await asyncio.to_thread(lambda: [report.event(row(n)) for n in range(count)])
        return sink, report.end()

    async def test_a_row_that_changes_all_the_time_is_told_of_a_few_times(self) -> None:
        sink, rest = await self.flood(lambda n: a_row(n, "one"), 10_000)
        told = rows([*sink.told, *rest])
        assert told[-1] == ("r:event:weather:one", 9_999)
        assert len(told) < 20

    async def test_rows_without_end_are_cut_with_a_sentence(self) -> None:
        sink, rest = await self.flood(a_row, 10_000)
        told = [event for event in (*sink.told, *rest) if isinstance(event, Upserted)]
        assert [event.id for event in told] == [f"r:call:1:event:{n}" for n in range(1, 1001)]
        logs = [event for event in (*sink.told, *rest) if isinstance(event, LogWritten)]
        assert [log.id for log in logs] == ["r:call:1:log"]
        assert "at most 1,000 rows" in logs[0].message

    async def test_exactly_as_many_as_are_allowed_are_not_cut(self) -> None:
        sink, rest = await self.flood(a_row, 1000)
        assert not [event for event in (*sink.told, *rest) if isinstance(event, LogWritten)]

    async def test_rows_that_are_there_change_on(self) -> None:
        sink = Kept()
        report = CallReport("r", "r:call:1", sink, 1000, lambda _: None)
        report.event(a_row(1, "one"))
        for n in range(2000):
            report.event(a_row(n))
        report.event(a_row(2, "one"))
        assert ("r:event:weather:one", 2) in rows([*sink.told, *report.end()])

    async def test_nothing_is_told_after_the_end(self) -> None:
        sink = Kept()
        report = CallReport("r", "r:call:1", sink, 1000, lambda _: None)
        assert report.end() == []
        report.event(a_row(1))
        assert report.end() == []
        assert sink.told == []


class TestRowQueue:
    def test_one_that_changes_while_it_waits_goes_out_once(self) -> None:
        queue = RowQueue()
        queue.put(own_row("weather", "one", {"a": 1, "b": 1}))
        queue.put(own_row("weather", "", {"c": 1}))
        queue.put(own_row("weather", "one", {"b": 2}))
        queue.put(own_row("wind", "one", {"d": 1}))
        assert [row.props for row in queue.take()] == [{"a": 1, "b": 2}, {"c": 1}, {"d": 1}]
        assert queue.take() == []

    def test_large_ones_use_up_the_room(self) -> None:
        queue = RowQueue(size=100)
        queue.put(own_row("weather", "", {"text": "x" * 60}))
        queue.put(own_row("weather", "", {"text": "x" * 60}))
        assert queue.full
        assert len(queue.take()) == 1
