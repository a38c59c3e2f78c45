"""Waiting for something that happens elsewhere, with a deadline and a sentence about what did not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, timeout: float = 30) -> T:
    """Ask until the answer is true, and return it; ``AssertionError`` after *timeout* seconds."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}; last seen: {value!r}")
        pause.wait(0.05)
    return value
