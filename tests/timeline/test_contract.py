"""Who wins: the golden merges, and what holds for any rows. js/src/timeline reads the same file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.timeline.entities import Row, entity, is_terminal
from webchat_widget.timeline.merge import merge

_CASES = json.loads((Path(__file__).parents[1] / "contract" / "merges.json").read_text("utf-8"))["cases"]

_SETTLED = ("status", "streaming", "done")


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_two_rows_merge_and_stay_as_they_were(case: dict[str, Any]) -> None:
    old, new = copy.deepcopy(case["old"]), copy.deepcopy(case["new"])
    assert merge(old, new) == case["merged"]
    assert (old, new) == (case["old"], case["new"])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["streaming", "running", "complete", "finished", "stopped"]),
            "streaming": st.booleans(),
            "done": st.booleans(),
            "content": st.sampled_from(["", "a", "ab"]),
            "progress": st.integers(0, 3),
        },
    )
    created = draw(st.integers(0, 3))
    row: Row = {"id": "e", "kind": draw(st.sampled_from(["message", "tool_call", "run", "note"]))}
    row |= {"createdSeq": created, "version": created + draw(st.integers(0, 3)), "props": draw(values)}
    return row


class TestAnyRows:
    @given(rows(), rows())
    def test_the_same_row_twice_is_as_good_as_once(self, old: Row, new: Row) -> None:
        once = merge(old, new)
        assert merge(once, new) == once
        assert merge(old, old) == old

    @given(st.lists(rows(), min_size=1))
    def test_a_version_never_goes_back_and_place_and_kind_stay(self, history: list[Row]) -> None:
        row = merge(None, history[0])
        for new in history[1:]:
            later = merge(row, new)
            assert later["version"] == max(row["version"], new["version"])
            assert (later["kind"], later["createdSeq"]) == (row["kind"], row["createdSeq"])
            row = later

    @given(st.lists(rows(), min_size=1))
    def test_an_end_is_never_undone(self, history: list[Row]) -> None:
        row = merge(None, history[0])
        for new in history[1:]:
            later = merge(row, new)
            if is_terminal(row):
                assert is_terminal(later)
                for name in _SETTLED:
                    if name in row["props"]:
                        assert later["props"][name] == row["props"][name]
            row = later

    @given(rows(), rows())
    def test_nothing_that_a_frame_does_not_name_is_erased(self, old: Row, new: Row) -> None:
        merged = merge(old, new)["props"]
        assert old["props"].keys() <= merged.keys()
        for name in old["props"].keys() - new["props"].keys():
            assert merged[name] == old["props"][name]


@pytest.mark.parametrize(
    ("kind", "props", "ended"),
    [
        ("message", {"streaming": False}, True),
        ("message", {"streaming": True, "status": "complete"}, False),
        ("message", {"role": "user", "content": "hi"}, False),
        ("tool_call", {"done": True}, True),
        ("tool_call", {"done": False, "status": "completed"}, False),
        ("run", {"status": "finished"}, True),
        ("run", {"status": "stopped"}, True),
        ("run", {"status": "failed"}, True),
        ("run", {"status": "started"}, False),
        ("note", {"status": "finished", "done": True, "streaming": False}, False),
    ],
)
def test_what_counts_as_an_end(kind: str, props: dict[str, Any], ended: bool) -> None:
    assert is_terminal({"id": "e", "kind": kind, "createdSeq": 1, "version": 1, "props": props}) is ended


def test_times_are_derived_from_positions() -> None:
    row = {
        "id": "e",
        "kind": "note",
        "createdSeq": 1763501038000999,
        "version": 1763501040615001,
        "props": {},
    }
    assert entity(row) == {**row, "createdAt": 1763501038000, "updatedAt": 1763501040615}
