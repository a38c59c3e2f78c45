"""What a server asks of the system, call by call: a Jupyter server under strace.

Of each call there is when it began and when it ended, in the order of all threads, and every byte of what was
written, sent and received.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tests.support.jupyter import Jupyter
from tests.support.waiting import until

__all__ = ["Moment", "TracedJupyter", "moments", "unavailable"]

_CALLS = "pwrite64,write,pwritev,writev,ftruncate,fsync,fdatasync,sendto,sendmsg,recvfrom"
_OPTIONS = ("-D", "-f", "--seccomp-bpf", "-y", "-s", "1000000")
"""`-D`: what is traced stays our own child, and asks for it itself, which systems allow that forbid to trace
others."""
_LINE = re.compile(rb"(?P<thread>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")
_FILE = re.compile(rb"(?P<fd>\d+)<(?P<file>(?:[^<>]|->)*)>")
_TEXT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_RESULT = re.compile(rb"= (-?\d+)[^=]*$")
_LAST_NUMBER = re.compile(rb", (\d+)(?:\)| <unfinished)")


class Moment(Struct, frozen=True):
    """A call began, or ended. `id` is that of the call in both.

    `file` is the path of a file, or a name of the socket; `data` what goes out, and at the end of a
    `recvfrom` what came in; `offset` that of a `pwrite64`, or the length of an `ftruncate`; `result` what the
    system answered, at the end.
    """

    id: int
    what: Literal["began", "ended"]
    call: str
    file: str
    data: bytes
    offset: int
    result: int


class TracedJupyter(Jupyter):
    """A server of which every call that writes, syncs, sends or receives is kept in `trace`."""

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def wait_traced(self, pid: int) -> None:
        """Wait until the trace of an ended server of that `pid` is whole."""
        end = re.compile(rb"^%d +\+\+\+ (exited|killed)" % pid, re.MULTILINE)
        until(lambda: end.search(self._tail()), f"the trace tells of the end of {pid}")

    def _tail(self) -> bytes:
        with self.trace.open("rb") as file:
            file.seek(max(0, self.trace.stat().st_size - 10_000))
            return file.read()

    def _command_line(self) -> list[str]:
        return ["strace", *_OPTIONS, "-o", str(self.trace), "-e", f"trace={_CALLS}", *super()._command_line()]


def unavailable() -> tuple[Literal["no system", "not installed", "not allowed"], str] | None:
    """Why nothing can be traced here, as a word and a sentence; None where it can."""
    if sys.platform != "linux":
        return "no system", f"There is no strace for {sys.platform}: what reaches the disk can't be watched."
    if shutil.which("strace") is None:
        return "not installed", "There is no strace here: install it (`make test` does, where apt-get is)."
    with tempfile.NamedTemporaryFile() as trace:
        command = ["strace", *_OPTIONS, "-o", trace.name, "-e", "trace=write", "true"]
        tried = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if b"+++ exited with 0 +++" in trace.read():
            return None
    said = " / ".join(tried.stdout.decode(errors="replace").splitlines())
    return "not allowed", f"This system lets nobody trace a process, not even `true`: {said}"


def moments(trace: Path) -> Iterator[Moment]:
    """What happened, in the order in which it did."""
    open: dict[bytes, Moment] = {}
    with trace.open("rb") as lines:
        for number, line in enumerate(lines):
            parts = _LINE.match(line)
            if parts is None:
                continue  # a signal, or an end
            thread, rest = parts["thread"], parts["rest"]
            if parts["resumed"]:
                moment = open.pop(thread)
            else:
                moment = _began(number, parts["name"].decode(), rest)
                yield moment
            if rest.endswith(b"<unfinished ...>"):
                open[thread] = moment
                continue
            result = _RESULT.search(rest)
            if result is None:
                continue  # its process was killed in it
            data = _text(rest) if moment.call == "recvfrom" else moment.data
            yield Moment(
                moment.id,
                "ended",
                moment.call,
                moment.file,
                data,
                moment.offset,
                int(result[1]),
            )


def _began(id: int, call: str, rest: bytes) -> Moment:
    file = _FILE.match(rest)
    number = _LAST_NUMBER.search(_TEXT.sub(b"", rest))
    return Moment(
        id,
        "began",
        call,
        file["file"].decode(errors="replace") if file else "",
        b"" if call == "recvfrom" else _text(rest),
        int(number[1]) if number and call in ("pwrite64", "ftruncate") else -1,
        0,
    )


def _text(rest: bytes) -> bytes:
    found = _TEXT.search(rest)
    return bytes(ast.literal_eval(f'b"{found[1].decode()}"')) if found else b""
