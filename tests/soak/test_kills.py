"""Some kills, and the bugs that they bring to light."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.kills import HARNESS


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_stuck_when_a_server_is_killed() -> None:
    report = soak(HARNESS, seed=7)
    assert report.good, str(report)
