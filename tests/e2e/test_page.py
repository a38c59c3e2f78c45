"""The full page: its address is the conversation."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.pages import ChatPage, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from tests.support.waiting import until


def test_the_address_keeps_the_conversation(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, lab_server)
    assert chat.conv_id == ""
    chat.ask("keep this")
    conv_id = chat.conv_id
    assert conv_id
    assert "token" not in page.url
    before = chat.rows()
    chat.reload()
    until(lambda: chat.rows() == before, "the same rows after a reload")
    assert chat.conv_id == conv_id


def test_a_new_conversation_is_empty_and_the_old_one_stays(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server)
    chat.ask("the old one")
    old = chat.conv_id
    chat.part("new-button").click()
    chat.wait_live()
    until(lambda: not chat.rows(), "an empty chat")
    chat.ask("the new one")
    assert chat.conv_id not in ("", old)
    page.go_back()
    until(lambda: [row.text for row in chat.rows(role="user")] == ["the old one"], "the old conversation")


def test_enter_right_after_the_last_letter_sends(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    """On a busy page both events come before the next paint; neither may be lost."""
    chat = open_page(page, lab_server)
    chat.composer.evaluate(
        """box => {
          box.focus();
          box.value = 'quick';
          box.dispatchEvent(new InputEvent('input', {bubbles: true}));
          box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));
        }"""
    )
    chat.wait_text("You said: quick", 5)


def test_one_logs_in_with_a_password(page: Page, password_server: Jupyter, model: ModelServer) -> None:
    page.goto(password_server.url("webchat/"))
    assert "/login" in page.url
    page.locator("input[type=password]").fill("open sesame")
    page.locator("button[type=submit], #login_submit").first.click()
    page.wait_for_url("**/webchat/**")
    assert ChatPage(page).wait_live().ask("let me in") == "You said: let me in"


def test_a_stranger_sees_the_login_form_only(page: Page, lab_server: Jupyter) -> None:
    page.goto(lab_server.url("webchat/?conv_id=secret"))
    assert "/login" in page.url
    expect(page.locator("[data-webchat]")).to_have_count(0)


def test_a_prompt_that_could_not_be_sent_waits_for_retry(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server)
    chat.ask("first")
    page.route("**/webchat/chat/**", lambda route: route.abort())
    chat.send("not yet")
    failed = until(lambda: [row for row in chat.rows() if row.status == "failed"], "a failed row")
    assert failed[0].text.startswith("not yet")
    page.unroute("**/webchat/chat/**")
    chat.part("retry-button").last.click()
    chat.wait_text("You said: not yet")
    chat.wait_idle()
    assert [row.text for row in chat.rows(role="user")] == ["first", "not yet"]
    chat.expect_rows_of()
