"""The widget in JupyterLab and the Python in the kernel are two ends of one conversation."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import expect

from tests.e2e.lab import LabPage
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until


def test_python_reads_what_was_typed_and_answered(
    notebook: Callable[..., LabPage], model: ModelServer, lab_server: Jupyter
) -> None:
    lab = notebook()
    chat = lab.chat()
    assert chat.ask("typed by hand") == "You said: typed by hand"
    assert lab.run_cell("print(chat.text)") == "You said: typed by hand"
    entities = json.loads(lab.run_cell("import json; print(json.dumps(chat.entities))"))
    assert entities == lab_server.timeline(chat.conv_id)
    chat.expect_rows_of(entities)


def test_what_python_sends_shows_in_the_widget(notebook: Callable[..., LabPage], model: ModelServer) -> None:
    lab = notebook()
    chat = lab.chat()
    assert lab.run_cell("run = chat.send('hi')\nprint(run.wait(30).text)") == "You said: hi"
    chat.wait_text("You said: hi")
    assert [row.text for row in chat.rows(role="user")] == ["hi"]
    assert lab.run_cell("run = await chat.send('once more')\nprint(run.status)") == "finished"
    chat.wait_text("You said: once more")
    assert "You said: hi" in lab.run_cell("print(chat.transcript().data)")


def test_python_stops_a_run(notebook: Callable[..., LabPage], model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply("a long story", hold=gate))
    lab = notebook()
    chat = lab.chat()
    chat.send("tell me")
    gate.step()
    chat.wait_text("a")
    lab.run_cell("chat.stop()")
    chat.wait_idle()
    row = chat.assistant()
    assert row is not None
    assert row.status == "stopped"


def test_two_displays_and_two_widgets_of_a_conversation_show_the_same(
    notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    gate = Gate()
    model.script(Reply("one two three", hold=gate))
    lab = notebook(
        "from webchat_widget import ChatWidget\nchat = ChatWidget(height='240px')\nchat",
        "chat",
        "ChatWidget(chat.conv_id, height='240px')",
    )
    lab.chat()
    expect(lab.page.locator("[data-webchat]")).to_have_count(3, timeout=30_000)
    chats = [chat.wait_live() for chat in lab.chats()]
    chats[0].send("to all")
    for expected in ("one", "one two", "one two three"):
        gate.step()
        for chat in chats:
            chat.wait_text(expected)
    gate.open()
    for chat in chats:
        chat.wait_idle()
    first, *others = [chat.rows() for chat in chats]
    assert others == [first, first]


def test_a_new_widget_of_a_notebook_finds_its_conversation(
    notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = notebook()
    lab.chat().ask("remember me")
    code = "from webchat_widget import ChatWidget\nprint(ChatWidget().text)\nprint(ChatWidget(new=True).text)"
    assert lab.run_cell(code) == "You said: remember me"


def test_an_empty_composer_shows_its_invitation(notebook: Callable[..., LabPage]) -> None:
    """JupyterLab renders a widget before it is on the page, where it has no size to measure."""
    composer = notebook().chat().composer
    until(lambda: composer.evaluate("box => box.clientHeight >= box.scrollHeight"), "a line's height", 5)


def test_keys_in_the_composer_are_no_commands_of_the_notebook(
    notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = notebook()
    chat = lab.chat()
    cells = "window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = lab.page.evaluate(cells)
    chat.composer.click()
    chat.composer.press_sequentially("abxddm00 j")
    chat.composer.press("Shift+Enter")
    chat.composer.press_sequentially("second line")
    assert chat.composer.input_value() == "abxddm00 j\nsecond line"
    assert lab.page.evaluate(cells) == before
