"""Rows of a person's own kinds on the server: posted outside of runs, or said by a tool in a kernel."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.server.kernels import Heard, Kernel, manager
from tests.server.test_websocket import join
from tests.support.jupyter import Jupyter
from webchat_widget.tools.own_events import MAX_BYTES, RESERVED
from webchat_widget.tools.row_queue import MAX_ROWS

__all__ = ["join"]

JSON = {"Content-Type": "application/json"}
SETUP = """
from webchat_widget import Event, emit

class Weather(Event):
    city: str
    celsius: float
"""


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"own-{uuid.uuid4()}"


class TestTheRoute:
    async def test_every_reader_gets_the_row(
        self, server: Jupyter, conv: str, join: Callable[..., Any]
    ) -> None:
        async with join(conv_id=conv) as reader:
            body = {"kind": "weather", "props": {"city": "Rome"}}
            path = f"webchat/conversations/{conv}/events"
            posted = await asyncio.to_thread(server.post_json, path, body)
            frame = await reader.until("timeline.upsert")
        [row] = server.timeline(conv)
        entity = frame["event"]["data"]["entity"]
        assert posted == {"id": row["id"]}
        assert row["id"].startswith("event:weather:")
        assert (row["kind"], row["props"]) == ("weather", {"city": "Rome"})
        assert (entity["id"], entity["kind"], entity["props"]) == (row["id"], row["kind"], row["props"])
        assert frame["event"]["seq"] == row["version"]

    def test_the_same_id_is_the_same_row(self, server: Jupyter, client: httpx.Client, conv: str) -> None:
        for props in ({"city": "Rome", "celsius": 20}, {"celsius": 21}):
            body = {"kind": "weather", "id": "rome", "props": props}
            reply = client.post(f"conversations/{conv}/events", json=body)
            assert reply.json() == {"id": "event:weather:rome"}
        assert [row["props"] for row in server.timeline(conv)] == [{"city": "Rome", "celsius": 21}]

    def test_a_row_outlives_a_crash(self, tmp_path: Path) -> None:
        with Jupyter(tmp_path, command="webchat", args=["--WebChat.demo_delay=0"]) as server:
            body = {"kind": "weather", "props": {"city": "Rome", "hours": [20.5, None]}}
            server.post_json("webchat/conversations/c/events", body)
            before = server.timeline("c")
            server.kill()
            server.start()
            assert server.timeline("c") == before
            [known] = server.get_json("webchat/conversations")
            assert known["conv_id"] == "c"

    @pytest.mark.parametrize(
        ("body", "status", "field"),
        [
            ({}, 400, None),
            ({"kind": "weather"}, 400, None),
            ({"kind": 3, "props": {}}, 400, None),
            ({"kind": "weather", "id": 3, "props": {}}, 400, None),
            ({"kind": "weather", "props": []}, 400, None),
            *(({"kind": kind, "props": {}}, 422, "kind") for kind in ("Weather", "", *sorted(RESERVED))),
            ({"kind": "weather", "id": "a:b", "props": {}}, 422, "id"),
            ({"kind": "weather", "props": {"text": "x" * MAX_BYTES}}, 422, "props"),
        ],
    )
    def test_what_is_refused(
        self,
        server: Jupyter,
        client: httpx.Client,
        conv: str,
        body: dict[str, Any],
        status: int,
        field: str | None,
    ) -> None:
        reply = client.post(f"conversations/{conv}/events", json=body)
        assert (reply.status_code, reply.json()["code"]) == (status, "bad_event")
        assert reply.json().get("field") == field
        assert reply.json()["message"].endswith(".")
        assert server.timeline(conv) == []

    def test_what_is_no_json(self, client: httpx.Client, conv: str) -> None:
        body = '{"kind": "weather", "props": {"celsius": NaN}}'
        reply = client.post(f"conversations/{conv}/events", content=body, headers=JSON)
        assert (reply.status_code, reply.json()["code"]) == (400, "bad_json")


@pytest_asyncio.fixture(loop_scope="class", scope="class", params=[False, True], ids=["7", "6"])
async def kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Kernel]:
    """A kernel that lives for all tests."""
    folder = tmp_path_factory.mktemp("kernel")
    kernel = await Kernel.start(manager(folder), folder, old=request.param)
    await kernel.run(SETUP)
    yield kernel
    await kernel.end()


@pytest.mark.asyncio(loop_scope="class")
class TestAToolInAKernel:
    @pytest.mark.parametrize(
        "code",
        [
            'def look():\n    emit(Weather("Rome", 20.5))',
            '@tool(thread=True)\ndef look():\n    emit(Weather("Rome", 20.5))',
            'async def look():\n    emit(Weather("Rome", 20.5))',
            'def look():\n    emit(Weather("Rome", 20.5))\n    yield 0.5',
        ],
        ids=["on the main thread", "beside it", "async", "in steps"],
    )
    async def test_it_reaches_the_server(self, kernel: Kernel, code: str) -> None:
        [look] = await kernel.offer(code, "look")
        heard = Heard()
        await look.call({}, heard)
        assert [(row.kind, row.id, row.props) for row in heard.rows] == [
            ("weather", "", {"city": "Rome", "celsius": 20.5})
        ]

    async def test_code_that_a_model_wrote_may_too(self, kernel: Kernel) -> None:
        [run_code] = await kernel.offer("from webchat_widget.builtin import run_code", "run_code")
        heard = Heard()
        await run_code.call({"code": "emit(Weather('Rome', 1, id='here'))"}, heard)
        assert [row.id for row in heard.rows] == ["here"]

    async def test_a_flood_is_bounded(self, kernel: Kernel) -> None:
        """More than a run keeps comes, so that the run says so."""
        code = (
            "def flood():\n"
            "    for n in range(10_000):\n"
            "        emit(Weather('Rome', n))\n"
            "        emit(Weather('Paris', n, id='one'))"
        )
        [flood] = await kernel.offer(code, "flood")
        heard = Heard()
        await flood.call({}, heard)
        assert len([row for row in heard.rows if not row.id]) == MAX_ROWS
        changes = [row.props["celsius"] for row in heard.rows if row.id]
        assert changes[-1] == 9_999
        assert len(changes) < 1000

    async def test_a_kernel_with_other_rules_loses_the_event_and_not_the_call(self, kernel: Kernel) -> None:
        code = (
            "from webchat_widget.tools import emit as module\n"
            "from webchat_widget.tools.own_events import OwnRow\n"
            "def odd():\n"
            "    module._VOICE.get().report.event(OwnRow('message', '', {'role': 'user'}, 0))\n"
            "    emit(Weather('Rome', 1))\n"
            "    return 'done'"
        )
        [odd] = await kernel.offer(code, "odd")
        heard = Heard()
        assert (await odd.call({}, heard)).text == "done"
        assert [row.kind for row in heard.rows] == ["weather"]
