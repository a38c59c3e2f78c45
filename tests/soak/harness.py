"""What a harness is, how it is run, and the one line that it ends in."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

__all__ = ["FOLDER", "Harness", "Report", "soak"]

FOLDER = Path(__file__).resolve().parents[2] / "build" / "soak"
_SHOWN = 5


class Harness(Protocol):
    """Something that does harm, and knows what must hold all the same.

    One whose plants change processes of their own only may have `at_once`: so many are tried at a time.
    """

    name: str
    unit: str
    """What N counts, in the plural."""
    quick: int
    """N of a test run: seconds."""
    long: int
    """N of `make soak`."""
    plants: Mapping[str, int]
    """Planted bugs, each with the N within which it is caught. What a plant does is a function of that name
    in the module of the harness, never in the product."""

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """Do it *n* times, the same way for the same *seed*, and return what broke, each with its steps.

        *folder* is empty and its own; it is kept where something broke. With a *plant* it may return at the
        first that is noticed.
        """
        ...


@dataclass
class Report:
    """How it went."""

    harness: Harness
    n: int
    seed: int
    failures: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    """Plants that nobody noticed: what the harness says of the rest is worth nothing."""
    plants: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.failures and not self.survivors

    def __str__(self) -> str:
        spent = f"{self.seconds / 60:.0f} min" if self.seconds >= 120 else f"{self.seconds:.0f} s"
        lines = [
            f"{self.harness.name}: {self.n:,} {self.harness.unit}, seed {self.seed}, "
            f"{len(self.failures)} failures, "
            f"{self.plants - len(self.survivors)} of {self.plants} plants caught, {spent}"
        ]
        lines += [f"  not caught: {plant}" for plant in self.survivors]
        lines += [f"  {failure}" for failure in self.failures[:_SHOWN]]
        return "\n".join(lines)


def soak(
    harness: Harness,
    *,
    n: int | None = None,
    seed: int | None = None,
    plant: str | None = None,
    plants: bool = True,
) -> Report:
    """First every plant, then *n* times (the quick N by default) as it is.

    With *plant* that one alone, for as long as it takes or *n*; without *plants* none. What broke is left in
    `build/soak`.
    """
    seed = random.randrange(1, 1_000_000) if seed is None else seed
    report = Report(harness, harness.quick if n is None else n, seed)
    chosen = [plant] if plant else list(harness.plants) if plants else []
    start = time.monotonic()
    report.plants = len(chosen)
    within = [n if plant and n is not None else harness.plants[name] for name in chosen]
    attempts = partial(_run, harness, seed=seed)
    if (at_once := getattr(harness, "at_once", 1)) > 1:
        with ThreadPoolExecutor(at_once) as threads:
            found = list(threads.map(attempts, within, chosen))
    else:
        found = list(map(attempts, within, chosen))
    report.survivors = [name for name, failures in zip(chosen, found, strict=True) if not failures]
    if plant is None:
        report.failures = _run(harness, report.n, None, seed)
    else:
        report.n = 0
    report.seconds = time.monotonic() - start
    return report


def _run(harness: Harness, n: int, plant: str | None, seed: int) -> list[str]:
    folder = FOLDER / "-".join(filter(None, (harness.name, str(seed), plant)))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failures = asyncio.run(harness.run(n, seed, folder, plant))
    if plant is not None or not failures:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        (folder / "failures.txt").write_text("\n\n".join(failures))
    return failures
