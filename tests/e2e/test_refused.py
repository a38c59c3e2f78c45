"""What a host can't do is said with what to do next, and nothing is shown that is not so."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from tests.e2e.pages import ChatPage, Row, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until


@contextmanager
def no_room(server: Jupyter) -> Iterator[None]:
    """No file of the server takes anything in, as on a disk that fails."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


def failed(chat: ChatPage) -> Row | None:
    """The prompt that was not sent."""
    return next((row for row in chat.rows(role="user") if row.status == "failed"), None)


def test_a_prompt_that_cannot_be_stored_stays_and_is_sent_once(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server)
    chat.ask("before")
    with no_room(lab_server):
        chat.send("hello")
        row = until(lambda: failed(chat), "a prompt that was not sent")
        why = chat.root.locator("[data-status=failed] [data-part=notice]")
        expect(why).to_contain_text("Not sent. The timeline can't be read or written")
        expect(why).to_contain_text("Look whether the disk is full or was taken away, then try again.")
        assert [each.text for each in chat.rows(role="user")] == ["before", "hello"]
        assert len(model.completions) == 1
        expect(chat.part("stop-button")).to_have_count(0)
        chat.part("retry-button").click()
        until(lambda: failed(chat), "it was not sent again")
    chat.part("retry-button").click()
    chat.wait_text("You said: hello")
    chat.wait_idle()
    keys = [entity["props"].get("idempotencyKey") for entity in chat.timeline() if entity["kind"] == "run"]
    assert keys[1:] == [row.id], "one run, under the key that it had from the beginning"
    chat.expect_the_same_after_a_reload()


def test_a_stop_that_cannot_be_stored_says_so_and_is_one(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server)
    gate = Gate()
    model.script(Reply("a long story", hold=gate))
    chat.send("tell me")
    gate.step(2)
    chat.wait_text("a long")
    with no_room(lab_server):
        chat.stop()
        strip = chat.root.locator(".wc-strip")
        expect(strip).to_contain_text("Stopped, but that could not be stored; it is tried again.")
        chat.wait_idle()
        row = chat.assistant()
        assert row is not None
        assert (row.text, row.status) == ("a long", "stopped")
    gate.open()
    assert chat.ask("and now") == "You said: and now"
    expect(strip).to_have_count(0)
    chat.expect_the_same_after_a_reload()


def test_a_queue_that_is_full_takes_a_prompt_when_there_is_room_again(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server, "full")
    gate = Gate()
    model.script(Reply("the first answer", hold=gate))
    chat.send("first")
    gate.wait_held()
    line = [
        lab_server.post_json("webchat/chat", {"prompt": f"number {number}", "conv_id": "full"})["run_id"]
        for number in range(1, 21)
    ]
    expect(chat.part("queue")).to_have_text("20 prompts waiting")
    chat.send("one too many")
    until(lambda: failed(chat), "a prompt that was not sent")
    refused = chat.root.locator("[data-status=failed] [data-part=notice]")
    expect(refused).to_contain_text("20 prompts wait in this conversation already.")
    for run_id in line[1:]:
        lab_server.post_json("webchat/conversations/full/stop", {"run_id": run_id})
    expect(chat.part("queue")).to_have_text("1 prompt waiting")
    chat.part("retry-button").click()
    expect(chat.part("queue")).to_have_text("2 prompts waiting")
    gate.open()
    chat.wait_text("You said: one too many")
    chat.wait_idle()
    assert [request.prompt for request in model.completions] == ["first", "number 1", "one too many"]
    chat.expect_rows_of()
