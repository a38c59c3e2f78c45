"""From the answer to a Stop on, nothing of the run changes, wherever it was; and the next prompt works."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.stops import HARNESS


@pytest.mark.timeout(400)
def test_nothing_comes_after_a_stop() -> None:
    report = soak(HARNESS, seed=11)
    assert report.good, str(report)
