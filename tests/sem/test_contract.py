"""The golden frames fold into the golden rows; js/src/sem/contract.test.ts reads the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from webchat_widget.timeline.projector import FOLDS, Applied, Projector

_CASES = json.loads((Path(__file__).parents[1] / "contract" / "frames.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_frames_fold_into_rows(case: dict[str, Any]) -> None:
    timeline = Projector()
    outcomes = [timeline.apply(event) for event in case["events"]]
    assert timeline.entities() == case["entities"]
    assert (Applied.GAP in outcomes) is case.get("gap", False)
    assert timeline.ignored == case.get("ignored", 0)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_a_reader_in_the_middle_changes_nothing(case: dict[str, Any]) -> None:
    timeline = Projector()
    for event in case["events"]:
        timeline.apply(event)
        timeline.entities()
    assert timeline.entities() == case["entities"]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_going_on_from_stored_rows_is_as_good_as_going_on(case: dict[str, Any]) -> None:
    """After every event the rows go through JSON, as they do when a host starts again."""
    timeline, ignored = Projector(), 0
    for event in case["events"]:
        timeline.apply(event)
        ignored += timeline.ignored
        timeline = Projector(json.loads(json.dumps(list(timeline.rows()))))
    assert timeline.entities() == case["entities"]
    assert ignored == case.get("ignored", 0)


def test_the_file_has_cases_for_each_fold() -> None:
    seen = {event["type"] for case in _CASES for event in case["events"]}
    assert {id(fold) for fold in FOLDS.values()} == {id(FOLDS[type_]) for type_ in seen if type_ in FOLDS}
