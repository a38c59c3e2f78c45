"""What was answered is on the disk when the answer leaves, should the power fail at that moment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.harness import soak
from tests.soak.power import HARNESS
from tests.soak.power_disk import Disk
from tests.support.strace import Moment, moments, unavailable


@pytest.mark.timeout(300)
def test_what_was_answered_survives_a_power_cut() -> None:
    match unavailable():
        case ("not installed", sentence):
            pytest.fail(sentence)
        case (_, sentence):  # a system without strace, or one that lets nobody trace a process
            pytest.skip(sentence)
    report = soak(HARNESS, seed=3)
    assert report.good, str(report)


class TestTheTrace:
    """Lines of strace, which go from one thread to another in the middle of a call."""

    def test_calls_begin_and_end_in_their_order(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        trace.write_bytes(
            b'11 pwrite64(7</a/x-wal>, "\\0a\\"\\n", 4, 24 <unfinished ...>\n'
            b"12 fdatasync(8</a/y>)           = 0\n"
            b"11 <... pwrite64 resumed>)      = 4\n"
            b"11 recvfrom(9<socket:[5]>,  <unfinished ...>\n"
            b"12 --- SIGCHLD {si_signo=SIGCHLD} ---\n"
            b'11 <... recvfrom resumed>"POST /", 65536, 0, NULL, NULL) = 6\n'
            b'11 sendto(9<socket:[5]>, "HTTP/1.1 200 OK", 15, 0, NULL, 0) = -1 EPIPE (Broken pipe)\n'
            b'11 pwrite64(7</a/x-wal>, "b", 1, 28 <unfinished ...>) = ?\n'
            b"11 +++ killed by SIGKILL +++\n"
        )
        seen = [(m.what, m.call, m.file, m.data, m.offset, m.result) for m in moments(trace)]
        assert seen == [
            ("began", "pwrite64", "/a/x-wal", b'\0a"\n', 24, 0),
            ("began", "fdatasync", "/a/y", b"", -1, 0),
            ("ended", "fdatasync", "/a/y", b"", -1, 0),
            ("ended", "pwrite64", "/a/x-wal", b'\0a"\n', 24, 4),
            ("began", "recvfrom", "socket:[5]", b"", -1, 0),
            ("ended", "recvfrom", "socket:[5]", b"POST /", -1, 6),
            ("began", "sendto", "socket:[5]", b"HTTP/1.1 200 OK", -1, 0),
            ("ended", "sendto", "socket:[5]", b"HTTP/1.1 200 OK", -1, -1),
            ("began", "pwrite64", "/a/x-wal", b"b", 28, 0),
        ]


class Calls:
    """What a process does with the file `f` of a folder, and what a power cut leaves of it."""

    def __init__(self, folder: Path) -> None:
        self._file, self._left = folder / "f", folder / "left"
        self._left.mkdir()
        self._disk = Disk(folder)

    def begin(self, id: int, call: str, data: bytes = b"", offset: int = 0) -> None:
        self._disk.take(Moment(id, "began", call, str(self._file), data, offset, 0))

    def end(self, id: int, call: str, data: bytes = b"", offset: int = 0) -> None:
        self._disk.take(Moment(id, "ended", call, str(self._file), data, offset, len(data)))

    def make(self, id: int, call: str, data: bytes = b"", offset: int = 0) -> None:
        self.begin(id, call, data, offset)
        self.end(id, call, data, offset)

    def left(self, keeps: float = 0.0) -> bytes:
        """What `f` holds then."""
        self._disk.leave(self._left, random.Random(1), keeps)
        return (self._left / "f").read_bytes()


class TestTheDisk:
    """What is there after a power cut."""

    @pytest.fixture
    def calls(self, tmp_path: Path) -> Calls:
        """A folder without files."""
        return Calls(tmp_path)

    def test_what_was_synced_stays_and_the_rest_may(self, calls: Calls) -> None:
        calls.make(1, "pwrite64", b"abc", 2)
        calls.make(2, "fsync")
        calls.make(3, "pwrite64", b"X", 0)
        assert calls.left() == b"\0\0abc"
        assert calls.left(keeps=1.0) == b"X\0abc"

    def test_a_sync_that_has_not_ended_promises_nothing(self, calls: Calls) -> None:
        calls.make(1, "pwrite64", b"abc")
        calls.begin(2, "fdatasync")
        assert calls.left() == b""
        calls.end(2, "fdatasync")
        assert calls.left() == b"abc"

    def test_a_write_that_ends_during_a_sync_is_not_part_of_it(self, calls: Calls) -> None:
        calls.begin(1, "pwrite64", b"abc")
        calls.begin(2, "fdatasync")
        calls.end(1, "pwrite64", b"abc")
        calls.end(2, "fdatasync")
        assert calls.left() == b""

    def test_a_file_that_was_cut_is_shorter(self, calls: Calls) -> None:
        calls.make(1, "pwrite64", b"abcdef")
        calls.make(2, "ftruncate", offset=3)
        calls.make(3, "fsync")
        assert calls.left() == b"abc"
