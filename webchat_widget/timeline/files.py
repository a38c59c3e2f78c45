"""Where a kernel keeps a conversation: a file of its own, named after it (docs/contract.md, 8)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

__all__ = ["FOLDER", "PROMISE_SECONDS", "conversation_file"]

FOLDER = ("webchat", "conversations")
"""Below Jupyter's data directory; kernels and servers must agree on it."""

PROMISE_SECONDS = 3.0
"""For so long a server leaves what it has handed over to the kernel, which opens it within milliseconds."""

_TAGGED = re.compile(r".*-[0-9a-f]{8}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
"""What Windows takes for a device, whatever the extension is."""


def conversation_file(folder: Path, conv_id: str) -> Path:
    """The file of a conversation.

    Some file systems do not tell `A` from `a`, so names are lower-case. A tag tells those apart that are not
    the conv_id itself; a conv_id that looks as if it had a tag gets one as well, so no two share a file.
    """
    name = conv_id.lower()
    if name != conv_id or _TAGGED.fullmatch(name):
        name = f"{name}-{hashlib.sha256(conv_id.encode()).hexdigest()[:8]}"
    if _DEVICE.fullmatch(name):
        name = f"_{name}"  # no conv_id begins like this
    return folder / f"{name}.sqlite"
