"""The chat in a kernel, where the server knows nothing of it: what only this way has to get right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.lab import BUSY, LabPage, chat_cell
from tests.e2e.pages import ChatPage
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

KERNELS = {"python3": "7.", "python-ipykernel6": "6."}

# More than the server lets through on iopub, until a file appears: 1,000 messages and 1 MB of text a second.
# Small enough, each, for the server to go on dropping once it has begun.
FLOOD = """
import pathlib, sys, time
for number in range(4_000):
    sys.stdout.write(f'{{number}}\\n')
    sys.stdout.flush()
while not pathlib.Path({!r}).exists():
    sys.stdout.write(('x' * 999 + '\\n') * 200)
    sys.stdout.flush()
    time.sleep(0.02)
"""


def status(chat: ChatPage) -> str:
    return chat.part("statusbar").inner_text()


@pytest.mark.parametrize(
    ("app", "kernel"),
    [("lab", "python3"), ("lab", "python-ipykernel6"), ("notebook", "python3")],
    ids=["lab", "ipykernel 6", "notebook 7"],
)
def test_a_conversation_without_the_extension(
    kernel_notebook: Callable[..., LabPage], model: ModelServer, app: str, kernel: str
) -> None:
    lab = kernel_notebook(app=app, kernel=kernel)
    chat = lab.chat()
    expect(chat.root).to_have_attribute("data-transport", "kernel")
    assert lab.run_cell("import ipykernel; print(ipykernel.__version__)").startswith(KERNELS[kernel])
    assert lab.run_cell("print(chat.where)") == "kernel"
    assert "extension" in lab.run_cell("print(chat.where_reason)")
    gate, held = Gate(), Gate()
    model.script(
        Reply(chunks=["One ", "two ", "three."], hold=gate),
        Reply("a long long story", hold=held),
        r"So $\sqrt{2}$ it is.",
    )
    chat.send("count for me")
    for expected in ("One", "One two", "One two three."):
        gate.step()
        chat.wait_text(expected)
    gate.open()
    chat.wait_idle()
    chat.send("tell me")
    held.step(2)
    chat.wait_text("a long")
    chat.stop()
    chat.wait_idle()
    assert model.wait_disconnected()[0].chunks_sent == 2
    chat.ask("a formula, please")
    expect(chat.root.locator("math msqrt")).to_be_visible()
    assert lab.run_cell("run = chat.send('from Python')\nprint(run.wait(30).text)") == "You said: from Python"
    chat.wait_text("You said: from Python")
    statuses = [row.status for row in chat.rows(role="assistant")]
    assert statuses == ["complete", "stopped", "complete", "complete"]
    chat.expect_rows_of(lab.entities())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_stream_goes_on_while_a_cell_runs(
    kernel_notebook: Callable[..., LabPage], model: ModelServer, kernel: str
) -> None:
    lab = kernel_notebook(kernel=kernel)
    chat = lab.chat()
    for how in BUSY:
        gate = Gate()
        model.script(Reply("one two three", hold=gate))
        chat.send(f"while a cell {how}")
        gate.step()
        chat.wait_text("one")
        with lab.busy(how) as cell:
            gate.step()
            chat.wait_text("one two", 5)
            gate.open()
            chat.wait_text("one two three", 5)
            chat.wait_idle(5)
            assert cell.running
    gate = Gate()
    model.script(Reply("one two three", hold=gate))
    chat.send("while a cell is interrupted")
    gate.step()
    chat.wait_text("one")
    with pytest.raises(AssertionError, match="KeyboardInterrupt"), lab.busy():
        lab.interrupt()
    gate.open()
    chat.wait_text("one two three", 5)
    chat.wait_idle(5)
    chat.expect_rows_of(lab.entities())


def test_a_cell_that_runs_keeps_no_prompt_waiting(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    """From the first message on: the chat was displayed a moment before the kernel got busy.

    Next to such a cell, a thread that waits for anything goes on 5 ms later: the import of the model's SDK,
    which comes with the first prompt, then takes up to 20 s.
    """
    lab = kernel_notebook("import webchat_widget")
    lab.start_cell(chat_cell())
    with lab.busy("computes") as cell:
        chat = lab.chat()
        assert chat.ask("the first", 60) == "You said: the first"
        assert chat.ask("another", 10) == "You said: another"
        gate = Gate()
        model.script(Reply("one two", hold=gate))
        chat.send("to be stopped")
        gate.step()
        chat.wait_text("one")
        chat.stop()
        chat.wait_idle(10)
        assert cell.running
    chat.expect_rows_of(lab.entities())


def test_an_older_kernel_answers_when_its_cell_has_ended(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = kernel_notebook("import webchat_widget", kernel="python-ipykernel6")
    lab.start_cell(chat_cell())
    with lab.busy():
        panel = lab.page.locator("[data-webchat] [data-part=error-panel]")
        expect(panel).to_contain_text("The kernel is busy with a cell", timeout=4_000)
    chat = lab.chat()
    expect(panel).to_have_count(0)
    assert chat.ask("hello") == "You said: hello"
    with lab.busy("awaits"):
        chat.send("patience")
        until(lambda: "waits" in status(chat), "the status bar says that it waits", 5)
        (row,) = [row for row in chat.rows(role="user") if row.text.startswith("patience")]
        assert row.status == "pending"
        assert len(model.completions) == 1
    chat.wait_text("You said: patience")
    chat.wait_idle()
    until(lambda: "waits" not in status(chat), "the status bar is quiet again")
    chat.expect_rows_of(lab.entities())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_flood_of_output_loses_nothing_of_an_answer(
    kernel_notebook: Callable[..., LabPage], model: ModelServer, tmp_path: Path, kernel: str
) -> None:
    """Jupyter drops what a kernel says above a rate: here much of an answer, and often that it has ended."""
    lab = kernel_notebook(kernel=kernel)
    chat = lab.chat()
    gate, enough = Gate(), tmp_path / "enough"
    chunks = [f"word{number} " for number in range(300)]
    model.script(Reply(chunks=chunks, hold=gate, delay=0.005))
    chat.send("a lot, please")
    gate.step(10)
    until(lambda: "word9" in chat.assistant_text(), "the beginning")
    flood = lab.start_cell(FLOOD.format(str(enough)))
    until(lambda: "IOPub data rate exceeded" in flood.text, "the server drops what the kernel says")
    gate.open()
    until(lambda: lab.server.stored("word299"), "the end of the answer in the kernel")
    enough.touch()
    flood.wait()
    chat.wait_text("".join(chunks).strip(), 60)
    chat.wait_idle(60)
    chat.expect_rows_of(lab.entities())
    assert chat.ask("and now?") == "You said: and now?"


def test_all_views_of_a_conversation_show_the_same(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    """Two displays of a widget, a second widget, and all of them once more in another tab."""
    lab = kernel_notebook(
        "from webchat_widget import ChatWidget\nchat = ChatWidget(height='200px')\nchat",
        "chat",
        "ChatWidget(chat.conv_id, height='200px')",
    )
    lab.chat().ask("before")
    expect(lab.page.locator("[data-webchat]")).to_have_count(3, timeout=30_000)
    lab.save()
    tab = lab.second_tab()
    expect(tab.page.locator("[data-webchat]")).to_have_count(3, timeout=30_000)
    chats = [chat.wait_live() for chat in (*lab.chats(), *tab.chats())]
    gate = Gate()
    model.script(Reply("one two three", hold=gate))
    chats[4].send("to all")
    for expected in ("one", "one two", "one two three"):
        gate.step()
        for chat in chats:
            chat.wait_text(expected)
    gate.open()
    for chat in chats:
        chat.wait_idle()
    tab.command("notebook:clear-all-cell-outputs")
    expect(tab.page.locator("[data-webchat]")).to_have_count(0)
    first, *others = [chat.rows() for chat in lab.chats()]
    assert others == [first, first]
    assert chats[0].ask("with three views less", 10) == "You said: with three views less"
    chats[0].expect_rows_of(lab.entities())
