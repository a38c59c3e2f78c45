"""`%%chat` and `%chat` where the chat runs on the Jupyter server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply

from .kernel import Kernel

SETUP = """
%load_ext webchat_widget
import json
from webchat_widget import ChatWidget, Profile
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


@pytest.fixture(autouse=True)
def chat(kernel: Kernel, model: ModelServer) -> None:
    kernel.run("chat = ChatWidget(new=True)")
    assert kernel.value("chat.where") == "server"


def test_a_cell_and_the_widget_are_one_conversation(kernel: Kernel, model: ModelServer) -> None:
    model.script("One.", "Two.")
    kernel.run("chat.send('first').wait(20)")
    assert kernel.run("%%chat\nsecond").shown == ["Two."]
    sent = [message["content"] for message in model.completions[-1].body["messages"]]
    assert sent == ["first", "One.", "second"]
    assert kernel.value("chat.text") == "Two."


def test_another_model_and_another_profile(kernel: Kernel, model: ModelServer) -> None:
    kernel.run("chat = ChatWidget(new=True, profiles=[Profile(slug='poet', system_prompt='Rhyme.')])")
    kernel.run("%%chat -m test-large -p poet\nhi")
    asked = model.completions[-1].body
    assert asked["model"] == "test-large"
    assert asked["messages"][0]["content"] == "Rhyme."
    refused = kernel.run("%%chat -m gpt-none\nhi")
    assert "gpt-none" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_interrupt_stops_the_run_on_the_server(kernel: Kernel, model: ModelServer) -> None:
    model.script(Reply("word " * 200, delay=0.05))
    sent = kernel.begin("%%chat\nhi")
    model.wait_requests()
    kernel.until(lambda message: message["msg_type"] == "display_data")
    kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {}))
    cell = kernel.outcome(sent)
    assert cell.error == "KeyboardInterrupt: the answer was stopped"
    assert cell.shown[0].endswith("(stopped)")
    model.wait_disconnected()


def test_a_tool_of_the_notebook_runs_while_its_cell_waits(kernel: Kernel, model: ModelServer) -> None:
    model.script(Reply(tool_calls=[{"name": "twice", "arguments": '{"number": 21}'}]), "42.")
    kernel.run("@chat.tool(read_only=True)\ndef twice(number: int) -> int: return 2 * number")
    assert kernel.run("%%chat\nTwice 21?").shown == ["42."]


def test_the_servers_conversations_are_listed(kernel: Kernel) -> None:
    kernel.run("%%chat\nA needle in the list")
    lines = kernel.run("%chat list").shown[0].splitlines()
    mine = next(line for line in lines if "A needle in the list" in line)
    assert mine.startswith("→ ")
    assert kernel.value("chat.conv_id") in mine


def test_another_conversation_keeps_the_tools(kernel: Kernel, model: ModelServer) -> None:
    kernel.run("chat = ChatWidget(new=True)\n@chat.tool(read_only=True)\ndef look() -> str: return 'seen'")
    kernel.run("old = chat.conv_id\nchat = %chat new")
    model.script(Reply(tool_calls=[{"name": "look", "arguments": "{}"}]), "Seen.")
    assert kernel.run("%%chat\nhi").shown == ["Seen."]
    assert kernel.value("old != chat.conv_id")
    assert kernel.value(
        "[row['props']['result'] for row in chat.entities if row['kind'] == 'tool_result']"
    ) == ["seen"]


def test_what_failed_is_explained(kernel: Kernel, model: ModelServer) -> None:
    assert kernel.outcome(kernel.begin("[][3]")).error
    model.script("The list is empty.")
    assert kernel.run("%chat fix").shown == ["The list is empty."]
    assert "IndexError: list index out of range" in model.completions[-1].body["messages"][-1]["content"]


def test_a_model_that_fails_is_a_sentence(kernel: Kernel, model: ModelServer) -> None:
    model.script(Reply(status=401))
    cell = kernel.run("%%chat\nhi")
    assert cell.shown[0].startswith("Error: ")
    assert not cell.error
