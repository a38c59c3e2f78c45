"""The socket: what is refused, what is said first, and what every reader gets."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply

Frame = dict[str, Any]


@pytest.fixture
def conv(model: ModelServer) -> str:
    """A conversation that no other test has."""
    model.reset()
    return f"ws-{uuid.uuid4()}"


class Reader:
    """A page's end of the socket."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []

    async def next(self) -> Frame:
        """The next frame."""
        message = await asyncio.wait_for(self.socket.read_message(), 20)
        assert isinstance(message, str), f"closed with {self.socket.close_code}"
        frame: Frame = json.loads(message)
        self.frames.append(frame)
        return frame

    async def until(self, type: str) -> Frame:
        """The next frame of a type; those before it are kept."""
        while (frame := await self.next())["event"]["type"] != type:
            pass
        return frame


@pytest.fixture
def join(server: Jupyter) -> Callable[..., Any]:
    """Open a socket; `async with join(conv_id="x") as reader`."""

    @asynccontextmanager
    async def connect(**query: str) -> AsyncIterator[Reader]:
        address = server.url(f"webchat/ws?{urlencode(query)}").replace("http", "ws", 1)
        headers = {"Authorization": f"token {server.token}"}
        socket = await websocket_connect(HTTPRequest(address, headers=headers))
        try:
            yield Reader(socket)
        finally:
            socket.close()

    return connect


@pytest.fixture
async def client(server: Jupyter) -> AsyncIterator[httpx.AsyncClient]:
    """A client that holds the token."""
    headers = {"Authorization": f"token {server.token}"}
    async with httpx.AsyncClient(base_url=server.url("webchat/"), headers=headers, timeout=30) as http:
        yield http


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"conv_id": "../x"}, 400),
        ({"conv_id": ""}, 400),
        ({"conv_id": "x", "deltas": "some"}, 400),
        ({"conv_id": "x", "profile": "nobody"}, 404),
    ],
)
async def test_a_bad_socket_is_refused_before_the_upgrade(
    join: Callable[..., Any], query: dict[str, str], status: int
) -> None:
    with pytest.raises(HTTPClientError) as refused:
        async with join(**query):
            pass
    assert refused.value.code == status


async def test_too_many_readers_are_refused_before_the_upgrade(join: Callable[..., Any], conv: str) -> None:
    async with join(conv_id=conv) as a, join(conv_id=conv) as b:
        async with join(conv_id=conv) as c, join(conv_id=conv) as d:
            for reader in (a, b, c, d):
                await reader.next()
            with pytest.raises(HTTPClientError) as refused:
                async with join(conv_id=conv):
                    pass
        assert refused.value.code == 429


async def test_hello_comes_first_and_changes_nothing(
    join: Callable[..., Any], client: httpx.AsyncClient, conv: str
) -> None:
    async with join(conv_id=conv) as reader:
        hello = await reader.next()
    assert (hello["sem"], hello["n"]) == (True, 1)
    event = hello["event"]
    assert (event["type"], event["id"]) == ("ws.hello", f"ws.hello:{conv}")
    assert "seq" not in event
    timeline = await client.get("timeline", params={"conv_id": conv})
    said = event["data"]
    assert (said["protocol"], said["convId"], said["version"]) == (1, conv, 0)
    assert said["epoch"] == timeline.headers["X-Timeline-Epoch"]
    assert timeline.json() == []


async def test_every_frame_is_numbered_and_every_seq_grows(
    join: Callable[..., Any], client: httpx.AsyncClient, model: ModelServer, conv: str
) -> None:
    model.script(Reply("some words of an answer", reasoning="let me think"))
    async with join(conv_id=conv, deltas="append") as reader:
        await client.post("chat", json={"prompt": "hi", "conv_id": conv})
        await reader.until("run.finished")
    assert [frame["n"] for frame in reader.frames] == list(range(1, len(reader.frames) + 1))
    seqs = [frame["event"]["seq"] for frame in reader.frames[1:]]
    assert seqs == sorted(set(seqs))
    types = [frame["event"]["type"] for frame in reader.frames]
    assert types[:3] == ["ws.hello", "run.started", "timeline.upsert"]
    assert types[-2:] == ["llm.final", "run.finished"]
    assert {
        "llm.thinking.start",
        "llm.thinking.delta",
        "llm.thinking.final",
        "llm.start",
        "llm.delta",
    } <= set(types)
    final = reader.frames[-2]["event"]["data"]
    assert (final["text"], final["status"]) == ("some words of an answer", "complete")


@pytest.mark.parametrize("form", ["append", "cumulative"])
async def test_text_arrives_while_it_streams_in_either_form(
    join: Callable[..., Any], client: httpx.AsyncClient, model: ModelServer, conv: str, form: str
) -> None:
    gate = Gate()
    model.script(Reply(chunks=["a😀", "b", "c"], hold=gate))
    text = ""
    async with join(conv_id=conv, deltas=form) as reader:
        await client.post("chat", json={"prompt": "hi", "conv_id": conv})
        for expected in ("a😀", "a😀b", "a😀bc"):
            gate.step()
            data = (await reader.until("llm.delta"))["event"]["data"]
            if form == "append":
                assert data["offset"] == len(text.encode("utf-16-le")) // 2
                text += data["delta"]
            else:
                text = data["cumulative"]
            assert text == expected
        gate.open()
        await reader.until("run.finished")


async def test_a_second_reader_gets_the_same_frames(
    join: Callable[..., Any], client: httpx.AsyncClient, conv: str
) -> None:
    async with join(conv_id=conv) as first, join(conv_id=conv) as second:
        await client.post("chat", json={"prompt": "hi", "conv_id": conv})
        await first.until("run.finished")
        await second.until("run.finished")
    kinds = [
        [f["event"] for f in r.frames if not f["event"]["type"].endswith("delta")] for r in (first, second)
    ]
    assert [event for event in kinds[0] if event["type"] != "ws.hello"] == [
        event for event in kinds[1] if event["type"] != "ws.hello"
    ]


@pytest.mark.parametrize(
    "ping", ["ping", '{"type": "ws.ping"}', '{"sem": true, "event": {"type": "ws.ping"}}']
)
async def test_a_ping_is_answered(join: Callable[..., Any], conv: str, ping: str) -> None:
    async with join(conv_id=conv) as reader:
        await reader.next()
        await reader.socket.write_message(ping)
        pong = await reader.next()
    assert (pong["n"], pong["event"]["type"]) == (2, "ws.pong")
    assert pong["event"]["data"] == {"version": 0, "notices": []}


@pytest.mark.parametrize(
    ("message", "code"),
    [("hello", 1008), ('{"type": "run"}', 1008), ("[" * 5000, 1008), (b"\x00\x01", 1003)],
    ids=["text", "another frame", "nesting", "binary"],
)
async def test_a_bad_frame_closes_the_socket(
    join: Callable[..., Any], conv: str, message: str | bytes, code: int
) -> None:
    async with join(conv_id=conv) as reader:
        await reader.next()
        await reader.socket.write_message(message, binary=isinstance(message, bytes))
        assert await asyncio.wait_for(reader.socket.read_message(), 20) is None
        assert reader.socket.close_code == code


async def test_a_run_goes_on_when_its_reader_goes(
    join: Callable[..., Any], client: httpx.AsyncClient, model: ModelServer, conv: str
) -> None:
    gate = Gate()
    model.script(Reply(chunks=["one ", "two"], hold=gate))
    async with join(conv_id=conv) as reader:
        await client.post("chat", json={"prompt": "hi", "conv_id": conv})
        gate.step()
        await reader.until("llm.delta")
    gate.open()
    async with join(conv_id=conv) as reader:
        await reader.next()
        while True:
            rows = (await client.get("timeline", params={"conv_id": conv})).json()
            if [row for row in rows if row["kind"] == "run" and row["props"]["status"] == "finished"]:
                break
    assert [row["props"]["content"] for row in rows if row["kind"] == "message"] == ["hi", "one two"]
