"""Tools that are functions of the notebook's kernel: the same for a chat on the server and in the kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.lab import ChatInLab, LabPage, open_lab
from tests.e2e.pages import ChatPage
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

TOOLS = """
import pathlib, time
from webchat_widget import ChatWidget, tool

class Table:
    def __init__(self, names):
        self.names = names
    def __repr__(self):
        return f"Table of {', '.join(self.names)}"
    def _repr_html_(self):
        rows = "".join(f"<tr><td>{name}</td><td>{len(name)}</td></tr>" for name in self.names)
        return f"<table><thead><tr><th>name</th><th>length</th></tr></thead><tbody>{rows}</tbody></table>"

calls = []

def table(names: list[str]) -> Table:
    \"\"\"Names and how long they are.\"\"\"
    calls.append(names)
    print("counting", *names)
    return Table(names)

@tool(read_only=True)
def wait_for_ever() -> None:
    \"\"\"It does not end by itself.\"\"\"
    calls.append("begun")
    print("waiting …")
    while True:
        time.sleep(0.02)

chat = ChatWidget(tools=[table, wait_for_ever])
chat
"""

Open = Callable[..., LabPage]


@pytest.fixture(params=["server", "kernel"])
def lab(request: pytest.FixtureRequest) -> LabPage:
    """A notebook whose chat has tools, on the server and in the kernel."""
    name = "notebook" if request.param == "server" else "kernel_notebook"
    lab = cast(Open, request.getfixturevalue(name))(TOOLS)
    assert lab.chat().root.get_attribute("data-transport") == request.param
    return lab


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A call as the model asks for it."""
    return {"name": name, "arguments": arguments}


def ask_for(chat: ChatPage, model: ModelServer, name: str, **arguments: Any) -> None:
    """Have the model ask for a tool."""
    model.script(Reply(tool_calls=[call(name, **arguments)]), Reply("Done."))
    chat.send(f"use {name}")


def question(chat: ChatPage) -> Locator:
    """What a person is asked."""
    asked = chat.part("approval")
    expect(asked).to_be_visible(timeout=20_000)
    return asked


def calls(lab: LabPage) -> list[Any]:
    """What the functions were called with."""
    return list(json.loads(lab.run_cell("import json; print(json.dumps(calls))")))


def told(model: ModelServer) -> list[str]:
    """What the model was told by its tools in the last request."""
    return [str(m["content"]) for m in model.completions[-1].body["messages"] if m["role"] == "tool"]


def end(chat: ChatInLab) -> None:
    """Wait for the end of the run, and compare what is on the screen with what is stored."""
    chat.wait_idle()
    assert chat.assistant_text() == "Done."
    chat.expect_rows_of()


def test_a_tool_runs_after_a_yes_and_shows_a_table(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    ask_for(chat, model, "table", names=["Ada", "Grace"])
    asked = question(chat)
    expect(asked).to_contain_text("The model wants to run table")
    expect(asked).to_contain_text("Grace")
    assert calls(lab) == [], "not before the yes"
    chat.part("approve-once").click()
    cells = chat.root.locator("[data-kind=tool_result] td")
    expect(cells).to_have_text(["Ada", "3", "Grace", "5"], timeout=20_000)
    printed = lab.page.locator(".jp-OutputArea-output pre").all_inner_texts()
    assert not any("counting" in text for text in printed), "what a tool prints is no output of a cell"
    end(chat)
    assert calls(lab) == [["Ada", "Grace"]]
    assert told(model) == ["counting Ada Grace\nTable of Ada, Grace"]
    assert lab.run_cell("print(chat.where)") == chat.root.get_attribute("data-transport")
    (row,) = [row for row in chat.timeline() if row["kind"] == "tool_call"]
    assert row["props"]["approval"]["state"] == "once"
    assert row["props"]["stdout"] == "counting Ada Grace\n"


def test_no_is_an_answer_too(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    ask_for(chat, model, "table", names=["Ada"])
    question(chat)
    chat.part("deny").click()
    chat.part("deny-reason").fill("not today")
    chat.part("deny-send").click()
    end(chat)
    assert calls(lab) == []
    assert "not today" in told(model)[0]
    chat.reload()
    expect(chat.root).to_contain_text("not today")


def test_always_is_asked_once(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    ask_for(chat, model, "table", names=["Ada"])
    question(chat)
    chat.part("approve-always").click()
    end(chat)
    ask_for(chat, model, "table", names=["Grace"])
    until(lambda: len(model.completions) == 4, "the second call ran")
    end(chat)
    assert calls(lab) == [["Ada"], ["Grace"]]


def test_a_page_that_was_loaded_again_can_say_yes(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    ask_for(chat, model, "table", names=["Ada"])
    question(chat)
    chat.reload()
    asked = question(chat)
    expect(asked).to_contain_text("Ada")
    chat.part("approve-once").click()
    end(chat)
    assert calls(lab) == [["Ada"]]


def test_python_can_say_yes(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    model.script(Reply(tool_calls=[call("table", names=["Ada"])]), Reply("Done."))
    lab.run_cell("run = chat.send('use table')\nchat.approve('table')\nprint(run.wait(30).status)")
    end(chat)
    assert calls(lab) == [["Ada"]]


def test_stop_ends_a_tool_and_nothing_else(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    ask_for(chat, model, "wait_for_ever")
    expect(chat.part("stdout")).to_contain_text("waiting", timeout=20_000)
    chat.stop()
    chat.wait_idle()
    (row,) = [row for row in chat.timeline() if row["kind"] == "tool_call"]
    assert (row["props"]["status"], row["props"]["done"]) == ("cancelled", True)
    assert lab.run_cell("print('the kernel is free')") == "the kernel is free"
    model.reset()
    assert chat.ask("and now?") == "You said: and now?"


def test_a_busy_kernel_is_waited_for(lab: LabPage, model: ModelServer) -> None:
    chat = lab.chat()
    with lab.busy():
        ask_for(chat, model, "table", names=["Ada"])
        question(chat)
        chat.part("approve-once").click()
        expect(chat.root).to_contain_text("Waiting for the kernel", timeout=20_000)
    end(chat)
    assert calls(lab) == [["Ada"]]


def test_the_kernel_restarts_inside_a_tool(notebook: Open, model: ModelServer) -> None:
    """The chat runs on the server and goes on; the model and the person are told."""
    lab = notebook(TOOLS)
    chat = lab.chat()
    ask_for(chat, model, "wait_for_ever")
    expect(chat.part("stdout")).to_contain_text("waiting", timeout=20_000)
    lab.restart_kernel()
    expect(chat.root.locator("[data-kind=tool_result]")).to_contain_text("restarted", timeout=20_000)
    chat.wait_idle()
    assert chat.assistant_text() == "Done."
    assert "restarted" in told(model)[0]


def test_the_kernel_restarts_while_a_yes_is_waited_for(kernel_notebook: Open, model: ModelServer) -> None:
    lab = kernel_notebook(TOOLS)
    chat = lab.chat()
    ask_for(chat, model, "table", names=["Ada"])
    question(chat)
    lab.restart_kernel()
    lab.run_first()
    chat = lab.chat()
    asked = question(chat)
    expect(asked).to_contain_text("Ada")
    chat.part("approve-once").click()
    end(chat)
    assert calls(lab) == [["Ada"]]


def test_two_notebooks_with_tools_of_the_same_name(
    notebook: Open, lab_server: Any, new_page: Any, model: ModelServer
) -> None:
    first = notebook(TOOLS)
    second = open_lab(new_page(), lab_server, "tools-of-the-same-name.ipynb", TOOLS)
    for lab, name in ((first, "Ada"), (second, "Grace"), (first, "Emmy")):
        chat = lab.chat()
        ask_for(chat, model, "table", names=[name])
        question(chat)
        chat.part("approve-once").click()
        end(chat)
    assert (calls(first), calls(second)) == ([["Ada"], ["Emmy"]], [["Grace"]])
