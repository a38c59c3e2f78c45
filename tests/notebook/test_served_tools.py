"""Tools of a notebook whose chat runs on its Jupyter server: the widget registers them, the server calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply

from .kernel import Kernel

SETUP = """
import json, threading
from webchat_widget import ChatWidget, tool

seen = []
def area(width: float, height: float) -> float:
    "The area of a rectangle."
    seen.append(threading.current_thread() is threading.main_thread())
    print("computing")
    return width * height

def rows(kind):
    return [row["props"] for row in chat.entities if row["kind"] == kind]
"""


@pytest.fixture(scope="module", params=["python3", "python-ipykernel6"])
def kernel(request: pytest.FixtureRequest, server: Jupyter) -> Iterator[Kernel]:
    """A kernel of the server, of each version."""
    server.add_ipykernel6()
    kernel = Kernel.of_server(server, request.param)
    kernel.run(SETUP)
    yield kernel
    kernel.client.stop_channels()
    server.shut_kernels_down()


def call(model: ModelServer, name: str, arguments: str, *texts: str) -> None:
    """The model asks for a tool, and then says the texts."""
    model.script(Reply(tool_calls=[{"name": name, "arguments": arguments}]), *texts)


def test_a_tool_of_this_kernel(kernel: Kernel, model: ModelServer) -> None:
    call(model, "area", '{"width": 3, "height": 4}', "Twelve.")
    kernel.run("seen.clear()\nchat = ChatWidget(new=True, tools=[area])")
    assert kernel.value("chat.where") == "server"
    cell = kernel.run("run = chat.send('hi')\nasked = chat.approve()\nprint(run.wait(20).text, seen)")
    assert cell.stdout == "Twelve. [True]\n"
    assert kernel.value(
        "[asked[0]['input'], rows('tool_call')[0]['stdout'], rows('tool_result')[0]['result']]"
    ) == [
        {"width": 3, "height": 4},
        "computing\n",
        "computing\n12.0",
    ]


def test_one_that_is_added_and_a_text_for_a_name(kernel: Kernel, model: ModelServer) -> None:
    call(model, "twice", '{"number": 21}', "42.")
    kernel.run("chat = ChatWidget(new=True)\nprices = [3, 5, 8]\nchat.context(prices)")
    kernel.run("@chat.tool(read_only=True)\ndef twice(number: int) -> int: return 2 * number")
    assert kernel.run("print(chat.send('Describe @prices').wait(20).text)").stdout == "42.\n"
    assert kernel.value("[props['result'] for props in rows('tool_result')]") == ["42"]
    assert "[prices]\nprices: list, 3" in model.completions[-1].body["messages"][0]["content"]
    names = [tool["function"]["name"] for tool in model.completions[-1].body["tools"]]
    assert names == ["twice"]


def test_a_widget_without_tools_takes_them_back(kernel: Kernel, model: ModelServer) -> None:
    kernel.run("chat = ChatWidget('taken-back', tools=[area])\nchat = ChatWidget('taken-back')")
    kernel.run("chat.send('hi').wait(20)")
    assert "tools" not in model.completions[-1].body


def test_a_no_from_python(kernel: Kernel, model: ModelServer) -> None:
    call(model, "area", '{"width": 3, "height": 4}', "Then not.")
    kernel.run("seen.clear()\nchat = ChatWidget(new=True, tools=[area])\nrun = chat.send('hi')")
    assert kernel.run("chat.deny('no')\nprint(run.wait(20).text, seen)").stdout == "Then not. []\n"
