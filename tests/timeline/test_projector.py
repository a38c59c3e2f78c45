"""The rows of one conversation, as frames change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.sem.text import utf16_len
from webchat_widget.timeline.projector import Applied, Projector


def start(id: str = "m", seq: int = 1) -> Any:
    return {"type": "llm.start", "id": id, "seq": seq, "data": {"role": "assistant"}}


def delta(seq: int, offset: int, text: str, id: str = "m") -> Any:
    return {"type": "llm.delta", "id": id, "seq": seq, "data": {"delta": text, "offset": offset}}


def stdout(seq: int, offset: int, text: str) -> Any:
    data = {"append": {"stdout": {"offset": offset, "delta": text}}}
    return {"type": "tool.delta", "id": "c", "seq": seq, "data": data}


def with_a_message() -> Projector:
    timeline = Projector()
    assert timeline.apply(start()) is Applied.CHANGED
    return timeline


def with_a_call() -> Projector:
    timeline = Projector()
    timeline.apply({"type": "tool.start", "id": "c", "seq": 1, "data": {"name": "t", "input": {}}})
    return timeline


class TestStreaming:
    @given(st.lists(st.text("ab😀\n", min_size=1)), st.data())
    def test_the_coordinator_s_quick_append_is_the_same_as_its_frame(
        self, pieces: list[str], data: st.DataObject
    ) -> None:
        quick, general = with_a_message(), with_a_message()
        for seq, piece in enumerate(pieces, 2):
            offset = quick.offset("m")
            assert offset == general.offset("m") == utf16_len("".join(pieces[: seq - 2]))
            quick.append("m", seq, piece)
            assert general.apply(delta(seq, offset, piece)) is Applied.CHANGED
            if data.draw(st.booleans(), "read"):
                assert quick.row("m") == general.row("m")
        assert quick.entities() == general.entities()

    def test_an_append_looks_at_the_new_text_only(self) -> None:
        """Nothing is joined until someone reads: the cost of a token does not grow with the answer."""
        timeline = with_a_message()
        for seq in range(2, 1002):
            timeline.append("m", seq, "x")
        row = timeline._rows["m"]
        assert row["props"]["content"] == "", "the text was joined though nobody read it"
        assert timeline.row("m") is row
        assert row["props"]["content"] == "x" * 1000

    def test_a_row_from_the_store_goes_on_where_it_was(self) -> None:
        row = {"id": "m", "kind": "message", "createdSeq": 1, "version": 5, "props": {"content": "a😀"}}
        timeline = Projector([row])
        assert timeline.offset("m") == 3
        timeline.append("m", 6, "b")
        assert timeline.entities()[0]["props"]["content"] == "a😀b"

    def test_an_end_with_text_corrects_what_was_streamed(self) -> None:
        timeline = with_a_message()
        timeline.append("m", 2, "half")
        timeline.apply({"type": "llm.final", "id": "m", "seq": 3, "data": {"text": "half and half"}})
        timeline.apply(delta(4, 13, "!"))
        (row,) = timeline.rows()
        assert row["props"]["content"] == "half and half!"
        assert row["props"]["streaming"] is False

    def test_another_frame_keeps_the_text_that_was_streamed_before_it(self) -> None:
        timeline = with_a_call()
        timeline.apply(stdout(2, 0, "out"))
        timeline.apply({"type": "tool.delta", "id": "c", "seq": 3, "data": {"patch": {"progress": 1}}})
        assert timeline.apply(stdout(4, 3, "put")) is Applied.CHANGED
        (row,) = timeline.rows()
        assert (row["props"]["stdout"], row["props"]["progress"]) == ("output", 1)

    def test_two_texts_of_one_row_grow_apart(self) -> None:
        timeline = with_a_call()
        timeline.apply(stdout(2, 0, "out"))
        typed = {"append": {"inputText": {"offset": 0, "delta": "{}"}}}
        timeline.apply({"type": "tool.delta", "id": "c", "seq": 3, "data": typed})
        (row,) = timeline.rows()
        assert (row["props"]["stdout"], row["props"]["inputText"]) == ("out", "{}")

    def test_a_gap_leaves_the_version_so_that_the_delta_can_be_applied_again(self) -> None:
        timeline = with_a_message()
        assert timeline.apply(delta(3, 2, "cd")) is Applied.GAP
        assert timeline.apply(delta(2, 0, "ab")) is Applied.CHANGED
        assert timeline.apply(delta(3, 2, "cd")) is Applied.CHANGED
        assert timeline.entities()[0]["props"]["content"] == "abcd"


class TestOutcomes:
    @pytest.mark.parametrize(
        ("event", "outcome"),
        [
            (start("new", 9), Applied.CHANGED),
            (start("m", 9), Applied.STALE),
            (delta(9, 0, "x"), Applied.CHANGED),
            (delta(1, 0, "x"), Applied.STALE),
            (delta(9, 1, "x"), Applied.GAP),
            (delta(9, 0, "x", id="nobody"), Applied.GAP),
            ({"type": "llm.final", "id": "nobody", "seq": 9, "data": {"text": "x"}}, Applied.GAP),
            ({"type": "llm.final", "id": "m", "seq": 0, "data": {"text": "x"}}, Applied.STALE),
            ({"type": "tool.done", "id": "nobody", "seq": 9, "data": {}}, Applied.GAP),
            ({"type": "run.stopped", "id": "r", "seq": 9, "data": {"status": "stopped"}}, Applied.CHANGED),
            ({"type": "brand.new", "id": "m", "seq": 9, "data": {}}, Applied.UNKNOWN),
        ],
        ids=lambda value: value.name if isinstance(value, Applied) else f"{value['type']} {value['id']}",
    )
    def test_an_event_says_what_it_did(self, event: Any, outcome: Applied) -> None:
        timeline = with_a_message()
        before = timeline.entities()
        before = [{**row, "props": dict(row["props"])} for row in before]
        assert timeline.apply(event) is outcome
        assert (timeline.entities() == before) is (outcome is not Applied.CHANGED)

    def test_unknown_types_are_counted(self) -> None:
        timeline = Projector()
        for seq in (1, 2):
            timeline.apply({"type": "brand.new", "id": "x", "seq": seq, "data": {}})
        assert (timeline.ignored, len(timeline)) == (2, 0)

    @pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
    def test_a_run_that_ended_does_not_start_again(self, status: str) -> None:
        timeline = Projector()
        for seq, each in enumerate([status, "started"], 1):
            timeline.apply({"type": f"run.{each}", "id": "r", "seq": seq, "data": {"status": each}})
        assert timeline.entities()[0]["props"]["status"] == status


class TestRows:
    def test_rows_come_in_the_order_in_which_they_were_made_whatever_changed_last(self) -> None:
        timeline = Projector()
        for id, seq in (("b", 20), ("a", 10), ("c", 30)):
            timeline.apply(start(id, seq))
        timeline.append("a", 40, "late")
        assert [row["id"] for row in timeline.rows()] == ["a", "b", "c"]
        assert [row["createdSeq"] for row in timeline.entities()] == [10, 20, 30]

    def test_what_is_there_can_be_asked_for(self) -> None:
        timeline = with_a_message()
        assert "m" in timeline
        assert "x" not in timeline
        assert len(timeline) == 1
        assert timeline.row("x") is None

    def test_a_row_that_is_taken_back_is_gone_with_its_text(self) -> None:
        timeline = with_a_message()
        timeline.append("m", 2, "never stored")
        timeline.restore("m", None)
        assert timeline.entities() == []
        assert timeline.apply(start("m", 3)) is Applied.CHANGED
        assert timeline.offset("m") == 0
        timeline.append("m", 4, "anew")
        assert timeline.entities()[0]["props"]["content"] == "anew"

    def test_a_row_that_is_restored_is_as_it_was(self) -> None:
        timeline = with_a_message()
        before = timeline.row("m")
        timeline.apply({"type": "llm.final", "id": "m", "seq": 3, "data": {"text": "never stored"}})
        timeline.restore("m", before)
        assert timeline.row("m") == before
        assert timeline.offset("m") == 0

    def test_to_take_back_what_is_not_there_is_no_fault(self) -> None:
        timeline = with_a_message()
        timeline.restore("x", None)
        assert len(timeline) == 1

    @pytest.mark.parametrize("read", [Projector.entities, lambda timeline: list(timeline.rows())])
    def test_reading_shows_all_text_that_came(self, read: Callable[[Projector], list[Any]]) -> None:
        timeline = with_a_message()
        timeline.append("m", 2, "a")
        timeline.append("m", 3, "b")
        (row,) = read(timeline)
        assert (row["props"]["content"], row["version"]) == ("ab", 3)

    def test_the_event_is_left_as_it_was(self) -> None:
        """Its bytes may be encoded later, for a reader who comes then."""
        props = {"role": "user", "content": "hi"}
        upsert: Any = {
            "type": "timeline.upsert",
            "id": "u",
            "seq": 1,
            "data": {"entity": {"id": "u", "kind": "message", "props": props}},
        }
        timeline = Projector()
        timeline.apply(upsert)
        timeline.append("u", 2, "!")
        assert timeline.entities()[0]["props"]["content"] == "hi!"
        assert props == {"role": "user", "content": "hi"}
