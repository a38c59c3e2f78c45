"""A notebook's tools over HTTP: a real server, a real kernel in it, and a person who is asked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from tests.support.notebook import Notebook
from tests.support.waiting import until


@pytest.fixture(scope="module")
def notebook(server: Jupyter) -> Iterator[Notebook]:
    """A notebook of the server."""
    notebook = Notebook(server)
    yield notebook
    notebook.close()
    server.shut_kernels_down()


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"t-{uuid.uuid4()}"


def rows(server: Jupyter, conv: str, kind: str) -> list[dict[str, Any]]:
    return [row["props"] for row in server.timeline(conv) if row["kind"] == kind]


def the_call(server: Jupyter, conv: str, status: str) -> dict[str, Any]:
    """The call of a conversation, when it has come to a status."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [row for row in server.timeline(conv) if row["kind"] == "tool_call"]
        return bool(found) and found[0]["props"]["status"] == status

    until(there, f"the call is {status}")
    return found[0]


def calls(name: str, **arguments: Any) -> Reply:
    """The model asks for a tool."""
    return Reply(tool_calls=[{"name": name, "arguments": arguments}])


def test_a_call_in_the_kernel_with_approval(
    server: Jupyter, client: httpx.Client, model: ModelServer, notebook: Notebook, conv: str
) -> None:
    model.reset()
    model.script(calls("area", width=4), Reply("It is 12."))
    notebook.run(
        f"def area(width: int) -> int:\n    print('hm')\n    return width * 3\nregister({conv!r}, area)"
    )
    client.post("chat", json={"prompt": "How large?", "conv_id": conv}).raise_for_status()
    call = the_call(server, conv, "asking")
    digest = call["props"]["approval"]["digest"]
    path = f"conversations/{conv}/approvals/{call['id']}"

    stale = client.post(path, json={"decision": "once", "digest": "0" * 64})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_approval")
    said = client.post(path, json={"decision": "once", "digest": digest})
    assert (said.status_code, said.json()) == (200, {"status": "once", "call_id": call["id"]})
    call = the_call(server, conv, "completed")
    assert call["props"]["stdout"] == "hm\n"
    assert [row["result"] for row in rows(server, conv, "tool_result")] == ["hm\n12"]
    again = client.post(path, json={"decision": "once", "digest": digest})
    assert again.status_code == 200
    other = client.post(path, json={"decision": "deny", "digest": digest})
    assert (other.status_code, other.json()["code"]) == (409, "decided")


def test_while_the_cell_waits_for_the_answer(
    server: Jupyter, model: ModelServer, notebook: Notebook, conv: str
) -> None:
    """The call is made on the thread that waits for it."""
    model.reset()
    model.script(calls("where"), Reply("There."))
    printed = notebook.run(
        "@tool(read_only=True)\n"
        "def where() -> str: return threading.current_thread().name\n"
        f"register({conv!r}, where)\n"
        f"print(chat.send('go', conv_id={conv!r}).wait(30).text)"
    )
    assert printed == "There.\n"
    assert [row["result"] for row in rows(server, conv, "tool_result")] == ["MainThread"]


def test_two_notebooks_with_tools_of_one_name(
    server: Jupyter, client: httpx.Client, model: ModelServer, notebook: Notebook, conv: str
) -> None:
    other = Notebook(server)
    try:
        for number, book in enumerate((notebook, other)):
            code = f"@tool(read_only=True)\ndef who(): return 'notebook {number}'"
            book.run(f"{code}\nregister('{conv}-{number}', who)")
        for number in (0, 1):
            model.reset()
            model.script(calls("who"), Reply("ok"))
            client.post("chat", json={"prompt": "go", "conv_id": f"{conv}-{number}"}).raise_for_status()
            the_call(server, f"{conv}-{number}", "completed")
            [result] = rows(server, f"{conv}-{number}", "tool_result")
            assert result["result"] == f"notebook {number}"
    finally:
        other.close()


def test_stop_inside_a_tool(
    server: Jupyter, client: httpx.Client, model: ModelServer, notebook: Notebook, conv: str
) -> None:
    model.reset()
    model.script(calls("sleep"))
    code = "@tool(read_only=True)\ndef sleep():\n    print('asleep')\n    time.sleep(60)"
    notebook.run(f"{code}\nregister({conv!r}, sleep)")
    client.post("chat", json={"prompt": "go", "conv_id": conv}).raise_for_status()
    until(lambda: "asleep" in str(rows(server, conv, "tool_call")), "the tool runs")
    client.post(f"conversations/{conv}/stop", json={}).raise_for_status()
    assert rows(server, conv, "tool_call")[0]["status"] == "cancelled"
    assert notebook.run("print('here')") == "here\n"


def test_a_restart_inside_a_tool(
    server: Jupyter, client: httpx.Client, model: ModelServer, conv: str
) -> None:
    book = Notebook(server)
    try:
        model.reset()
        model.script(calls("sleep"), Reply("Sorry."))
        code = "@tool(read_only=True)\ndef sleep():\n    print('asleep')\n    time.sleep(60)"
        book.run(f"{code}\nregister({conv!r}, sleep)")
        client.post("chat", json={"prompt": "go", "conv_id": conv}).raise_for_status()
        until(lambda: "asleep" in str(rows(server, conv, "tool_call")), "the tool runs")
        server.post_json(f"api/kernels/{book.id}/restart", {})
        the_call(server, conv, "failed")
        [result] = rows(server, conv, "tool_result")
        assert "was restarted or shut down, or has died, while sleep was running" in result["result"]
    finally:
        book.close()


DROP = """
def drop(table: str) -> str:
    return "{} " + table
register({!r}, drop)
"""


def answered_yes(client: httpx.Client, server: Jupyter, conv: str, call: dict[str, Any]) -> str:
    """Allow a call, and wait for the end of the run; the result of the call."""
    said = {"decision": "once", "digest": call["props"]["approval"]["digest"]}
    client.post(f"conversations/{conv}/approvals/{call['id']}", json=said).raise_for_status()
    until(lambda: rows(server, conv, "run")[-1]["status"] == "finished", "the run ends")
    [result] = rows(server, conv, "tool_result")
    return str(result["result"])


@pytest.mark.parametrize(
    ("body", "result"), [("first", "first t"), ("second", "The function drop has changed since you were")]
)
def test_a_question_outlives_a_restart_of_the_kernel(
    server: Jupyter, client: httpx.Client, model: ModelServer, conv: str, body: str, result: str
) -> None:
    """When the cell is run again: a yes is for the function that asked."""
    book = Notebook(server)
    try:
        model.reset()
        model.script(calls("drop", table="t"), Reply("Done."))
        book.run(DROP.format("first", conv))
        client.post("chat", json={"prompt": "go", "conv_id": conv}).raise_for_status()
        call = the_call(server, conv, "asking")
        book.restart()
        book.run(DROP.format(body, conv))
        assert result in answered_yes(client, server, conv, call)
    finally:
        book.close()


@pytest.mark.parametrize(
    ("body", "result"), [("first", "first t"), ("second", "The function drop has changed since you were")]
)
def test_a_cell_that_is_run_again_while_its_tool_asks(
    server: Jupyter,
    client: httpx.Client,
    model: ModelServer,
    notebook: Notebook,
    conv: str,
    body: str,
    result: str,
) -> None:
    model.reset()
    model.script(calls("drop", table="t"), Reply("Done."))
    notebook.run(DROP.format("first", conv))
    client.post("chat", json={"prompt": "go", "conv_id": conv}).raise_for_status()
    call = the_call(server, conv, "asking")
    notebook.run(DROP.format(body, conv))
    assert result in answered_yes(client, server, conv, call)


def test_a_text_that_a_prompt_names(
    client: httpx.Client, server: Jupyter, model: ModelServer, notebook: Notebook, conv: str
) -> None:
    model.reset()
    notebook.run(f"register({conv!r}, df='3 rows')")
    client.post("chat", json={"prompt": "What is in @df?", "conv_id": conv}).raise_for_status()
    until(lambda: model.requests, "the model is asked")
    assert model.requests[-1].prompt == "What is in @df?\n\n[df]\n3 rows"
    assert rows(server, conv, "message")[0]["content"] == "What is in @df?"


TOOL = {"name": "f", "description": "", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_tools"),
        ({"kernel_id": 1}, 400, "bad_tools"),
        ({"kernel_id": "none"}, 404, "unknown_kernel"),
        ({"kernel_id": "../x"}, 404, "unknown_kernel"),
        ({"kernel_id": "none", "tools": {}}, 400, "bad_tools"),
        ({"kernel_id": "none", "tools": [{**TOOL, "approval": "always"}]}, 400, "bad_tools"),
        ({"kernel_id": "none", "tools": [{**TOOL, "name": "no spaces"}]}, 422, "not_allowed"),
        ({"kernel_id": "none", "tools": [TOOL, TOOL]}, 422, "not_allowed"),
        ({"kernel_id": "none", "tools": [{**TOOL, "parameters": {}}]}, 422, "not_allowed"),
        ({"kernel_id": "none", "tools": [{**TOOL, "name": f"f{n}"} for n in range(129)]}, 422, "not_allowed"),
        ({"kernel_id": "none", "contexts": [{"name": "a b", "text": ""}]}, 422, "not_allowed"),
        ({"kernel_id": "none", "contexts": [{"name": "a"}]}, 400, "bad_tools"),
    ],
)
def test_a_registration_that_is_refused(client: httpx.Client, body: Any, status: int, code: str) -> None:
    reply = client.put("conversations/c/tools", content=json.dumps(body), headers=JSON)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.json()["message"].endswith(".")


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_decision"),
        ({"decision": "yes", "digest": "0" * 64}, 400, "bad_decision"),
        ({"decision": "once", "digest": "x"}, 400, "bad_decision"),
        ({"decision": "once", "digest": "0" * 64}, 404, "unknown_call"),
    ],
)
def test_a_decision_that_is_refused(client: httpx.Client, body: Any, status: int, code: str) -> None:
    reply = client.post("conversations/nowhere/approvals/x", json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
