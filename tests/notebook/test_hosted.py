"""A conversation that a kernel hosts opens nothing before it is its own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from webchat_widget.errors import ServerUnavailable, ShuttingDown
from webchat_widget.notebook.hosted import Equipment, Hosted


async def test_nothing_is_opened_before_it_was_left_to_us(tmp_path: Path) -> None:
    hosted = Hosted("c", tmp_path, logging.getLogger("test"))
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
