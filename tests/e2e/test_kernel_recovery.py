"""A kernel that is restarted, killed or another one: nothing is lost, and the view says what to do."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.e2e.lab import LabPage, chat_cell
from tests.e2e.pages import ChatPage
from tests.e2e.test_recovery import HALF, begin, begin_on_disk, texts
from tests.support.model_server import Gate, ModelServer
from tests.support.waiting import until


def heard(model: ModelServer) -> list[tuple[str, str]]:
    """What the model was sent last."""
    messages = model.completions[-1].body["messages"]
    return [(message["role"], message["content"]) for message in messages]


def test_a_restart_of_the_kernel_in_mid_stream(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = kernel_notebook()
    chat = lab.chat()
    begin(chat, model, Gate())
    before = texts(chat)
    lab.restart_kernel()
    until(lambda: "Run this cell again" in chat.complaint(), "the view says what to do", 3)
    assert texts(chat) == before, "what was on the screen stays there"
    expect(chat.composer).not_to_be_editable()
    lab.run_first()
    chat = lab.chat()
    expect(chat.part("error-panel")).to_have_count(0)
    assert texts(chat) == before
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status, row.streaming) == (HALF, "interrupted", False)
    assert chat.ask("go on") == "You said: go on"
    assert heard(model) == [
        ("user", "before"),
        ("assistant", "You said: before"),
        ("user", "tell me a story"),
        ("assistant", HALF),
        ("user", "go on"),
    ]
    chat.expect_rows_of(lab.entities())


def test_a_kernel_that_was_killed(kernel_notebook: Callable[..., LabPage], model: ModelServer) -> None:
    """It had no time to store anything more, and was too busy to hear the last prompt."""
    lab = kernel_notebook(kernel="python-ipykernel6")
    chat = lab.chat()
    said = begin_on_disk(chat, model, Gate(), lab.server)
    before = texts(chat)
    pid = lab.kernel_pid()
    lab.start_cell("import time\nwhile True:\n    time.sleep(0.02)")
    chat.send("into the void")
    until(lambda: chat.rows()[-1].status == "pending", "a prompt on its way")
    lab.kill_kernel(pid)
    until(lambda: "Run this cell again" in chat.complaint(), "the view says what to do", 5)
    assert texts(chat) == [*before, ("user", "into the void")]
    expect(chat.part("turn").last).to_contain_text("Not sent.")
    lab.run_first()
    chat = lab.chat()
    assert texts(chat) == before
    row = chat.assistant()
    assert row is not None
    assert (row.text, row.status, row.streaming) == (said, "interrupted", False)
    assert chat.ask("go on") == "You said: go on"
    chat.expect_rows_of(lab.entities())


def test_a_chat_in_memory_begins_empty_with_each_kernel(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = kernel_notebook(chat_cell("store='memory'"))
    chat = lab.chat()
    assert chat.ask("keep this to yourself") == "You said: keep this to yourself"
    assert not lab.server.stored("keep this to yourself")
    lab.restart_kernel()
    lab.run_first()
    chat = lab.chat()
    assert chat.rows() == []
    assert chat.ask("who are you?") == "You said: who are you?"
    assert len(heard(model)) == 1


def test_a_widget_that_was_saved_with_its_notebook_says_that_its_kernel_is_gone(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    """JupyterLab shows it again, as it was saved; but its comm leads nowhere, and without a word."""
    lab = kernel_notebook()
    lab.chat().ask("hello")
    lab.save_with_widgets()
    assert "_channel" in lab.notebook.read_text()
    lab.shut_kernel_down()
    lab.open()
    chat = ChatPage(lab.page)
    expect(chat.root).to_be_visible(timeout=10_000)
    until(lambda: "this cell again" in chat.complaint(), "it says what to do", 4)
    lab.run_first()
    chat = lab.chat()
    expect(chat.part("error-panel")).to_have_count(0)
    assert [row.text for row in chat.rows()] == ["hello", "You said: hello"]
    assert chat.ask("hello again") == "You said: hello again"
