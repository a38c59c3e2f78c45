"""Names of test cases that are the same in every process."""

from __future__ import annotations

import re

__all__ = ["without_address"]


def without_address(value: object) -> str:
    """`str(value)`, less where in the memory the value happens to be."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
