"""The harness `readers`, for a few rounds."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.readers import HARNESS


@pytest.mark.timeout(300)
def test_a_reader_that_is_stuck_is_nobody_elses_matter() -> None:
    report = soak(HARNESS, seed=20261121)
    assert report.good, str(report)
