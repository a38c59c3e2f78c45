"""What the harnesses stand on: a plant that nobody notices is a failure, what broke is kept and told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Barrier

import pytest

from tests.soak import harness as frame
from tests.soak.__main__ import harnesses
from tests.soak.harness import soak


class Coin:
    """Breaks at every fifth throw, or at the first with the plant."""

    name, unit, quick, long = "coin", "throws", 4, 10
    plants: Mapping[str, int] = {"false": 1, "quiet": 1}

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        (folder / "thrown").touch()
        if plant:
            return ["it is false"] if plant == "false" else []
        return [f"throw {throw} of seed {seed}" for throw in range(5, n + 1, 5)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(frame, "FOLDER", tmp_path)
    return tmp_path


def test_a_plant_that_nobody_notices_is_a_failure() -> None:
    report = soak(Coin(), seed=7)
    assert str(report).splitlines() == [
        "coin: 4 throws, seed 7, 0 failures, 1 of 2 plants caught, 0 s",
        "  not caught: quiet",
    ]
    assert not report.good


def test_plants_in_processes_of_their_own_are_tried_at_once() -> None:
    both = Barrier(2, timeout=20)

    class Pair(Coin):
        at_once = 2

        async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
            if plant:
                both.wait()
            return await super().run(n, seed, folder, plant)

    assert soak(Pair(), seed=7).survivors == ["quiet"]


def test_what_broke_is_told_and_kept(folder: Path) -> None:
    report = soak(Coin(), n=10, seed=7, plants=False)
    assert report.failures == ["throw 5 of seed 7", "throw 10 of seed 7"]
    assert [path.name for path in folder.iterdir()] == ["coin-7"]
    assert (folder / "coin-7" / "thrown").exists()


def test_what_held_leaves_nothing_behind(folder: Path) -> None:
    assert soak(Coin(), n=4, plants=False).good
    assert list(folder.iterdir()) == []


def test_every_harness_can_be_found_and_has_plants() -> None:
    for name, harness in harnesses().items():
        assert harness.name == name
        assert harness.plants
        assert harness.quick < harness.long
