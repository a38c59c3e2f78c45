"""A conversation leaves a real server for a kernel's file, and comes back."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until
from tests.timeline.kernels import Holder
from webchat_widget.timeline.files import FOLDER, conversation_file


@pytest.fixture
def conv(model: ModelServer) -> str:
    """A conversation that no other test has."""
    model.reset()
    return f"moves-{uuid.uuid4()}"


def file_of(server: Jupyter, conv: str) -> Path:
    """Where a kernel of this server's user keeps a conversation."""
    return conversation_file(server.folder.joinpath("data", *FOLDER), conv)


def say(client: httpx.Client, conv: str, prompt: str) -> None:
    """Send a prompt, and wait for the end of its run."""
    run_id = client.post("chat", json={"prompt": prompt, "conv_id": conv}).raise_for_status().json()["run_id"]
    until(lambda: status(client, conv, run_id) == "finished", f"{prompt!r} is answered")


def status(client: httpx.Client, conv: str, run_id: str) -> str:
    rows: list[dict[str, Any]] = client.get("timeline", params={"conv_id": conv}).json()
    return str(next(row["props"]["status"] for row in rows if row["id"] == run_id))


def hand_over(client: httpx.Client, conv: str) -> httpx.Response:
    return client.post(f"conversations/{conv}/handover", json={})


def address(server: Jupyter, conv: str) -> HTTPRequest:
    """Of a socket."""
    url = server.url(f"webchat/ws?{urlencode({'conv_id': conv})}").replace("http", "ws", 1)
    return HTTPRequest(url, headers={"Authorization": f"token {server.token}"})


def test_while_a_kernel_has_it_every_route_says_so_and_then_it_goes_on(
    server: Jupyter, client: httpx.Client, model: ModelServer, conv: str
) -> None:
    model.script("Hello Ann.", "You are Ann.")
    say(client, conv, "I am Ann")
    moved = hand_over(client, conv)
    assert (moved.status_code, moved.json()) == (200, {"status": "handed_over", "conv_id": conv})
    assert conv not in [each["conv_id"] for each in client.get("conversations").json()]
    file = file_of(server, conv)
    assert file.exists()
    with Holder(file, conv) as kernel:
        refused = [
            client.post("chat", json={"prompt": "Who am I?", "conv_id": conv}),
            client.get("timeline", params={"conv_id": conv}),
            client.get("ws", params={"conv_id": conv}, headers={"Origin": server.url().rstrip("/")}),
            client.post(f"conversations/{conv}/stop"),
            client.put(f"conversations/{conv}/settings", json={"system_prompt": "Be brief"}),
            hand_over(client, conv),
        ]
        assert [(reply.status_code, reply.json()["code"]) for reply in refused] == [
            (409, "conversation_held")
        ] * len(refused)
        assert {reply.json()["reason"] for reply in refused} == {"Conflict"}
        assert "kernel" in refused[0].json()["message"]
        kernel.end()
    reply = until(
        lambda: (r := client.get("timeline", params={"conv_id": conv})).is_success and r, "it is ours"
    )
    known = reply.json()
    assert known[-1]["id"] == "held", "with what the kernel wrote"
    assert not file.exists()
    say(client, conv, "Who am I?")
    sent = [(m["role"], m["content"]) for m in model.completions[-1].body["messages"]]
    assert sent == [("user", "I am Ann"), ("assistant", "Hello Ann."), ("user", "Who am I?")]


async def test_a_page_is_sent_away_and_refused_before_its_socket_opens(
    server: Jupyter, client: httpx.Client, model: ModelServer, conv: str
) -> None:
    gate = Gate()
    model.script(Reply(chunks=["half ", "of it"], hold=gate))
    page = await websocket_connect(address(server, conv))
    await asyncio.to_thread(client.post, "chat", json={"prompt": "hi", "conv_id": conv})
    await asyncio.to_thread(gate.step)
    message = ""
    while "llm.delta" not in str(message):
        message = await asyncio.wait_for(page.read_message(), 20)
    assert (await asyncio.to_thread(hand_over, client, conv)).json()["status"] == "handed_over"
    while await asyncio.wait_for(page.read_message(), 20) is not None:
        pass
    assert page.close_code == 1001
    page.close()
    with pytest.raises(HTTPClientError) as error:
        await websocket_connect(address(server, conv))
    assert error.value.code == 409
    assert (await asyncio.to_thread(model.wait_disconnected))[0].chunks_sent == 1


def test_one_that_the_server_does_not_know(server: Jupyter, client: httpx.Client, conv: str) -> None:
    assert hand_over(client, conv).json() == {"status": "unknown", "conv_id": conv}
    assert not file_of(server, conv).exists()


def test_what_makes_no_sense_is_refused(client: httpx.Client, conv: str) -> None:
    assert hand_over(client, "..%2Fx").status_code == 400
    text = client.post(f"conversations/{conv}/handover", content="x", headers={"Content-Type": "text/plain"})
    assert (text.status_code, text.json()["code"]) == (415, "not_json")


def test_a_server_without_a_file_neither_takes_nor_gives(tmp_path: Path, model: ModelServer) -> None:
    server = Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url})
    server.timeline_db = Path(":memory:")
    with server:
        with Holder(file_of(server, "c")) as kernel:
            kernel.end()
        headers = {"Authorization": f"token {server.token}"}
        with httpx.Client(base_url=server.url("webchat/"), headers=headers, timeout=30) as client:
            assert client.get("timeline", params={"conv_id": "c"}).json() == []
            assert file_of(server, "c").exists(), "what it took would be lost when it ends"
            refused = hand_over(client, "c")
            assert (refused.status_code, refused.json()["code"]) == (422, "no_handover")
