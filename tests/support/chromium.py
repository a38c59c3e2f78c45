"""Find the Chromium of this machine; with ``--install``, fetch Debian's where there is none.

Playwright's own download is never used: a distribution's browser is patched by it and sits where others look.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["ARGS", "find"]

# No sandbox, because a container's root has none to offer; the rest keeps the browser from calling home.
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find() -> str | None:
    """The path of a Chromium: ``$CHROMIUM`` where it is set, else one that is installed."""
    if chosen := os.environ.get("CHROMIUM"):
        return shutil.which(chosen)
    return next((path for name in (*_NAMES, *_APPS) if (path := shutil.which(name))), None)


def install() -> None:
    """Ask apt for Chromium; raises ``CalledProcessError`` where it says no."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", "chromium"],
    ):
        subprocess.run([*sudo, *command], check=True, env=environment)


def main() -> int:
    if find() is None and "--install" in sys.argv:
        if shutil.which("apt-get") is None:
            print(
                "No Chromium here, and no apt-get: install one and set CHROMIUM=/path/to/it.", file=sys.stderr
            )
            return 1
        try:
            install()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"Chromium could not be installed ({error}). Set CHROMIUM=/path/to/one.", file=sys.stderr)
            return 1
    path = find()
    print(path or "No Chromium here: install one, or set CHROMIUM=/path/to/it.")
    return 0 if path else 1


if __name__ == "__main__":
    sys.exit(main())
