"""The host and the page, held against each other: a few hundred schedules of each."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.schedules import HARNESS


@pytest.mark.timeout(300)
def test_readers_the_page_the_host_and_the_disk_agree_whatever_happens_in_whatever_order() -> None:
    report = soak(HARNESS, seed=11)
    assert report.good, str(report)
