"""Servers and kernels that take a conversation from each other."""

from __future__ import annotations

import pytest

from tests.soak.harness import soak
from tests.soak.owners import HARNESS


@pytest.mark.timeout(300)
def test_a_conversation_has_one_owner_at_a_time_whoever_dies() -> None:
    report = soak(HARNESS, seed=20_261)
    assert report.good, str(report)
