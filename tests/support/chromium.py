"""Find the Chromium of this machine.

Playwright's own download is never used: a distribution's browser is patched by it and sits where others look.
"""

from __future__ import annotations

import os
import shutil

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
