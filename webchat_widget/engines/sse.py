"""A reader of server-sent events: bytes in, the data of events out. No I/O.

https://html.spec.whatwg.org/multipage/server-sent-events.html, as far as model servers use it: `data` lines,
of which an event may have several, comments (which servers send to keep a connection open), any of the three
line ends, and a byte order mark before it all.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator

__all__ = ["EventReader"]

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Feed it what the network gives; it gives the data of each event that is whole."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._begun = False
        self._held = False
        """A carriage return came last: it may be half of a line end."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that `chunk` completes."""
        self._rest.append(chunk)
        if self._begun and not self._held and b"\n" not in chunk and b"\r" not in chunk:
            return  # more of a line: however many pieces it comes in, they are joined once
        buffer = b"".join(self._rest)
        if not self._begun:
            if len(buffer) < len(BOM_UTF8) and BOM_UTF8.startswith(buffer):
                return
            self._begun = True
            buffer = buffer.removeprefix(BOM_UTF8)
        self._held = buffer.endswith(b"\r")
        lines = _LINE_END.split(buffer[:-1] if self._held else buffer)
        self._rest = [lines.pop() + (b"\r" if self._held else b"")]
        for line in lines:
            if line.startswith(b"data:"):
                value = line[5:]
                self._data.append(value[1:] if value.startswith(b" ") else value)
            elif not line and self._data:
                data, self._data = self._data, []
                yield data[0] if len(data) == 1 else b"\n".join(data)

    def finish(self) -> Iterator[bytes]:
        """The event that the end of the stream left without its blank line, if any."""
        yield from self.feed(b"\n\n")
