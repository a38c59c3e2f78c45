"""Reloads, restarts and kills in mid-stream: what was there stays, once, in its place, and one can go on."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.e2e.pages import ChatPage, open_lab, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

STORY = ["Once ", "upon ", "a ", "time ", "there ", "was ", "a ", "notebook."]


def begin(chat: ChatPage, model: ModelServer, gate: Gate) -> None:
    """Have one exchange, then stand in the middle of the second answer."""
    chat.ask("before")
    model.script(Reply(chunks=STORY, hold=gate))
    chat.send("tell me a story")
    gate.step(4)
    chat.wait_text("Once upon a time")


def texts(chat: ChatPage) -> list[tuple[str, str]]:
    return [(row.role, row.text) for row in chat.rows()]


def test_reload_of_the_page_in_mid_stream(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    gate = Gate()
    chat = open_page(page, lab_server)
    begin(chat, model, gate)
    before = chat.rows()
    for _ in range(2):
        page.reload()
        chat.wait_live()
        chat.watch()
        until(lambda: chat.rows() == before, "the rows of before the reload")
    gate.step()
    chat.wait_text("Once upon a time there")
    gate.open()
    chat.wait_text("".join(STORY))
    chat.wait_idle()
    assert chat.setbacks() == []
    chat.expect_rows_of(lab_server.timeline(chat.conv_id))
    assert len(model.completions) == 2


def test_reload_of_jupyterlab_in_mid_stream(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    gate = Gate()
    lab = open_lab(page, lab_server, "reload.ipynb")
    chat = lab.chat()
    begin(chat, model, gate)
    before = chat.rows()
    lab.save()
    page.reload()
    lab.wait_ready()
    chat = lab.chat()
    until(lambda: chat.rows() == before, "the rows of before the reload")
    gate.step()
    chat.wait_text("Once upon a time there")
    gate.open()
    chat.wait_text("".join(STORY))
    chat.wait_idle()
    chat.expect_rows_of(lab_server.timeline(chat.conv_id))
    assert len(model.completions) == 2


def test_a_reload_in_a_burst_loses_and_doubles_nothing(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    long = [f"word{number} " for number in range(600)]
    chat = open_page(page, lab_server)
    model.script(Reply(chunks=long, delay=0.002))
    chat.send("a lot, please")
    for seen in ("word50 ", "word250 ", "word400 "):
        until(lambda seen=seen: seen in chat.assistant_text(), f"{seen} on the screen")
        page.reload()
        chat.wait_live()
        chat.watch()
    chat.wait_text("".join(long).strip())
    chat.wait_idle()
    assert chat.setbacks() == []
    chat.expect_rows_of(lab_server.timeline(chat.conv_id))


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_the_page_comes_back_by_itself_after_a_restart(
    page: Page, restart_server: Jupyter, model: ModelServer, end: str
) -> None:
    gate = Gate()
    chat = open_page(page, restart_server)
    begin(chat, model, gate)
    before = texts(chat)
    until(lambda: restart_server.stored("Once upon a time"), "the text on the disk")
    getattr(restart_server, end)()
    until(lambda: chat.state in ("reconnecting", "offline"), "the page notices")
    assert texts(chat) == before, "what was on the screen stays there"
    restart_server.start()
    chat.wait_live(timeout=60)
    until(lambda: chat.assistant() is not None and not chat.assistant().streaming, "the end of the message")
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status) == ("Once upon a time", "interrupted")
    chat.wait_idle()
    assert chat.ask("go on") == "You said: go on"
    timeline = restart_server.timeline(chat.conv_id)
    chat.expect_rows_of(timeline)
    runs = [entity["props"]["status"] for entity in timeline if entity["kind"] == "run"]
    assert runs == ["finished", "failed", "finished"]


def test_a_killed_server_runs_what_was_queued(
    page: Page, restart_server: Jupyter, model: ModelServer
) -> None:
    gate = Gate()
    chat = open_page(page, restart_server)
    begin(chat, model, gate)
    chat.send("queued before the kill")
    until(lambda: restart_server.stored("queued before the kill"), "the queued prompt on the disk")
    restart_server.kill()
    restart_server.start()
    chat.wait_live(timeout=60)
    chat.wait_text("You said: queued before the kill")
    chat.wait_idle()
    assert [row.text for row in chat.rows(role="user")] == [
        "before",
        "tell me a story",
        "queued before the kill",
    ]
    chat.expect_rows_of(restart_server.timeline(chat.conv_id))


def test_a_widget_in_jupyterlab_comes_back_by_itself_after_a_kill(
    page: Page, restart_server: Jupyter, model: ModelServer
) -> None:
    gate = Gate()
    lab = open_lab(page, restart_server, "kill.ipynb")
    chat = lab.chat()
    begin(chat, model, gate)
    until(lambda: restart_server.stored("Once upon a time"), "the text on the disk")
    restart_server.kill()
    until(lambda: chat.state in ("reconnecting", "offline"), "the widget notices")
    chat.wait_text("Once upon a time")
    restart_server.start()
    chat.wait_live(timeout=60)
    until(lambda: chat.assistant() is not None and not chat.assistant().streaming, "the end of the message")
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status) == ("Once upon a time", "interrupted")
    assert chat.ask("go on") == "You said: go on"
