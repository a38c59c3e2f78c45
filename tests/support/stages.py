"""Run every check of the project, one stage after the other, and end in one line that counts them.

A stage that fails does not keep the next ones from running. Test runners leave a JUnit file, whose cases
are counted; a stage without one (lint, types) is one check. The last line is ``N passed, M failed``
(``, K skipped`` may follow), and the exit code says whether M is 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

__all__ = ["STAGES", "Count", "Stage", "count"]

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "test-results"
JUNIT = "{junit}"
AT_ONCE = ("-n", "2", "--dist", "loadfile")
"""Most tests wait for a kernel, a server or a browser, so two files at once take little more than half the
time. A file stays together: its servers are made once."""


@dataclass(frozen=True)
class Stage:
    """One command; ``group`` is what ``--only`` selects, ``{junit}`` in ``command`` becomes a path."""

    name: str
    group: str
    command: tuple[str, ...]
    folder: str = "."

    @property
    def report(self) -> Path | None:
        has_report = any(JUNIT in argument for argument in self.command)
        return REPORTS / f"{self.name}.xml" if has_report else None


@dataclass(frozen=True)
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def _pytest(*arguments: str) -> tuple[str, ...]:
    return _python("pytest", *arguments, "-q", f"--junitxml={JUNIT}")


def _npm(script: str, *arguments: str) -> tuple[str, ...]:
    return ("npm", "run", "--silent", script, *(("--", *arguments) if arguments else ()))


STAGES = (
    Stage("ruff", "lint", _python("ruff", "check", ".")),
    Stage("ruff-format", "lint", _python("ruff", "format", "--check", ".")),
    Stage("biome", "lint", _npm("lint"), "js"),
    Stage("mypy", "types", _python("mypy")),
    Stage("tsc", "types", _npm("types"), "js"),
    Stage("pytest", "unit", _pytest("tests", "--ignore=tests/e2e", *AT_ONCE)),
    Stage(
        "vitest",
        "unit",
        _npm("test", "--reporter=default", "--reporter=junit", f"--outputFile.junit={JUNIT}"),
        "js",
    ),
    Stage("nbval", "notebooks", _pytest("--nbval", "notebooks")),
    Stage("browser", "browser", _pytest("tests/e2e", *AT_ONCE)),
)


def count(report: Path | None, exit_code: int) -> Count:
    """What a stage adds to the sum; a stage that failed never counts as all passed."""
    if report is None:
        return Count(passed=1) if exit_code == 0 else Count(failed=1)
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    if not failed and (exit_code != 0 or not cases):
        failed = 1  # it died before, after or without its tests
        return Count(len(cases) - skipped, failed, skipped)
    return Count(len(cases) - failed - skipped, failed, skipped)


def run(stage: Stage) -> tuple[Count, float]:
    report = stage.report
    command = [argument.replace(JUNIT, str(report)) for argument in stage.command]
    if report is not None:
        report.unlink(missing_ok=True)
    print(f"\n=== {stage.name}", flush=True)
    start = time.monotonic()
    try:
        exit_code = subprocess.run(command, cwd=ROOT / stage.folder, check=False).returncode
    except OSError as error:
        print(error, flush=True)
        exit_code = 127
    return count(report, exit_code), time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted({stage.group for stage in STAGES}))
    options = parser.parse_args()
    REPORTS.mkdir(exist_ok=True)
    results = [
        (stage.name, *run(stage)) for stage in STAGES if not options.only or stage.group in options.only
    ]
    print("\n=== stage         seconds  passed  failed  skipped")
    for name, counted, seconds in results:
        mark = "FAIL" if counted.failed else "ok  "
        numbers = f"{counted.passed:6}  {counted.failed:6}  {counted.skipped:7}"
        print(f"{mark} {name:12} {seconds:7.1f}  {numbers}")
    total = sum((counted for _, counted, _ in results), Count())
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
