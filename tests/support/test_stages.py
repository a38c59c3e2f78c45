"""The sum at the end of ``make test`` never hides a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stages import STAGES, Count, count

PASSED = '<testcase name="a"/>'
FAILED = '<testcase name="b"><failure message="no"/></testcase>'
BROKEN = '<testcase name="c"><error message="no"/></testcase>'
SKIPPED = '<testcase name="d"><skipped/></testcase>'


@pytest.mark.parametrize(
    ("cases", "exit_code", "expected"),
    [
        (PASSED + PASSED, 0, Count(2, 0, 0)),
        (PASSED + FAILED + BROKEN + SKIPPED, 1, Count(1, 2, 1)),
        (PASSED, 3, Count(1, 1, 0)),
        ("", 0, Count(0, 1, 0)),
        (None, 0, Count(0, 1, 0)),
    ],
    ids=["all passed", "mixed", "died after its tests", "no tests", "no report"],
)
def test_a_report_is_counted(tmp_path: Path, cases: str | None, exit_code: int, expected: Count) -> None:
    report = tmp_path / "report.xml"
    if cases is not None:
        report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert count(report, exit_code) == expected


def test_a_stage_without_a_report_is_one_check() -> None:
    assert count(None, 0) == Count(passed=1)
    assert count(None, 2) == Count(failed=1)


def test_the_last_line_has_one_form() -> None:
    assert str(Count(3, 0, 0)) == "3 passed, 0 failed"
    assert str(Count(3, 1, 0) + Count(1, 0, 2)) == "4 passed, 1 failed, 2 skipped"


def test_stage_names_differ_so_that_no_report_is_overwritten() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES)
