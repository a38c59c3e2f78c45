"""A conversation, in a cell of JupyterLab and on the full page: the same words hold for both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.pages import ChatPage, Row, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until


def last_error(chat: ChatPage) -> Row | None:
    errors = chat.rows(kind="error")
    return errors[-1] if errors else None


def test_text_appears_while_it_streams(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(chunks=["One ", "two ", "three ", "four."], hold=gate))
    chat.send("count for me")
    gate.wait_held()
    assert [row.text for row in chat.rows(role="user")] == ["count for me"]
    assert chat.assistant() is None, "no empty bubble before the first word"
    for expected in ("One", "One two", "One two three", "One two three four."):
        gate.step()
        chat.wait_text(expected)
        row = chat.assistant()
        assert row is not None
        assert row.streaming
        assert row.status == "streaming"
    gate.open()
    chat.wait_idle()
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status, row.streaming) == ("One two three four.", "complete", False)
    assert model.completions[-1].body["messages"][-1]["content"] == "count for me"
    chat.expect_rows_of()


def test_the_model_hears_what_was_said_before(chat: ChatPage, model: ModelServer) -> None:
    model.script("First answer.", "Second answer.")
    assert chat.ask("first") == "First answer."
    assert chat.ask("second") == "Second answer."
    heard = [
        (m["role"], m["content"]) for m in model.completions[-1].body["messages"] if m["role"] != "system"
    ]
    assert heard == [("user", "first"), ("assistant", "First answer."), ("user", "second")]
    assert [row.text for row in chat.rows(kind="message")] == [
        "first",
        "First answer.",
        "second",
        "Second answer.",
    ]


def test_stop_keeps_what_was_said_and_hangs_up_on_the_model(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply("a long long long story", hold=gate))
    chat.send("tell me")
    gate.step(2)
    chat.wait_text("a long")
    chat.stop()
    chat.wait_idle()
    assert model.wait_disconnected()[0].chunks_sent == 2
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status, row.streaming) == ("a long", "stopped", False)
    assert chat.ask("and now") == "You said: and now"


def test_a_second_prompt_waits_for_its_turn(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply("the first answer", hold=gate), "the second answer")
    chat.send("first")
    gate.step(1)
    chat.wait_text("the")
    chat.send("second")
    waiting = until(
        lambda: [row for row in chat.rows(role="user") if row.text.startswith("second")], "a second row"
    )
    assert waiting[0].status in ("pending", "queued")
    assert len(model.completions) == 1
    gate.open()
    model.wait_requests(2)
    chat.wait_idle()
    messages = [(row.role, row.text) for row in chat.rows(kind="message")]
    assert messages == [
        ("user", "first"),
        ("assistant", "the first answer"),
        ("user", "second"),
        ("assistant", "the second answer"),
    ]
    chat.expect_rows_of()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "API key"), (404, "test-model")],
    ids=["wrong key", "unknown model"],
)
def test_a_refusal_of_the_model_server_is_said_in_a_sentence(
    page: Page, lab_server: Jupyter, model: ModelServer, status: int, sentence: str
) -> None:
    chat = open_page(page, lab_server)
    model.script(Reply(status=status))
    chat.send("hello?")
    error = until(lambda: last_error(chat), "an error card")
    assert sentence in error.text
    chat.wait_idle()
    expect(chat.composer).to_be_editable()
    assert chat.ask("and now?") == "You said: and now?"


def test_a_model_server_that_is_down_is_said_and_can_come_back(chat: ChatPage, model: ModelServer) -> None:
    model.stop()
    chat.send("anyone there?")
    error = until(lambda: last_error(chat), "an error card")
    assert "reach" in error.text
    assert "127.0.0.1" in error.text
    chat.wait_idle()
    expect(chat.composer).to_be_editable()
    model.start()
    assert chat.ask("and now?") == "You said: and now?"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply("one two three four", fault="cut"), "one two"),
        (Reply("one two three four", finish_reason=None), "one two three four"),
        (Reply("one two three four", fault="error_event"), "one two"),
        (Reply("one two three four", fault="malformed"), "one two"),
        (Reply("one two three four", fault="html"), ""),
    ],
    ids=["cut", "no finish reason", "error event", "malformed", "html"],
)
def test_a_stream_that_breaks_keeps_its_text_and_is_no_success(
    page: Page, lab_server: Jupyter, model: ModelServer, reply: Reply, text: str
) -> None:
    chat = open_page(page, lab_server)
    model.script(reply)
    chat.send("go")
    chat.page.wait_for_selector("[data-kind=error], [data-status=interrupted], [data-status=error]")
    chat.wait_idle()
    row = chat.assistant()
    assert (row.text if row else "") == text
    assert row is None or row.status in ("interrupted", "error")
    assert chat.ask("again") == "You said: again"


def test_a_second_browser_sees_the_same_at_the_same_time(
    new_page: Callable[..., Page], lab_server: Jupyter, model: ModelServer
) -> None:
    gate = Gate()
    model.script(Reply("one two three", hold=gate))
    here = open_page(new_page(), lab_server)
    here.send("for both")
    gate.wait_held()
    there = open_page(new_page(), lab_server, here.conv_id)
    for expected in ("one", "one two", "one two three"):
        gate.step()
        here.wait_text(expected)
        there.wait_text(expected)
    gate.open()
    here.wait_idle()
    there.wait_idle()
    assert here.rows() == there.rows()
    there.send("from there")
    here.wait_text("You said: from there")


def test_a_thinking_phase_is_a_row_of_its_own(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, lab_server)
    model.script(Reply("Forty-two.", reasoning="let me see"))
    assert chat.ask("what is it?") == "Forty-two."
    assert [row.role for row in chat.rows(kind="message")] == ["user", "thinking", "assistant"]
