"""Readers on a real socket that are slow, stalled, mute or gone: who is let go of, who is waited for."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.plants import sow
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from tests.support.raw_socket import PING, RawSocket
from tests.support.waiting import until

STALL, SILENCE = 2.0, 4.0
"""What `hasty` makes of 10 s and 30 s."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Jupyter]:
    """A server that is not as patient as it is in life, and whose administrator has switched pings off."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    server = Jupyter(
        folder, command="webchat", env={"OPENAI_BASE_URL": model.url}, args=["--WebChat.max_readers=1"]
    )
    server.configure({"ServerApp": {"tornado_settings": {"ws_ping_interval": 0}}})
    sow(folder / "config", "readers", "hasty")
    with server:
        yield server


def has_room(server: Jupyter, conv_id: str) -> bool:
    """Whether the conversation's only reader has been let go of."""
    try:
        server.get_json(f"webchat/ws?conv_id={conv_id}")
    except urllib.error.HTTPError as error:
        return error.code != 429
    return False


def say(server: Jupyter, conv_id: str) -> None:
    """A prompt."""
    server.post_json("webchat/chat", {"prompt": "hi", "conv_id": conv_id})


def test_a_reader_that_went_without_a_word_is_let_go(hasty: Jupyter) -> None:
    with RawSocket(hasty, conv_id="mute") as reader:
        assert not has_room(hasty, "mute")
        assert reader.is_let_go(8 * SILENCE)
        until(lambda: has_room(hasty, "mute"), "its place is free")


@pytest.mark.parametrize("sign", ["pong", "ping"])
def test_a_reader_that_gives_a_sign_of_life_stays(hasty: Jupyter, sign: str) -> None:
    with RawSocket(hasty, conv_id=sign) as reader:
        for _ in range(16):  # in twice the silence
            opcode, content = reader.frame()
            while opcode != PING:
                opcode, content = reader.frame()
            if sign == "pong":
                reader.pong(content)
            else:
                reader.ping()
        assert not has_room(hasty, sign)


@pytest.mark.parametrize("deltas", ["append", "cumulative"])
def test_a_reader_that_stops_reading_is_closed_as_too_slow(
    hasty: Jupyter, model: ModelServer, deltas: str
) -> None:
    model.reset()
    model.script(Reply(chunks=["x" * 10_000] * 200))
    conv_id = f"stalled-{deltas}"
    with RawSocket(hasty, buffer=4096, conv_id=conv_id, deltas=deltas) as reader:
        say(hasty, conv_id)
        until(lambda: has_room(hasty, conv_id), "its place is free", timeout=10 * STALL)
        assert reader.closing() == (4408, "too slow")
    (answer,) = [row for row in hasty.timeline(conv_id) if row["props"].get("role") == "assistant"]
    assert len(answer["props"]["content"]) == 2_000_000


def test_a_slow_reader_that_reads_steadily_stays(hasty: Jupyter, model: ModelServer) -> None:
    model.reset()
    model.script(Reply("x" * 1_000_000))
    with RawSocket(hasty, buffer=32_768, conv_id="steady", deltas="append") as reader:
        say(hasty, "steady")
        reader.trickle(250_000, seconds=3 * STALL)  # the last frame alone takes twice as long as a stall
        while (event := reader.event()) is not None and event["type"] != "run.finished":
            pass
        assert event is not None
