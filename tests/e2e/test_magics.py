"""`%%chat`: a run in the cell that asked, and its text in the saved notebook."""

from __future__ import annotations

import json

from playwright.sync_api import Locator, expect

from tests.e2e.lab import ChatInLab, LabPage
from tests.e2e.pages import ChatPage
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

CELL = """
%load_ext webchat_widget
from webchat_widget import ChatWidget

asked = []

def book(city: str) -> str:
    "Book a flight."
    asked.append(city)
    return f"booked {city}"

chat = ChatWidget(new=True, tools=[book])
chat
"""


def begin(desk: LabPage) -> ChatInLab:
    """A chat that the magics share."""
    return desk.show(CELL)


def run_view(desk: LabPage) -> ChatPage:
    """The one run that a cell shows."""
    root = desk.page.locator("[data-webchat][data-run]")
    expect(root).to_be_visible(timeout=20_000)
    return ChatPage(desk.page, desk.server, root).wait_live()


def outputs(desk: LabPage, cell: int = 1) -> Locator:
    """What a cell has put out, by its place; that of the chat is 0."""
    return desk.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")


def test_a_cell_shows_its_run_and_keeps_the_text(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    chat.ask("before")
    gate = Gate()
    model.script(Reply("**Ada** wrote the first program.", hold=gate))
    cell = desk.start_cell("%%chat\nWho was first?")
    view = run_view(desk)
    gate.step(2)
    until(lambda: view.assistant_text() == "Ada wrote", "the answer streams in the cell")
    assert cell.running
    assert [row.text for row in view.rows(role="user")] in ([], ["Who was first?"]), "of this run only"
    expect(view.composer).to_have_count(0)
    gate.open()
    cell.wait()
    expect(desk.page.locator("[data-webchat][data-run]")).to_have_count(0)
    expect(outputs(desk).locator("strong")).to_have_text("Ada")
    assert chat.assistant_text() == "Ada wrote the first program."
    chat.expect_rows_of()
    chat.reload()
    expect(outputs(desk).locator("strong")).to_have_text("Ada")
    saved = json.dumps(json.loads(desk.notebook.read_text())["cells"][1]["outputs"])
    assert "wrote the first program" in saved
    assert "widget-view" not in saved


def test_a_question_is_answered_in_the_cell(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    model.script(Reply(tool_calls=[{"name": "book", "arguments": {"city": "Oslo"}}]), Reply("Booked."))
    cell = desk.start_cell("%%chat\nto Oslo, please")
    view = run_view(desk)
    view.part("approve-once").click()
    cell.wait()
    expect(outputs(desk).last).to_contain_text("Booked.")
    assert json.loads(desk.run_cell("import json; print(json.dumps(asked))")) == ["Oslo"]
    chat.expect_rows_of()


def test_interrupting_the_cell_stops_the_run(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    gate = Gate()
    model.script(Reply("one two three", hold=gate))
    cell = desk.start_cell("%%chat\ncount")
    view = run_view(desk)
    gate.step(2)
    until(lambda: view.assistant_text() == "one two", "it counts")
    desk.interrupt()
    until(lambda: not cell.running, "the cell has ended")
    chat.wait_idle()
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status) == ("one two", "stopped")
    expect(outputs(desk).first).to_contain_text("one two")
    gate.open()


def test_the_last_exception_is_explained(desk: LabPage, model: ModelServer) -> None:
    begin(desk)
    failing = desk.start_cell("def ratio(a, b):\n    return a / b\nratio(1, 0)")
    until(lambda: not failing.running, "the cell has failed")
    model.script(Reply("You divide by zero."))
    desk.start_cell("%chat fix").wait()
    expect(outputs(desk, 2).last).to_contain_text("You divide by zero.")
    prompt = model.completions[-1].prompt
    assert "return a / b" in prompt
    assert "ZeroDivisionError" in prompt
