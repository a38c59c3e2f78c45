"""Bugs planted on purpose: here, or in a server of its own that is started for it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

__all__ = ["plant", "planted", "sow"]

ROOT = Path(__file__).resolve().parents[2]


def plant(harness: str, name: str) -> None:
    """Call the function *name* of the module `tests.soak.<harness>`: it changes the product for good."""
    getattr(importlib.import_module(f"tests.soak.{harness}"), name)()


@contextmanager
def planted(owner: object, name: str, value: object) -> Iterator[None]:
    """Another *value* in the place of an attribute of the product, for a while."""
    with mock.patch.object(owner, name, value):
        yield


def sow(config_folder: Path, harness: str, *names: str) -> None:
    """A Jupyter server with this folder of settings starts with these plants, and only with these."""
    config_folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "import sys",
        f"sys.path.insert(0, {str(ROOT)!r})",
        "from tests.soak.plants import plant",
        *(f"plant({harness!r}, {name!r})" for name in names),
    ]
    (config_folder / "jupyter_server_config.py").write_text("\n".join(lines) + "\n")
