"""Some posts under few keys, and the bugs that they bring to light."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.keys import HARNESS


@pytest.mark.timeout(300)
def test_a_key_is_one_run_however_often_it_is_posted() -> None:
    report = soak(HARNESS, seed=7)
    assert report.good, str(report)
