"""Stop holds, whenever it is pressed: after a reload, inside a tool, after a restart."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.e2e.lab import LabPage
from tests.e2e.pages import ChatPage, Row, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

ENDLESS = """
import time
from webchat_widget import ChatWidget, tool

@tool(read_only=True, thread=True)
def count() -> None:
    \"\"\"It does not end by itself, nor when it is told to.\"\"\"
    global told
    for told in range(10**9):
        print(told)
        time.sleep(0.02)

chat = ChatWidget(tools=[count])
chat
"""


def begin(chat: ChatPage, model: ModelServer) -> Gate:
    """Stand in the middle of an answer."""
    gate = Gate()
    model.script(Reply("a long long story", hold=gate))
    chat.send("tell me")
    gate.step(2)
    chat.wait_text("a long")
    return gate


def answer(chat: ChatPage) -> Row:
    row = chat.assistant()
    assert row is not None
    return row


def test_after_a_reload(page: Page, lab_server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, lab_server)
    gate = begin(chat, model)
    chat.reload()
    chat.wait_text("a long")
    chat.stop()
    chat.wait_idle()
    stopped = chat.rows()
    assert answer(chat).status == "stopped"
    assert model.wait_disconnected()[0].chunks_sent == 2
    gate.open()
    assert chat.ask("and now") == "You said: and now"
    assert chat.rows()[: len(stopped)] == stopped, "nothing came after the end"
    chat.expect_rows_of()


def test_inside_a_tool_after_a_reload(notebook: Callable[..., LabPage], model: ModelServer) -> None:
    lab = notebook(ENDLESS)
    chat = lab.chat()
    model.script(Reply(tool_calls=[{"name": "count", "arguments": {}}]))
    chat.send("count for ever")
    call = chat.root.locator("[data-kind=tool_call]")
    expect(call).to_have_attribute("data-status", "running", timeout=20_000)
    chat.reload()
    expect(call).to_have_attribute("data-status", "running")
    chat.stop()
    chat.wait_idle()
    assert [row.status for row in chat.rows(kind="tool_call")] == ["cancelled"]
    said, told = lab.entities(), int(lab.run_cell("print(told)"))
    until(lambda: int(lab.run_cell("print(told)")) > told + 10, "it goes on counting")
    assert lab.entities() == said, "nothing came after the end"
    assert len(model.completions) == 1
    assert chat.ask("and now") == "You said: and now"
    chat.expect_rows_of()


def test_of_a_run_far_above_what_a_page_loads_first(
    page: Page, lab_server: Jupyter, model: ModelServer
) -> None:
    chat = open_page(page, lab_server, "long")
    gate = begin(chat, model)
    for number in range(450):
        lab_server.post_json("webchat/conversations/long/events", {"kind": "note", "props": {"n": number}})
    chat.reload()
    until(lambda: len(chat.rows()) > 300, "the newest rows")
    assert chat.assistant() is None, "the answer is further up"
    chat.stop()
    expect(chat.part("stop-button")).to_have_count(0)
    assert model.wait_disconnected()[0].chunks_sent == 2
    gate.open()
    runs = [entity["props"]["status"] for entity in chat.timeline() if entity["kind"] == "run"]
    assert runs == ["stopped"]


def test_just_after_a_restart(page: Page, restart_server: Jupyter, model: ModelServer) -> None:
    """The run that was cut is not the one to stop; the one that waited behind it is."""
    chat = open_page(page, restart_server)
    begin(chat, model)
    gate = Gate()
    model.script(Reply("another story", hold=gate))
    chat.send("and another")
    expect(chat.part("queue")).to_have_text("1 prompt waiting")
    restart_server.kill()
    until(lambda: chat.state in ("reconnecting", "offline"), "the page notices")
    chat.stop()
    expect(chat.root.locator(".wc-strip")).to_contain_text("Stop did not reach the server.")
    restart_server.start()
    gate.step()
    chat.wait_live(timeout=60)
    chat.wait_text("another")
    chat.stop()
    chat.wait_idle()
    gate.open()
    chat.expect_rows_of()
    runs = [entity["props"]["status"] for entity in chat.timeline() if entity["kind"] == "run"]
    assert runs == ["failed", "stopped"]
    assert (answer(chat).text, answer(chat).status) == ("another", "stopped")
