"""Dialogues over a disk that fails at any statement."""

from __future__ import annotations

import pytest

from tests.soak.disk import HARNESS
from tests.soak.harness import soak


@pytest.mark.timeout(300)
def test_a_disk_that_fails_loses_nothing_and_is_told_no_lie() -> None:
    report = soak(HARNESS, seed=20_261)
    assert report.good, str(report)
