"""A WebSocket by hand: it reads as little and as slowly as it is told, and answers nothing by itself."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.jupyter import Jupyter

__all__ = ["PING", "RawSocket"]

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class RawSocket:
    """One reader of a conversation. *buffer*: bytes that this end's kernel may take before anybody reads."""

    def __init__(self, server: Jupyter, *, buffer: int | None = None, **query: str) -> None:
        self._socket = socket.socket()
        if buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(60)
        self._socket.connect(("127.0.0.1", server.port))
        self._read = bytearray()
        path = f"{server.base_url}webchat/ws?{urlencode(query)}"
        headers: Mapping[str, str] = {
            "Host": f"127.0.0.1:{server.port}",
            "Authorization": f"token {server.token}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            self.take(1000)
        assert b" 101 " in self._read[:20], bytes(self._read)
        del self._read[: end + 4]

    def take(self, count: int) -> int:
        """Read at most so many bytes, once there are any; how many these were. 0 at the end."""
        data = self._socket.recv(count)
        self._read += data
        return len(data)

    def trickle(self, per_second: int, seconds: float) -> None:
        """Read steadily at such a pace, in bytes, for so long."""
        step = 0.02
        for _ in range(int(seconds / step)):
            self.take(int(per_second * step))
            time.sleep(step)

    def frame(self) -> tuple[int, bytes]:
        """The opcode and the content of the next frame. Raises EOFError where there is none any more."""
        while len(self._read) < 2:
            self._more()
        length, head = self._read[1], 2
        if length in (126, 127):
            head = 4 if length == 126 else 10
            while len(self._read) < head:
                self._more()
            (length,) = struct.unpack("!H" if head == 4 else "!Q", self._read[2:head])
        while len(self._read) < head + length:
            self._more()
        opcode, content = self._read[0] & 15, bytes(self._read[head : head + length])
        del self._read[: head + length]
        return opcode, content

    def event(self) -> dict[str, Any] | None:
        """The event of the next frame of text; pings are answered. None where it was closed."""
        while True:
            opcode, content = self.frame()
            if opcode == TEXT:
                event: dict[str, Any] = json.loads(content)["event"]
                return event
            if opcode == PING:
                self.pong(content)
            elif opcode == CLOSE:
                return None

    def closing(self, seconds: float = 60) -> tuple[int, str]:
        """Read what is left, and say nothing: the code and the reason with which the other end closes, 1006
        where it says none. Raises TimeoutError where it does not close within that time."""
        end = time.monotonic() + seconds
        with contextlib.suppress(EOFError, ConnectionError):
            while (left := end - time.monotonic()) > 0:
                self._socket.settimeout(left)
                opcode, content = self.frame()
                if opcode == CLOSE:
                    return int(struct.unpack("!H", content[:2])[0]), content[2:].decode()
            raise TimeoutError
        return 1006, ""

    def is_let_go(self, seconds: float) -> bool:
        """Whether the other end hangs up within that time, without a word from here."""
        end = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError, ConnectionError):
            while (left := end - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(1 << 20):
                    return True
            return False
        return time.monotonic() < end

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._say(PING, b"")

    def pong(self, content: bytes) -> None:
        """Give one, with what was in the ping."""
        self._say(PONG, content)

    def _say(self, opcode: int, content: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
        self._socket.sendall(bytes((0x80 | opcode, 0x80 | len(content))) + mask + masked)

    def close(self, *, abruptly: bool = False) -> None:
        """Hang up; *abruptly* with a reset."""
        if abruptly:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _more(self) -> None:
        if not self.take(1 << 16):
            raise EOFError
