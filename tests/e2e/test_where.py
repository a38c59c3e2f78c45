"""Where a chat runs, on the server or in the kernel, and how a conversation moves between the two."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.lab import ChatInLab, LabPage, chat_cell, open_lab
from tests.e2e.pages import ChatPage, open_page
from tests.e2e.test_recovery import texts
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

PLACES = """
import json, os
from webchat_widget import ChatWidget, ScriptedEngine, tool

@tool(read_only=True)
def double(number: int) -> int:
    "Twice the number."
    return 2 * number

def places(*wishes):
    chats = [ChatWidget(new=True, **wish) for wish in wishes]
    print(json.dumps([(chat.where, chat.where_reason) for chat in chats]))
"""


def expect_place(chat: ChatInLab, where: str) -> None:
    expect(chat.root).to_have_attribute("data-transport", where, timeout=10_000)
    chat.wait_live()
    assert chat.lab.run_cell("print(chat.where)") == where


# -- the choice ---------------------------------------------------------------------------------------------


def test_a_server_with_a_model_is_the_place_unless_something_needs_the_kernel(
    notebook: Callable[..., LabPage],
) -> None:
    lab = notebook(PLACES)
    wishes = "{}, {'where': 'kernel'}, {'engine': ScriptedEngine()}, {'tools': [double]}, {'store': 'memory'}"
    told = json.loads(lab.run_cell(f"places({wishes})"))
    assert [where for where, _ in told] == ["server", "kernel", "kernel", "server", "kernel"]
    for (_, reason), word in zip(
        told, ("extension", "where='kernel'", "engine=", "extension", "store="), strict=True
    ):
        assert word in reason
    with pytest.raises(AssertionError, match=r"engine= .* kernel"):
        lab.run_cell("ChatWidget(engine=ScriptedEngine(), where='server')")


def test_a_model_that_only_the_kernel_knows_answers_in_the_kernel(
    page: Page, demo_server: Jupyter, model: ModelServer
) -> None:
    lab = open_lab(page, demo_server, "where.ipynb", PLACES)
    assert json.loads(lab.run_cell("places({})"))[0][0] == "server", "a demo is at home on the server"
    lab.run_cell("os.environ['OPENAI_API_KEY'] = 'sk-none'")
    assert json.loads(lab.run_cell("places({})"))[0][0] == "kernel"
    lab.run_cell(
        f"del os.environ['OPENAI_API_KEY']\nos.environ['OPENAI_BASE_URL'] = {model.url!r}\n{chat_cell()}"
    )
    chat = lab.chat()
    expect_place(chat, "kernel")
    assert chat.ask("hello") == "You said: hello"
    assert model.completions[-1].body["model"] == "test-model", "the first that the server lists"


def test_a_kernel_without_a_credential_chats_by_itself(
    page: Page, password_server: Jupyter, model: ModelServer
) -> None:
    page.goto(password_server.url("login"))
    page.locator("input[type=password]").fill("open sesame")
    page.locator("button[type=submit], #login_submit").first.click()
    page.wait_for_url(lambda address: "/login" not in address)
    lab = open_lab(page, password_server, "password.ipynb")
    chat = lab.chat()
    expect_place(chat, "kernel")
    assert "password" in lab.run_cell("print(chat.where_reason)")
    assert lab.run_cell("print(chat.send('let me in').wait(30).text)") == "You said: let me in"
    chat.wait_text("You said: let me in")


def test_a_server_that_is_wanted_and_has_no_chat_is_an_error(
    kernel_notebook: Callable[..., LabPage],
) -> None:
    lab = kernel_notebook(PLACES)
    with pytest.raises(AssertionError, match=r"ServerUnavailable: .* runs without the webchat extension"):
        lab.run_cell("ChatWidget(where='server')")


def test_an_engine_and_tools_of_one_s_own(
    kernel_notebook: Callable[..., LabPage], model: ModelServer
) -> None:
    lab = kernel_notebook(
        f"import threading\ngo = threading.Event()\nscript = ['once ', go, 'upon a time']\n"
        f"{chat_cell('engine=ScriptedEngine(script)')}"
    )
    chat = lab.chat()
    chat.send("tell me")
    chat.wait_text("once")
    lab.run_cell("go.set()")
    chat.wait_text("once upon a time")
    chat.wait_idle()
    chat.send("another one")
    until(lambda: "number 2" in str(chat.rows(kind="error")), "the end of the script, as a sentence")
    lab.run_cell(f"{PLACES}\nother = ChatWidget(tools=[double])")
    call = {"name": "double", "arguments": {"number": 21}}
    model.script(Reply(tool_calls=[call]), "It is 42.")
    assert chat.ask("twice 21?") == "It is 42."
    (result,) = [row for row in lab.entities() if row["kind"] == "tool_result"]
    assert result["props"]["result"] == "42"
    chat.expect_rows_of()


# -- moves --------------------------------------------------------------------------------------------------


def test_a_conversation_moves_into_the_kernel_and_back_with_all_its_views(
    notebook: Callable[..., LabPage],
    new_page: Callable[..., Page],
    model: ModelServer,
    lab_server: Jupyter,
) -> None:
    lab = notebook()
    chat = lab.chat()
    chat.ask("on the server")
    conv_id = chat.conv_id
    gate = Gate()
    model.script(Reply("cut by the move", hold=gate))
    chat.send("go on")
    gate.step()
    chat.wait_text("cut")
    lab.run_cell("moved = ChatWidget(engine=ScriptedEngine('in the kernel'))")
    expect_place(chat, "kernel")
    row = until(lambda: (row := chat.assistant()) and not row.streaming and row, "the end of what ran")
    assert (row.text, row.status) == ("cut", "interrupted")
    assert chat.ask("who is there?") == "in the kernel"
    chat.expect_rows_of()

    page = new_page()
    page.goto(lab_server.url(f"webchat/?conv_id={conv_id}", login=True))
    held = ChatPage(page, lab_server)
    until(lambda: "kernel" in held.complaint(), "the page says where the conversation is", 10)

    before = chat.rows()
    lab.run_cell("back = ChatWidget()")
    expect_place(chat, "server")
    until(lambda: chat.rows() == before, "the rows of before")
    assert chat.ask("and now?") == "You said: and now?"
    assert lab.entities("moved") == lab_server.timeline(conv_id)
    held.part("retry-button").click()
    held.wait_live()
    assert held.rows() == chat.rows()


@pytest.fixture
def changing_server(restart_server: Jupyter) -> Iterator[Jupyter]:
    """A server whose extension is switched off and on; it is on again in the end."""
    yield restart_server
    if not restart_server.extension:
        restart_server.stop()
        restart_server.extension = True
        restart_server.start()


def restart(server: Jupyter, *, extension: bool) -> None:
    server.terminate()
    server.extension = extension
    server.start()


def test_the_extension_goes_and_comes_back(page: Page, changing_server: Jupyter, model: ModelServer) -> None:
    lab = open_lab(page, changing_server, "comes-and-goes.ipynb")
    chat = lab.chat()
    chat.ask("on the server")
    conv_id = chat.conv_id
    restart(changing_server, extension=False)
    until(
        lambda: "run this cell again" in chat.complaint(), "the view says what is missing, and what to do", 5
    )
    assert texts(chat) == [("user", "on the server"), ("assistant", "You said: on the server")]

    lab.open()
    lab.run_all()
    chat = lab.chat()
    expect_place(chat, "kernel")
    assert chat.conv_id == conv_id
    chat.ask("in the kernel")
    restart(changing_server, extension=True)

    lab.open()
    lab.run_all()
    chat = lab.chat()
    expect_place(chat, "server")
    assert [row.text for row in chat.rows(role="user")] == ["on the server", "in the kernel"]
    assert chat.ask("together again") == "You said: together again"
    asked = [message["content"] for message in model.completions[-1].body["messages"][::2]]
    assert asked == ["on the server", "in the kernel", "together again"]
    rows = chat.rows()
    assert open_page(page, changing_server, conv_id).rows() == rows


def test_a_conversation_has_one_kernel_at_a_time(
    new_page: Callable[..., Page], bare_server: Jupyter, model: ModelServer
) -> None:
    cell = chat_cell(repr(f"shared-{uuid.uuid4()}"))
    first = open_lab(new_page(), bare_server, "first-holder.ipynb", cell, app="notebook")
    first.chat().ask("mine")
    second = open_lab(new_page(), bare_server, "second-holder.ipynb", cell, app="notebook")
    chat = ChatInLab(second)
    until(lambda: "Another kernel has this conversation open" in chat.complaint(), "it says who has it", 10)
    with pytest.raises(AssertionError, match="Another kernel has this conversation open"):
        second.run_cell("chat.entities")
    first.shut_kernel_down()
    chat.part("retry-button").click()
    chat.wait_live()
    assert texts(chat) == [("user", "mine"), ("assistant", "You said: mine")]
    assert chat.ask("mine now") == "You said: mine now"
    bare_server.shut_kernels_down()
