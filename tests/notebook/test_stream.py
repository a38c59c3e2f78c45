"""What a page is sent over a widget's comm: one stream for all pages, numbered, paced, and in order."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from tests.support.waiting import until
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.events import CallRequest, Finish
from webchat_widget.notebook import comm, hosted
from webchat_widget.notebook.host import kernel_host
from webchat_widget.runtime.environment import RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.tools.calculate import calculate

from .line import Line


class TestFrames:
    def test_many_pieces_of_text_come_in_few_messages(self) -> None:
        words = [f"{number} " for number in range(3000)]
        paced = ScriptedEngine([step for word in words for step in (word, 0.0005 * (word < "2"))])
        line = Line(paced)
        line.open()
        line.say()
        line.until_type("run.finished")
        assert joined(line) == "".join(words)
        assert [frame["n"] for frame in line.frames] == list(range(2, len(line.frames) + 2))
        assert len(at_most(30, line)) > 30

    def test_ten_thousand_at_once(self) -> None:
        line = Line(ScriptedEngine([f"{number} " for number in range(10_000)]))
        line.open()
        line.say()
        line.until_type("run.finished")
        assert joined(line) == "".join(f"{number} " for number in range(10_000))
        assert [frame["n"] for frame in line.frames] == list(range(2, len(line.frames) + 2))
        at_most(30, line)

    def test_an_answer_does_not_wait_for_frames(self) -> None:
        line = Line(ScriptedEngine([step for _ in range(200) for step in ("word ", 0.005)]))
        stream = line.open()
        line.say()
        line.until_type("llm.delta", 3)
        line.ask("ping", stream=stream)
        assert "run.finished" not in line.types()

    def test_what_is_large_comes_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "x" * 2_000_000 + 'é€😀"\\\n'
        line = Line(ScriptedEngine(text))
        with monkeypatch.context() as patch:
            patch.setattr(comm, "_BYTES_PER_SECOND", 10**9)
            line.open()
            line.say()
            line.until_type("run.finished")
        before = len(line.raw)
        assert line.ask("timeline", conv_id="c")["body"][-1]["props"]["content"] == text
        pieces, times = line.raw[before:], line.times[before:]
        assert all(set(m) == {"piece", "text"} and len(m["text"]) <= 256_000 for m in pieces)
        assert sum(len(m["text"]) for m in pieces) / (times[-1] - times[0]) < 1_000_000

    def test_nothing_of_another_message_comes_between_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(comm, "_BYTES_PER_SECOND", 10_000_000)
        line = Line(ScriptedEngine("x" * 1_000_000))
        line.open()
        line.say()
        line.until_type("run.finished")
        asked = [line.tell("timeline", conv_id="c") for _ in range(2)]
        first, second = map(line.reply, asked)
        assert first["body"] == second["body"]
        order = [m["piece"]["of"] if "piece" in m else None for m in line.raw]
        runs = [of for of, _ in itertools.groupby(order) if of is not None]
        assert len(runs) == len(set(runs)) >= 3


def joined(line: Line) -> str:
    """The text of all deltas."""
    return "".join(f["event"]["data"]["delta"] for f in line.frames if f["event"]["type"] == "llm.delta")


def at_most(each_second: int, line: Line) -> list[float]:
    """When messages with frames came: never more in any second."""
    times = [at for at, message in zip(line.times, line.raw, strict=True) if "frames" in message]
    for first, last in zip(times, times[each_second + 1 :], strict=False):
        assert last - first > 0.95
    return times


class TestStreams:
    def test_two_pages_share_one(self) -> None:
        go = threading.Event()
        line = Line(ScriptedEngine(["one ", go, "two"], "three", "four"))
        first = line.open()
        line.say()
        line.until_type("llm.delta")
        second = line.tell("open", conv_id="c")
        opened = line.reply(second)["body"]
        assert opened["n"] >= 3
        assert opened["hello"]["convId"] == "c"
        closed = line.ask("close", stream=first)
        assert (closed["status"], closed["body"]) == (200, {})
        go.set()
        line.until_type("run.finished")
        assert joined(line) == "one two"
        assert [frame["n"] for frame in line.frames] == list(range(2, len(line.frames) + 2))
        line.ask("close", stream=second)
        before = len(line.messages)
        run = line.say()
        until(lambda: finished(line, run), "the run without a page")
        assert not [m for m in line.messages[before:] if "rid" not in m]

    def test_a_stream_that_opens_again_leaves_a_hole_to_who_listened_to_the_last_one(self) -> None:
        line = Line(ScriptedEngine("one", "two", "three"))
        stream = line.open()
        line.say()
        line.until_type("run.finished")
        line.ask("close", stream=stream)
        run = line.say()
        until(lambda: finished(line, run), "the run that nobody hears of")
        before = len(line.frames)
        last = line.frames[-1]["n"]
        assert line.ask("open", conv_id="c")["body"]["n"] == last + 1
        line.say()
        line.until_type("run.finished", 2)
        assert [frame["n"] for frame in line.frames[before:]] == [
            last + 2 + at for at in range(len(line.frames) - before)
        ]

    @pytest.mark.parametrize("leave", ["the page", "the widget"])
    def test_who_leaves_while_the_stream_opens_is_sent_nothing(
        self, leave: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = Line(ScriptedEngine("one"))
        ready, waits, go = line.hosted.ready, threading.Event(), threading.Event()

        async def slowly() -> ChatService:
            waits.set()
            while not go.is_set():
                await asyncio.sleep(0.01)
            return await ready()

        monkeypatch.setattr(line.hosted, "ready", slowly)
        opening = line.tell("open", conv_id="c")
        assert waits.wait(10)
        if leave == "the page":
            line.tell("close", stream=opening)
        else:
            line.port.close()
        go.set()
        assert line.reply(opening)["status"] == 410
        run = line.say()
        until(lambda: finished(line, run), "the run without a page")
        assert not line.frames

    def test_a_closed_widget_sends_nothing(self) -> None:
        go = threading.Event()
        line = Line(ScriptedEngine(["one ", go, "two"]))
        line.open()
        run = line.say()
        line.until_type("llm.delta")
        line.port.close()
        line.ask("health")
        before = len(line.frames)
        go.set()
        until(lambda: finished(line, run), "the run without a page")
        assert len(line.frames) == before

    def test_what_an_ended_stream_has_left_unsaid_is_not_said_in_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(comm, "_FRAMES_SECONDS", 0.3)
        line = Line(ScriptedEngine([step for _ in range(200) for step in ("word ", 0.005)]))
        stream = line.open()
        line.say()
        line.until_type("llm.delta", 2)
        until(lambda: line.port._outlet._frames, "something is left unsaid")
        before = len(line.frames)
        line.tell("close", stream=stream)
        opened = line.ask("open", conv_id="c")["body"]["n"]
        line.until_type("run.finished")
        count = len(line.frames) - before
        assert [frame["n"] for frame in line.frames[before:]] == list(range(opened + 1, opened + 1 + count))

    def test_one_that_takes_too_long_is_closed_and_opens_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tools = [CallRequest(str(n), "calculate", '{"expression": "1+1"}') for n in range(5)]
        line = Line(ScriptedEngine([*tools, Finish("tool_calls")], "done", "again"), calculate)
        with monkeypatch.context() as patch:
            slow = RuntimeSettings(pool=PoolSettings(stall_seconds=0.2))
            patch.setattr(hosted, "_SETTINGS", slow)
            patch.setattr(comm, "_FULL", 2)
            patch.setattr(comm, "_FRAMES_SECONDS", 1)
            line.open()
            line.say()
            until(lambda: {"closed": 4408} in line.messages, "the pool closes the reader")
        until(lambda: line.port._outlet._next < time.monotonic(), "frames may go out again")
        reply = line.ask("open", conv_id="c")
        assert reply["status"] == 200
        opened, heard = reply["body"]["n"], len(line.frames)
        line.say()
        until(lambda: "run.finished" in line.types()[heard:], "the next run")
        count = len(line.frames) - heard
        assert [frame["n"] for frame in line.frames[heard:]] == list(range(opened + 1, opened + 1 + count))

    def test_the_end_of_the_host_is_the_end_of_the_stream(self) -> None:
        line = Line(ScriptedEngine("one"))
        line.open()
        kernel_host().call(line.hosted.close())
        until(lambda: {"closed": 1001} in line.messages, "the page is told")

    @pytest.fixture
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A page is forgotten after a moment."""
        monkeypatch.setattr(comm, "_FORGET_SECONDS", 0.2)
        monkeypatch.setattr(comm, "_SWEEP_SECONDS", 0.05)

    @pytest.mark.usefixtures("impatient")
    def test_a_page_that_is_silent_while_another_is_heard_is_forgotten(self) -> None:
        line = Line(ScriptedEngine("one"))
        silent, heard = line.open(), line.open()

        def gone() -> bool:
            assert line.ask("ping", stream=heard)["status"] == 200
            return silent not in line.port._streams

        until(gone, "the silent one is forgotten")
        assert line.ask("ping", stream=silent)["status"] == 410
        line.ask("close", stream=heard)
        run = line.say()
        until(lambda: finished(line, run), "the run without a page")
        assert not line.frames

    @pytest.mark.usefixtures("impatient")
    def test_pages_that_are_silent_together_are_not(self) -> None:
        """The kernel hears nobody for as long as a cell runs."""
        line = Line(ScriptedEngine([0.5, "one"]))
        streams = [line.tell("open", conv_id="c") for _ in range(2)]
        line.say()
        line.until_type("run.finished")
        pings = [line.tell("ping", stream=stream) for stream in streams]
        assert [line.reply(ping)["status"] for ping in pings] == [200, 200]


def finished(line: Line, run: str) -> bool:
    """Whether a run has ended, as the timeline says."""
    rows = {row["id"]: row["props"] for row in line.ask("timeline", conv_id="c")["body"]}
    return rows[run]["status"] == "finished"
