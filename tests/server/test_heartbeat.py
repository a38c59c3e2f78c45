"""Whether a reader is still there, with an administrator's times instead of ours."""

from __future__ import annotations

import asyncio

import pytest

from jupyter_server_webchat.heartbeat import Heartbeat


@pytest.mark.parametrize("answer_ms", [20, 50, 90], ids="{} ms".format)
async def test_who_answers_each_ping_stays_however_short_the_time_for_an_answer(answer_ms: int) -> None:
    pings, lost, enough = 0, False, asyncio.Event()

    def ping() -> None:
        nonlocal pings
        pings += 1
        if pings == 5:
            enough.set()
        asyncio.get_running_loop().call_soon(heart.heard)

    def lose() -> None:
        nonlocal lost
        lost = True
        enough.set()

    heart = Heartbeat({"ws_ping_interval": 50, "ws_ping_timeout": answer_ms}, ping, lose)
    async with asyncio.timeout(20):
        await enough.wait()
    heart.stop()
    assert not lost


async def test_who_does_not_answer_is_lost_after_the_ping_and_the_time_for_an_answer() -> None:
    loop, lost, gone = asyncio.get_running_loop(), 0.0, asyncio.Event()

    def lose() -> None:
        nonlocal lost
        lost = loop.time()
        gone.set()

    began = loop.time()
    heart = Heartbeat({"websocket_ping_interval": 0.2, "websocket_ping_timeout": 0.1}, lambda: None, lose)
    async with asyncio.timeout(20):
        await gone.wait()
    heart.stop()
    assert lost - began >= 0.3
