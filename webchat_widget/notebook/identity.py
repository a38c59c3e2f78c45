"""Which conversation is a notebook's own, and which kernel this is."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import uuid

from .remote import was_started_by_a_server

__all__ = ["kernel_id", "notebook_conversation"]

_mine = threading.local()
_CONNECTION_FILE = re.compile(r"kernel-(.+)\.json")


def notebook_conversation() -> str:
    """`nb-` and 32 hexadecimal digits of its path's digest; where no path is known, one of this thread's own.

    A kernel runs its cells on one thread. An application that serves several people from one process (marimo)
    gives each a thread, and they must not meet in one conversation.
    """
    path = _path()
    if path:
        digest = hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()
        return f"nb-{digest[:32]}"
    if not hasattr(_mine, "conv_id"):
        _mine.conv_id = str(uuid.uuid4())
    return str(_mine.conv_id)


def kernel_id() -> str:
    """By what its Jupyter server knows this kernel; empty for a process that is no kernel of a server's."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    if kernelapp is None or not kernelapp.IPKernelApp.initialized() or not was_started_by_a_server():
        return ""
    file = os.path.basename(str(kernelapp.IPKernelApp.instance().connection_file))
    named = _CONNECTION_FILE.fullmatch(file)
    return named[1] if named else ""


def _path() -> str:
    """The notebook's path, as whoever started the kernel says."""
    # A kernel that a program in a notebook has started, say nbconvert, inherits the name of that notebook.
    if was_started_by_a_server():
        return os.environ.get("JPY_SESSION_NAME", "")
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return str(getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__", ""))  # VS Code's own way
