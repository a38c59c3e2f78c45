"""What a running call tells: from any thread, bounded, and not too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from webchat_widget.errors import StoreUnavailable
from webchat_widget.events import CallDelta, CallOutput, RunEvent, TextDelta
from webchat_widget.tools.deadline import Deadline
from webchat_widget.tools.reports import CallReport


class Kept:
    """A sink that keeps what it is told, and when."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.times: list[float] = []
        self.failing = False

    def emit(self, *events: RunEvent, **parts: Any) -> Awaitable[None]:
        self.told += events
        self.times.append(time.monotonic())
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failing:
            saved.set_exception(StoreUnavailable("The disk is full."))
        else:
            saved.set_result(None)
        return saved

    def delta(self, event: TextDelta | CallOutput) -> None:
        self.told.append(event)

    @property
    def printed(self) -> str:
        return "".join(event.text for event in self.told if isinstance(event, CallOutput))

    @property
    def progress(self) -> list[Any]:
        patches = [event.patch for event in self.told if isinstance(event, CallDelta)]
        return [patch["progress"] for patch in patches if "progress" in patch]


def a_report(sink: Kept, limit: int = 1000) -> tuple[CallReport, list[str]]:
    statuses: list[str] = []
    return CallReport("r", "r:call:1", sink, limit, statuses.append), statuses


async def test_a_step_is_told_at_once_and_the_last_one_at_the_end() -> None:
    sink = Kept()
    report, _ = a_report(sink)
    report.progress(0.1, "begun")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sink.progress == [{"value": 0.1, "text": "begun"}]
    report.progress(0.2)
    report.progress(0.9, "nearly")
    assert report.end() == [CallDelta(id="r:call:1", patch={"progress": {"value": 0.9, "text": "nearly"}})]
    report.progress(1.0)
    report.stdout("late")
    report.status("waiting")
    assert report.end() == []
    assert sink.printed == ""


async def test_a_flood_from_a_thread_is_told_at_most_ten_times_a_second() -> None:
    sink = Kept()
    report, _ = a_report(sink, limit=10**9)

    def flood() -> int:
        end, n = time.monotonic() + 0.55, 0
        while time.monotonic() < end:
            report.progress(n / 10**9)
            report.stdout("x")
            n += 1
        return n

    count = await asyncio.to_thread(flood)
    rest = report.end()
    assert sink.printed == "x" * count
    assert len(sink.progress) <= 7
    assert len(sink.told) <= 15
    assert all(b - a > 0.09 for a, b in zip(sink.times, sink.times[1:], strict=False))
    assert rest == [] or rest[0].patch["progress"]["value"] == (count - 1) / 10**9  # type: ignore[union-attr]


async def test_what_is_printed_has_a_limit() -> None:
    sink = Kept()
    report, _ = a_report(sink, limit=10)
    report.stdout("12345")
    report.stdout("678901234")
    for _ in range(1000):
        report.stdout("more" * 1000)
    report.end()
    assert sink.printed == "1234567890\n… output cut\n"


async def test_exactly_as_much_as_is_allowed_is_not_cut() -> None:
    sink = Kept()
    report, _ = a_report(sink, limit=5)
    report.stdout("12345")
    report.stdout("")
    report.end()
    assert sink.printed == "12345"


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.5, 0.5), (7, 1.0), (-1, 0.0), (float("nan"), None), (None, None), ("half", None), (True, 1.0)],
)
async def test_values_are_shares(value: Any, told: float | None) -> None:
    report, _ = a_report(Kept())
    report.progress(value, "t\x00" * 1000)
    (last,) = report.end()
    assert isinstance(last, CallDelta)
    assert last.patch["progress"]["value"] == told
    assert last.patch["progress"]["text"] == "t\ufffd" * 100


async def test_only_known_statuses_are_told() -> None:
    sink = Kept()
    report, statuses = a_report(sink)
    report.status("completed")
    report.status("asking")
    report.status("waiting")
    await asyncio.sleep(0.01)
    assert [event.patch for event in sink.told] == [{"status": "waiting"}]
    assert statuses == ["waiting"]


async def test_a_disk_that_refuses_a_step_ends_nothing() -> None:
    sink = Kept()
    sink.failing = True
    report, _ = a_report(sink)
    report.progress(0.5)
    await asyncio.sleep(0.01)
    assert len(sink.told) == 1


class TestDeadline:
    async def test_it_ends_what_takes_longer(self) -> None:
        limit = Deadline(0.01)
        with pytest.raises(TimeoutError):
            async with limit:
                await asyncio.Event().wait()
        assert limit.expired
        assert limit.left == 0

    async def test_a_timeout_of_somebody_else_s_is_not_its_own(self) -> None:
        limit = Deadline(10)
        with pytest.raises(TimeoutError):
            async with limit:
                raise TimeoutError
        assert not limit.expired

    async def test_pauses_do_not_count(self) -> None:
        limit = Deadline(0.1)
        limit.pause()
        async with limit:
            limit.pause()
            await asyncio.sleep(0.15)
            limit.resume()
            assert limit.left == 0.1
            await asyncio.sleep(0.05)
            limit.resume()
            assert 0.05 < (limit.left or 0) <= 0.1
        limit.pause()
        limit.resume()
        with pytest.raises(TimeoutError):
            async with limit:
                await asyncio.sleep(1)

    async def test_without_a_limit(self) -> None:
        limit = Deadline()
        async with limit:
            limit.pause()
            limit.resume()
        assert limit.left is None
