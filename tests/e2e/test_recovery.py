"""Reloads, restarts and kills in mid-stream: what was there stays, once, in its place, and one can go on."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page

from tests.e2e.lab import open_lab
from tests.e2e.pages import ChatPage, Row, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply, words
from tests.support.waiting import until

HALF, REST = "It was a dark night", " and the kernel was dead."
WHOLE = HALF + REST


def begin(chat: ChatPage, model: ModelServer, gate: Gate, *, opening: str = HALF) -> None:
    """Have one exchange, then stand in the middle of the second answer."""
    chat.ask("before")
    model.script(Reply(chunks=[*words(opening), *re.findall(r" \S+", REST)], hold=gate))
    chat.send("tell me a story")
    gate.step(len(words(opening)))
    chat.wait_text(opening)


def begin_on_disk(chat: ChatPage, model: ModelServer, gate: Gate, server: Jupyter) -> str:
    """The same, and return what was said once it is on the disk: a crash may cost the last moments."""
    opening = f"{HALF} of {uuid.uuid4().hex}"
    begin(chat, model, gate, opening=opening)
    until(lambda: server.stored(opening), "the text on the disk")
    return opening


def ended(chat: ChatPage) -> Row | None:
    """The newest answer, if it no longer streams."""
    row = chat.assistant()
    return row if row is not None and not row.streaming else None


def texts(chat: ChatPage) -> list[tuple[str, str]]:
    return [(row.role, row.text) for row in chat.rows()]


def test_the_watch_sees_what_goes_back(page: Page) -> None:
    """The watch of these tests is itself no good if it misses a loss."""
    turn = "<p data-part=turn data-kind=message data-role={0}><span data-part=content>{1}</span></p>"
    page.set_content(
        f"<div data-webchat>{turn.format('user', 'hi')}{turn.format('assistant', 'one two')}</div>"
    )
    chat = ChatPage(page)
    chat.watch()
    spans, last = "document.querySelectorAll('span')", "document.querySelectorAll('p')[1]"
    page.evaluate(f"{spans}[1].textContent = 'one two three'")
    assert chat.setbacks() == []
    for harm, complaint in (
        (f"{spans}[1].textContent = 'one'", "lost text"),
        (f"{last}.dataset.role = 'user'", "is message user"),
        (f"{last}.remove()", "vanished"),
    ):
        page.evaluate(harm)
        assert complaint in chat.setbacks()[-1]


def test_a_reload_in_mid_stream_changes_nothing(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    begin(chat, model, gate)
    before = chat.rows()
    for _ in range(2):
        chat.reload()
        until(lambda: chat.rows() == before, "the rows of before the reload")
    chat.watch()
    gate.step()
    chat.wait_text(f"{HALF} and")
    gate.open()
    chat.wait_text(WHOLE)
    chat.wait_idle()
    assert chat.setbacks() == []
    chat.expect_rows_of()
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
        chat.reload()
        chat.watch()
    chat.wait_text("".join(long).strip())
    chat.wait_idle()
    assert chat.setbacks() == []
    chat.expect_rows_of()


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_the_page_comes_back_by_itself_after_a_restart(
    page: Page, restart_server: Jupyter, model: ModelServer, end: str
) -> None:
    gate = Gate()
    chat = open_page(page, restart_server)
    said = begin_on_disk(chat, model, gate, restart_server)
    before = texts(chat)
    getattr(restart_server, end)()
    until(lambda: chat.state in ("reconnecting", "offline"), "the page notices")
    assert texts(chat) == before, "what was on the screen stays there"
    restart_server.start()
    chat.wait_live(timeout=60)
    row = until(lambda: ended(chat), "the end of the message")
    assert (row.text, row.status) == (said, "interrupted")
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
    until(lambda: "queued" in str(restart_server.timeline(chat.conv_id)), "an accepted prompt")
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
    chat.expect_rows_of()


def test_a_widget_in_jupyterlab_comes_back_by_itself_after_a_kill(
    page: Page, restart_server: Jupyter, model: ModelServer
) -> None:
    gate = Gate()
    lab = open_lab(page, restart_server, "kill.ipynb")
    chat = lab.chat()
    said = begin_on_disk(chat, model, gate, restart_server)
    restart_server.kill()
    until(lambda: chat.state in ("reconnecting", "offline"), "the widget notices")
    chat.wait_text(said)
    restart_server.start()
    chat.wait_live(timeout=60)
    row = until(lambda: ended(chat), "the end of the message")
    assert (row.text, row.status) == (said, "interrupted")
    assert chat.ask("go on") == "You said: go on"
