"""Frames into bytes, and deltas into one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.sem.frames import MAX_SEQ, PROTOCOL, Control, Delta, Frame, envelope
from webchat_widget.timeline.projector import Projector


def decoded(frame: Frame | Delta) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(frame.encoded())
    return event


def delta(offset: int, text: str, *, seq: int = 1, id: str = "m", type: str = "llm.delta") -> Delta:
    return Delta.of(type, id, seq, offset, text)


def test_an_envelope_carries_the_reader_s_own_count() -> None:
    event = Frame({"type": "log", "id": "l", "seq": 5, "data": {"message": 'an "é" 😀'}}).encoded()
    assert json.loads(envelope(1, event)) == {"sem": True, "n": 1, "event": json.loads(event)}
    assert json.loads(envelope(2, event))["n"] == 2


def test_an_event_is_encoded_once_for_all_readers() -> None:
    frame = Frame({"type": "log", "id": "l", "seq": 5, "data": {}})
    assert frame.encoded() is frame.encoded()


def test_a_control_frame_has_no_seq_and_names_its_conversation() -> None:
    hello = Control("ws.hello", "conv-1", {"protocol": PROTOCOL, "version": 0})
    assert decoded(hello) == {
        "type": "ws.hello",
        "id": "ws.hello:conv-1",
        "data": {"protocol": 1, "version": 0},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_sent_that_json_does_not_know(value: float) -> None:
    frame = Frame({"type": "log", "id": "l", "seq": 1, "data": {"fields": {"x": value}}})
    assert decoded(frame)["data"]["fields"]["x"] is None


def test_the_largest_seq_is_exact_in_javascript() -> None:
    assert MAX_SEQ == 2**53 - 1
    assert int(float(MAX_SEQ)) == MAX_SEQ
    assert decoded(Frame({"type": "log", "id": "l", "seq": MAX_SEQ, "data": {}}))["seq"] == MAX_SEQ


class TestDelta:
    def test_the_append_form_costs_the_new_text_only(self) -> None:
        assert decoded(delta(3, "b😀", seq=7)) == {
            "type": "llm.delta",
            "id": "m",
            "seq": 7,
            "data": {"delta": "b😀", "offset": 3},
        }

    def test_the_seeds_form_carries_the_text_up_to_its_own_end(self) -> None:
        """The row may have grown since: a frame never tells of what comes after it."""
        event = json.loads(delta(3, "b😀", seq=7).encoded_cumulative({"m": "a😀b😀 and more"}.__getitem__))
        assert event["data"] == {"delta": "b😀", "cumulative": "a😀b😀"}
        assert event["seq"] == 7

    def test_it_ends_where_javascript_says_that_it_ends(self) -> None:
        assert delta(3, "b😀").end == 6

    @pytest.mark.parametrize(
        ("later", "follows"),
        [
            (delta(3, "x"), True),
            (delta(2, "x"), False),
            (delta(4, "x"), False),
            (delta(3, "x", id="other"), False),
            (delta(3, "x", type="llm.thinking.delta"), False),
        ],
        ids=["at the end", "an overlap", "a hole", "another row", "another type"],
    )
    def test_only_what_goes_on_in_the_same_row_follows(self, later: Delta, follows: bool) -> None:
        assert later.follows(delta(0, "a😀")) is follows

    def test_a_merged_one_has_the_first_offset_and_the_last_seq(self) -> None:
        first = delta(0, "a", seq=5)
        first.take(delta(1, "😀", seq=6))
        first.take(delta(3, "c", seq=9))
        assert decoded(first)["data"] == {"delta": "a😀c", "offset": 0}
        assert (first.seq, first.end) == (9, 4)
        assert delta(4, "d").follows(first)

    def test_a_copy_grows_alone(self) -> None:
        """All readers share a frame: one who merges must not change what the others are sent."""
        shared = delta(0, "a", seq=5)
        own = shared.copy()
        own.take(delta(1, "b", seq=6))
        assert (shared.text, shared.seq, shared.end) == ("a", 5, 1)
        assert (own.text, own.seq, own.end) == ("ab", 6, 2)

    def test_what_was_merged_in_stays_as_it_was(self) -> None:
        own, later = delta(0, "a"), delta(1, "b", seq=2)
        own.take(later)
        own.take(delta(2, "c", seq=3))
        assert (later.text, later.seq, later.end) == ("b", 2, 2)

    @given(st.lists(st.text("ab😀", min_size=1), min_size=1), st.data())
    def test_merged_or_not_and_in_either_form_the_row_is_the_same(
        self, pieces: list[str], data: st.DataObject
    ) -> None:
        start: Any = {"type": "llm.start", "id": "m", "seq": 1, "data": {"role": "assistant"}}
        deltas, offset = [], 0
        for seq, piece in enumerate(pieces, 2):
            deltas.append(delta(offset, piece, seq=seq))
            offset = deltas[-1].end
        merged: list[Delta] = []
        for each in deltas:
            if merged and data.draw(st.booleans(), "merge"):
                merged[-1].take(each)
            else:
                merged.append(each.copy())
        whole = "".join(pieces)
        plain, few, seeds = Projector(), Projector(), Projector()
        for timeline in (plain, few, seeds):
            timeline.apply(start)
        for each in deltas:
            plain.apply(json.loads(each.encoded()))
        for each in merged:
            few.apply(json.loads(each.encoded()))
            seeds.apply(json.loads(each.encoded_cumulative(lambda _: whole)))
        assert plain.entities() == few.entities() == seeds.entities()
        assert plain.entities()[0]["props"]["content"] == whole
