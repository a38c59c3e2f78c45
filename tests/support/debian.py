"""Install what the tests need of the system and don't find there, where there is an apt-get.

Without Chromium there is little to test, so this ends with 1 then; without strace one test says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.support import chromium

__all__ = ["NEEDS", "Need", "install"]


class Need(NamedTuple):
    """A Debian package, whether it is needed here no more, and what a person can do without apt-get."""

    package: str
    met: Callable[[], object]
    advice: str


NEEDS = (
    Need("chromium", chromium.find, "No Chromium here: install one, or set CHROMIUM=/path/to/it."),
    Need(
        "strace",
        lambda: sys.platform != "linux" or shutil.which("strace"),
        "No strace here: install it, to see what is on the disk when an answer leaves.",
    ),
)


def install(*packages: str) -> None:
    """Ask apt for them; raises ``CalledProcessError`` where it says no."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", *packages],
    ):
        subprocess.run([*sudo, *command], check=True, env=environment)


def main() -> int:
    missing = [need.package for need in NEEDS if not need.met()]
    if missing and shutil.which("apt-get"):
        try:
            install(*missing)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"apt-get could not install {' and '.join(missing)} ({error}).", file=sys.stderr)
    for need in NEEDS:
        if not need.met():
            print(need.advice, file=sys.stderr)
    return 0 if chromium.find() else 1


if __name__ == "__main__":
    sys.exit(main())
