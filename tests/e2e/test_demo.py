"""Nobody has named a model, and Jupyter lives below a prefix: the demo engine answers."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.lab import open_lab
from tests.e2e.pages import ChatPage, open_page
from tests.support.jupyter import Jupyter


@pytest.fixture
def demo(page: Page, demo_server: Jupyter) -> ChatPage:
    return open_page(page, demo_server)


def test_the_first_answer_says_that_it_is_the_demo(demo: ChatPage) -> None:
    answer = demo.ask("hello")
    assert "demo" in answer
    assert "OPENAI_API_KEY" in answer
    thinking = demo.rows(role="thinking")
    assert len(thinking) == 1
    assert not thinking[0].streaming
    assert demo.ask("hello again") != answer


def test_it_computes_with_a_tool_that_really_runs(demo: ChatPage, demo_server: Jupyter) -> None:
    assert "1554" in demo.ask("compute 37 * 42")
    (call,) = demo.rows(kind="tool_call")
    assert call.status == "completed"
    entities = {entity["kind"]: entity for entity in demo_server.timeline(demo.conv_id)}
    assert entities["tool_call"]["props"]["name"] == "calculate"
    assert entities["tool_result"]["props"]["result"] == "1554"
    demo.expect_rows_of()


def test_it_shows_a_table_code_and_mathematics(demo: ChatPage) -> None:
    demo.ask("show me a table and a formula, and some Python code")
    answer = demo.root.locator("[data-kind=message][data-role=assistant]").last
    expect(answer.locator("table td").first).to_have_text("Earth")
    expect(answer.locator("pre code")).to_contain_text("def fibonacci")
    expect(answer.locator("math msqrt, math mfrac").first).to_be_visible()
    expect(answer.get_by_role("button", name="Copy").first).to_be_visible()


def test_code_is_copied_as_it_was_written(demo: ChatPage) -> None:
    demo.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    demo.ask("some Python code")
    demo.root.locator("pre").first.hover()
    block = demo.root.locator("[data-part=content] :has(> pre), [data-part=content] :has(> * > pre)").first
    block.get_by_role("button", name="Copy").first.click()
    copied = demo.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def fibonacci(n: int) -> list[int]:\n    ")


def test_a_notebook_below_the_prefix_finds_its_server(page: Page, demo_server: Jupyter) -> None:
    lab = open_lab(page, demo_server, "prefix.ipynb")
    chat = lab.chat()
    assert "demo" in chat.ask("hello")
    assert "demo" in lab.run_cell("print(chat.text)")
    assert lab.run_cell("print(chat.where)") == "server"
