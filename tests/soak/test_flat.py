"""The harness `flat`, for some hundred units."""

from __future__ import annotations

import pytest

from tests.soak.flat import HARNESS
from tests.soak.harness import soak


@pytest.mark.timeout(400)
def test_what_comes_and_goes_leaves_nothing_behind() -> None:
    report = soak(HARNESS, seed=20261121)
    assert report.good, str(report)
