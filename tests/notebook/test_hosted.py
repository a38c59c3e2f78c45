"""A conversation that a kernel hosts: when its file is opened, and when it is let go of."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import ConversationHeld, ServerUnavailable, ShuttingDown
from webchat_widget.notebook.hosted import Equipment, Hosted
from webchat_widget.requests import ChatRequest, parse_chat
from webchat_widget.timeline.sqlite import SQLiteStore

LOG = logging.getLogger("test")


def prompt() -> ChatRequest:
    """A prompt for the conversation."""
    return parse_chat(b'{"prompt": "hi", "conv_id": "c"}', profile="default")


async def is_free(folder: Path) -> bool:
    """Whether nobody has the conversation's file open."""
    store = SQLiteStore(folder / "c.sqlite", in_use=lambda _: ShuttingDown("in use"))
    try:
        await store.load("c")
    except ShuttingDown:
        return False
    finally:
        await store.close()
    return True


async def stored(folder: Path) -> str:
    """All that the conversation's file holds, to look for a text in it."""
    store = SQLiteStore(folder / "c.sqlite")
    try:
        return str(await store.load("c"))
    finally:
        await store.close()


async def soon(folder: Path) -> None:
    """Wait until nobody has the conversation's file open."""
    async with asyncio.timeout(10):
        while not await is_free(folder):
            await asyncio.sleep(0.02)


async def test_nothing_is_opened_before_it_was_left_to_us(tmp_path: Path) -> None:
    hosted = Hosted("c", tmp_path, LOG)
    answers = [ServerUnavailable("It is down.", code="unreachable"), None]

    def claim() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    with pytest.raises(ShuttingDown):
        await hosted.ready()
    hosted.equip(Equipment(), {"model": "m"}, claim)
    with pytest.raises(ServerUnavailable):
        await hosted.ready()
    assert list(tmp_path.iterdir()) == [], "a second beginning of the conversation"
    service = await hosted.ready()
    assert (tmp_path / "c.sqlite").exists()
    assert await hosted.ready() is service, "it is asked for once"
    await hosted.close()


async def test_who_has_the_file_is_named(tmp_path: Path) -> None:
    first, second = Hosted("c", tmp_path, LOG), Hosted("c", tmp_path, LOG)
    for hosted in (first, second):
        hosted.equip(Equipment(), {"model": "m"})
    await first.ready()
    with pytest.raises(ConversationHeld, match=rf"open \(a kernel, process {os.getpid()} on .+\): a second"):
        await second.ready()
    await first.close()
    await second.ready()
    await second.close()


async def test_who_comes_back_soon_waits_until_the_file_was_let_go_of(tmp_path: Path) -> None:
    hosted = Hosted("c", tmp_path, LOG)
    equipment = Equipment(ScriptedEngine(["half ", threading.Event()], "two"))
    hosted.equip(equipment, {})
    service = await hosted.ready()
    await service.chat(prompt())
    closing = asyncio.create_task(hosted.close())
    await asyncio.sleep(0)
    hosted.equip(equipment, {})
    assert await hosted.ready() is not service
    await closing
    await hosted.close()


class TestRest:
    """A conversation that no widget shows is given up after a while, and opened again when it is used."""

    def hosted(self, folder: Path | None, *, wanted: bool = False, **given: Any) -> Hosted:
        """One that rests soon."""
        hosted = Hosted("c", folder, LOG, wanted=lambda: wanted, rest_seconds=0.2)
        hosted.equip(Equipment(ScriptedEngine("one", "two")), {}, **given)
        return hosted

    async def test_it_is_let_go_of_and_comes_back(self, tmp_path: Path) -> None:
        claims: list[str] = []
        hosted = self.hosted(tmp_path, claim=lambda: claims.append("claimed"))
        for said in ("one", "two"):
            service = await hosted.ready()
            await service.chat(prompt())
            await soon(tmp_path)
            assert said in await stored(tmp_path), "with the same engine"
        assert claims == ["claimed"] * 2, "the server may have had it meanwhile"
        await hosted.close()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "webchat-rest" not in names

    async def test_one_that_a_widget_shows_stays(self, tmp_path: Path) -> None:
        hosted = self.hosted(tmp_path, wanted=True)
        service = await hosted.ready()
        await service.chat(prompt())
        await asyncio.sleep(0.6)
        assert not await is_free(tmp_path)
        assert await hosted.ready() is service
        await hosted.close()

    async def test_one_in_which_something_runs_stays(self, tmp_path: Path) -> None:
        go = threading.Event()
        hosted = self.hosted(tmp_path)
        hosted.equip(Equipment(ScriptedEngine(["one ", go, "two"])), {})
        await (await hosted.ready()).chat(prompt())
        await asyncio.sleep(0.6)
        assert not await is_free(tmp_path)
        go.set()
        await soon(tmp_path)

    async def test_one_in_memory_stays(self) -> None:
        hosted = self.hosted(None)
        service = await hosted.ready()
        await asyncio.sleep(0.6)
        assert await hosted.ready() is service, "there is nowhere to come back from"
        await hosted.close()


async def test_an_engine_that_was_given_is_not_ours_to_close(tmp_path: Path) -> None:
    class Guarded(ScriptedEngine):
        async def aclose(self) -> None:
            raise AssertionError("it may answer in other conversations")

    hosted = Hosted("c", tmp_path, LOG)
    hosted.equip(Equipment(Guarded("one")), {})
    await (await hosted.ready()).chat(prompt())
    await hosted.close()
    assert await is_free(tmp_path)


WARM = """
import sys, time
from webchat_widget import ChatWidget
chat = ChatWidget("c", where="kernel")
end = time.monotonic() + 20
while "openai" not in sys.modules and time.monotonic() < end * {patience}:
    time.sleep(0.02)
print("openai" in sys.modules)
"""


@pytest.mark.parametrize(("address", "imported"), [("http://127.0.0.1:9/v1", True), ("", False)])
def test_the_sdk_is_imported_before_the_first_prompt_where_a_model_is_named(
    address: str, imported: bool
) -> None:
    """Next to a cell that computes, its import takes many seconds."""
    code = WARM.format(patience=int(imported))
    env = {**os.environ, "OPENAI_BASE_URL": address}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == [str(imported)], ran.stderr
