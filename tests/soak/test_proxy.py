"""Pages behind a bad network, and the network itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.soak.harness import soak
from tests.soak.network import Frames, Network, Weather
from tests.soak.proxy import HARNESS

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
FIRST = b"\x81\x05hello"
PING = b"\x89\x00"
SHORT = b"\x81\x02hi"
MIDDLE = b"\x81\x7e" + (300).to_bytes(2) + b"m" * 300
LONG = b"\x81\x7f" + (70_000).to_bytes(8) + b"l" * 70_000


@pytest.mark.timeout(400)
def test_every_page_ends_with_what_its_server_has() -> None:
    report = soak(HARNESS, seed=20261121)
    assert report.good, str(report)


@pytest.mark.parametrize("size", [1, 7, 250, 16_384, 100_000])
def test_frames_are_told_apart_wherever_the_pieces_end(size: int) -> None:
    said = FIRST + PING + SHORT + MIDDLE + LONG + SHORT
    frames, found = Frames(), []
    assert list(frames.feed(b"HTTP/1.1 200 OK\r\n\r\n{}")) == [(b"HTTP/1.1 200 OK\r\n\r\n{}", False)]
    assert list(frames.feed(HEAD + said[:1])) == [(HEAD, False)]
    for start in range(1, len(said), size):
        found += list(frames.feed(said[start : start + size]))
    assert found == [
        (FIRST, True),
        (PING, False),
        (SHORT, True),
        (MIDDLE, True),
        (LONG, True),
        (SHORT, True),
    ]


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """In front of a server that repeats what it hears."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    async with server, Network(server.sockets[0].getsockname()[1], seed=7) as network:
        yield network


async def line(network: Network) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is known to work."""
    reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def test_a_cut_is_heard_at_once_with_a_fin_or_a_reset(network: Network) -> None:
    reader, writer = await line(network)
    network.cut()
    assert await reader.read() == b""
    writer.close()
    reader, writer = await line(network)
    network.cut(hard=True)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert network.counts["cuts"] == 2


async def test_a_line_that_leads_nowhere_says_nothing_and_stays_open(network: Network) -> None:
    reader, writer = await line(network)
    network.deafen(streams=True)
    writer.write(b"still")
    assert await reader.readexactly(5) == b"still"
    network.deafen()
    writer.write(b"there?")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    writer.close()


async def test_new_lines_are_refused_until_they_are_admitted(network: Network) -> None:
    reader, writer = await line(network)
    network.refuse()
    with pytest.raises(OSError):  # noqa: PT011 what refused lines say differs
        await line(network)
    writer.write(b"mine")
    assert await reader.readexactly(4) == b"mine"
    writer.close()
    await network.admit()
    _, writer = await line(network)
    writer.close()


async def test_texts_of_a_stream_get_lost_or_come_twice(network: Network) -> None:
    reader, writer = await line(network)
    writer.write(HEAD + FIRST)
    await reader.readexactly(len(HEAD + FIRST))
    network.weather = Weather(lost=1.0)
    writer.write(SHORT + MIDDLE + PING)
    assert await reader.readexactly(len(PING)) == PING
    network.weather = Weather(doubled=1.0)
    writer.write(SHORT)
    assert await reader.readexactly(2 * len(SHORT)) == SHORT * 2
    writer.close()
    assert (network.counts["lost"], network.counts["doubled"]) == (2, 1)
