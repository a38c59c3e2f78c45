"""Builds the front-end when a package is built, so that nobody who installs one needs Node.

The digest of the sources lies beside what was built from them: a bundle is never stale, and never built
twice. A source distribution carries both, and is installed without Node.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

JS = Path(__file__).parent
STATIC = JS.parent / "webchat_widget" / "static"
DIGEST = STATIC / "sources.sha256"
OUTPUTS = ("widget.js", "page.js", "math.js", "widget.css")


class FrontEndHook(BuildHookInterface):  # type: ignore[misc]
    """Runs `npm ci` and `npm run build` where the sources are newer than the bundle."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before every build, an editable one too."""
        digest = sources_digest()
        if DIGEST.exists() and DIGEST.read_text() == digest and all((STATIC / o).exists() for o in OUTPUTS):
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("Building webchat-widget from its repository needs Node 20 and npm.")
        if not (JS / "node_modules").exists():
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=JS, check=True)
        subprocess.run([npm, "run", "build"], cwd=JS, check=True)
        DIGEST.write_text(digest)


def sources_digest() -> str:
    """SHA-256 over everything that the bundle is made from."""
    found = hashlib.sha256()
    sources = [JS / "package-lock.json", JS / "build.mjs", *sorted((JS / "src").rglob("*"))]
    for path in sources:
        if path.is_file() and ".test." not in path.name:
            found.update(str(path.relative_to(JS)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
