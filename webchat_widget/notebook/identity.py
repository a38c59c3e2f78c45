"""Which conversation is a notebook's own."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from functools import cache

from .remote import was_started_by_a_server

__all__ = ["notebook_conversation"]


def notebook_conversation() -> str:
    """`nb-` and 32 hexadecimal digits of its path's digest; one for this process where no path is known."""
    path = _path()
    return f"nb-{hashlib.sha256(path.encode()).hexdigest()[:32]}" if path else _of_this_process()


def _path() -> str:
    """The notebook's path, as whoever started the kernel says."""
    # A kernel that a program in a notebook has started, say nbconvert, inherits the name of that notebook.
    if was_started_by_a_server():
        return os.environ.get("JPY_SESSION_NAME", "")
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return str(getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__", ""))  # VS Code's own way


@cache
def _of_this_process() -> str:
    return str(uuid.uuid4())
