"""Two tabs of a browser on one conversation: what is done in one is seen in both, and both agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.lab import open_lab
from tests.e2e.pages import ChatPage, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

Tabs = tuple[ChatPage, ChatPage]


@pytest.fixture(scope="module", params=["lab", "page"])
def tabs(request: pytest.FixtureRequest, browser: Browser, lab_server: Jupyter) -> Iterator[Tabs]:
    """A notebook in two tabs of JupyterLab, or a conversation on two full pages; for all tests here."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    if request.param == "lab":
        lab = open_lab(page, lab_server, "two-tabs.ipynb")
        lab.chat()
        lab.save()
        yield lab.chat(), lab.second_tab().chat()
    else:
        other = context.new_page()
        yield open_page(page, lab_server, "two-tabs"), open_page(other, lab_server, "two-tabs")
    context.close()


def begin(here: ChatPage, there: ChatPage, model: ModelServer) -> Gate:
    """Stand in the middle of an answer to a prompt that was typed here."""
    gate = Gate()
    model.script(Reply("a long long story", hold=gate))
    here.send("tell us")
    gate.step(2)
    for chat in (here, there):
        chat.wait_text("a long")
    return gate


def line(chat: ChatPage) -> list[tuple[str, str]]:
    """The prompts that wait, from first to last, each with its place as a person reads it."""
    waiting = chat.root.locator("[data-role=user][data-status=queued]")
    parts = [waiting.locator(part) for part in ("[data-part=content]", ".wc-note > span")]
    prompts, places = (part.all_inner_texts() for part in parts)
    return list(zip(prompts, places, strict=len(prompts) == len(places)))


def remove(chat: ChatPage, prompt: str) -> None:
    """Take a prompt out of the queue, without a mouse."""
    row = chat.root.locator("[data-role=user][data-status=queued]", has_text=prompt)
    row.locator("[data-part=remove-prompt]").focus()
    chat.page.keyboard.press("Enter")


def test_one_stops_what_was_typed_in_the_other(tabs: Tabs, model: ModelServer) -> None:
    here, there = tabs
    begin(here, there, model)
    there.stop()
    for chat in tabs:
        chat.wait_idle()
        row = chat.assistant()
        assert row is not None
        assert (row.text, row.status) == ("a long", "stopped")
    assert model.wait_disconnected()[0].chunks_sent == 2
    assert there.ask("and now") == "You said: and now"
    here.wait_text("You said: and now")
    assert here.rows() == there.rows()


def test_both_fill_one_queue_and_either_takes_out_what_the_other_sent(tabs: Tabs, model: ModelServer) -> None:
    here, there = tabs
    gate = begin(here, there, model)
    for chat, prompt in ((here, "a?"), (there, "b?"), (here, "c?"), (there, "d?")):
        chat.send(prompt)
        until(lambda chat=chat, prompt=prompt: prompt in dict(line(chat)), f"{prompt} in the queue")
    four = [
        ("a?", "Queued – next in line"),
        ("b?", "Queued – number 2 in line"),
        ("c?", "Queued – number 3 in line"),
        ("d?", "Queued – number 4 in line"),
    ]
    for chat in tabs:
        until(lambda chat=chat: line(chat) == four, "the same four in the same order")
        expect(chat.part("queue")).to_have_text("4 prompts waiting")
    remove(there, "a?")
    remove(here, "d?")
    two = [("b?", "Queued – next in line"), ("c?", "Queued – number 2 in line")]
    for chat in tabs:
        until(lambda chat=chat: line(chat) == two, "the two that are left")
    gate.open()
    for chat in tabs:
        chat.wait_text("You said: c?")
        chat.wait_idle()
    assert [request.prompt for request in model.completions] == ["tell us", "b?", "c?"]
    assert here.rows() == there.rows()
    here.expect_rows_of()


def test_one_is_loaded_again_while_the_answer_streams(tabs: Tabs, model: ModelServer) -> None:
    here, there = tabs
    gate = begin(here, there, model)
    here.send("later")
    until(lambda: line(here) == [("later", "Queued – next in line")], "a prompt in the queue")
    here.watch()
    there.reload()
    until(lambda: there.rows()[:-1] == here.rows()[:-1], "the rows of the other tab")
    until(lambda: line(there) == line(here), "its queue")
    gate.step()
    for chat in tabs:
        chat.wait_text("a long long")
    remove(there, "later")
    until(lambda: line(here) == [], "an empty queue")
    gate.open()
    for chat in tabs:
        chat.wait_text("a long long story")
        chat.wait_idle()
    assert here.rows() == there.rows()
    assert [each for each in here.setbacks() if "later" not in each] == []


def test_the_other_goes_on_when_one_is_closed(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    here = open_page(page, lab_server, "closed-tab")
    there = open_page(page.context.new_page(), lab_server, "closed-tab")
    gate = begin(there, here, model)
    there.page.close()
    gate.open()
    here.wait_text("a long long story")
    here.wait_idle()
    here.expect_rows_of()
