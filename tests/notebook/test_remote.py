"""Python in a kernel as a client of its server: a real server, a real kernel's environment."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import Jupyter, free_port
from tests.support.model_server import Gate, ModelServer, Reply
from webchat_widget import tool
from webchat_widget.errors import ServerUnavailable, WebChatError
from webchat_widget.notebook.chat import Changes, Run
from webchat_widget.notebook.remote import RemoteChat, Server, find_server
from webchat_widget.tools.function import function_tool


@pytest.fixture
def chat(server: Jupyter) -> RemoteChat:
    """A client as a kernel of that server has it."""
    return RemoteChat(Server(server.url(), server.token))


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"c-{uuid.uuid4()}"


def describe(folder: Path, monkeypatch: pytest.MonkeyPatch, **info: object) -> None:
    """What a server writes about itself, and what it tells the kernels that it starts."""
    (folder / "jpserver-4242.json").write_text(json.dumps(info))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("JPY_PARENT_PID", "4242")
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)


class TestFindServer:
    def test_by_the_process_that_started_the_kernel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        describe(tmp_path, monkeypatch, url="http://localhost:8888/user/x", token="secret")
        assert find_server() == Server("http://localhost:8888/user/x/", "secret")
        assert "secret" not in repr(find_server())

    def test_the_real_one(self, server: Jupyter, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.folder / "runtime"))
        monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
        found = find_server()
        assert found.token == server.token
        assert found.url.endswith("/user/x/")

    def test_on_a_hub_with_the_users_own_token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        describe(tmp_path, monkeypatch, url="http://localhost:8888/", token="")
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub")
        assert find_server().token == "hub"

    def test_none_outside_of_jupyter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        with pytest.raises(ServerUnavailable, match="not started by a Jupyter server") as error:
            find_server()
        assert error.value.code == "no_server"

    def test_a_password_is_no_credential_for_a_kernel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        describe(tmp_path, monkeypatch, url="http://localhost:8888/", token="", password=True)
        with pytest.raises(ServerUnavailable, match="password") as error:
            find_server()
        assert error.value.code == "no_credential"

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_a_file_that_makes_no_sense(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        describe(tmp_path, monkeypatch)
        (tmp_path / "jpserver-4242.json").write_text(text)
        with pytest.raises(ServerUnavailable):
            find_server()


def test_send_and_wait(chat: RemoteChat, model: ModelServer, conv: str) -> None:
    model.script("Hello.")
    run = chat.send("hi", conv_id=conv)
    assert run.wait(30) is run
    assert (run.status, run.text, run.error) == ("finished", "Hello.", None)
    assert [row["kind"] for row in chat.timeline(conv)] == ["run", "message", "message"]


async def test_await(chat: RemoteChat, model: ModelServer, conv: str) -> None:
    model.script("Hello.")
    run = await asyncio.to_thread(chat.send, "hi", conv_id=conv)
    assert (await run).text == "Hello."


def test_a_timeout_leaves_the_run_running(chat: RemoteChat, model: ModelServer, conv: str) -> None:
    gate = Gate()
    model.script(Reply(chunks=["one ", "two"], hold=gate))
    run = chat.send("hi", conv_id=conv)
    gate.step()
    with pytest.raises(TimeoutError):
        run.wait(0.2)
    assert run.status == "started"
    gate.open()
    assert run.wait(30).text == "one two"


def test_a_failed_run_does_not_raise(chat: RemoteChat, model: ModelServer, conv: str) -> None:
    model.script(Reply(status=401))
    run = chat.send("hi", conv_id=conv).wait(30)
    assert run.status == "failed"
    assert run.error is not None
    assert "API key was rejected" in run.error
    assert run.text == ""


def test_stop(chat: RemoteChat, model: ModelServer, conv: str) -> None:
    gate = Gate()
    model.script(Reply(chunks=["one ", "two"], hold=gate))
    run = chat.send("hi", conv_id=conv)
    gate.step()
    gate.wait_held()
    chat.stop(conv)
    assert run.wait(30).status == "stopped"


def test_what_the_server_refuses_is_said_in_its_words(chat: RemoteChat, conv: str) -> None:
    with pytest.raises(WebChatError, match="blank") as error:
        chat.send("  ", conv_id=conv)
    assert (error.value.code, error.value.status) == ("blank_prompt", 400)


def test_a_decision_on_a_call_that_there_is_not(chat: RemoteChat, conv: str) -> None:
    with pytest.raises(WebChatError, match="no such call") as error:
        chat.approve(conv, "a/b c", "deny", "0" * 64, "no")
    assert (error.value.code, error.value.status) == ("unknown_call", 404)


def test_tools_of_a_kernel_that_there_is_not(chat: RemoteChat, conv: str) -> None:
    def area(width: int) -> int:
        """The area."""
        return width

    with pytest.raises(WebChatError, match="no such kernel") as error:
        chat.register(conv, "none", [function_tool(area)], {"df": "3 rows"})
    assert (error.value.code, error.value.status) == ("unknown_kernel", 404)


def test_tools_are_described_as_their_authors_say(chat: RemoteChat, monkeypatch: pytest.MonkeyPatch) -> None:
    @tool(read_only=True)
    def look() -> None:
        """Look at it."""

    @tool(approval=lambda days: days > 7)
    def wipe(days: int) -> None: ...

    sent: list[Any] = []
    monkeypatch.setattr(chat, "_call", lambda *request: sent.append(request))
    chat.register("c", "k", [function_tool(look), function_tool(wipe)], {"df": "3 rows"})
    [(method, path, body)] = sent
    assert (method, path) == ("PUT", "conversations/c/tools")
    assert body["kernel_id"] == "k"
    assert body["contexts"] == [{"name": "df", "text": "3 rows"}]
    described = [(tool["name"], tool["description"], tool["approval"]) for tool in body["tools"]]
    assert described == [("look", "Look at it.", "never"), ("wipe", "", "predicate")]
    assert body["tools"][1]["parameters"]["required"] == ["days"]


def test_a_wrong_token(server: Jupyter, conv: str) -> None:
    chat = RemoteChat(Server(server.url(), "wrong"))
    with pytest.raises(ServerUnavailable) as error:
        chat.timeline(conv)
    assert error.value.code == "no_credential"
    assert "wrong" not in str(error.value)


def test_a_server_without_the_extension(server: Jupyter, conv: str) -> None:
    chat = RemoteChat(Server(server.url("elsewhere/"), server.token))
    with pytest.raises(ServerUnavailable, match="extension") as error:
        chat.timeline(conv)
    assert error.value.code == "no_extension"


def test_nobody_there(conv: str) -> None:
    chat = RemoteChat(Server(f"http://127.0.0.1:{free_port()}/", "t"))
    with pytest.raises(ServerUnavailable, match="does not answer") as error:
        chat.send("hi", conv_id=conv)
    assert error.value.code == "unreachable"


def test_a_wait_lives_through_a_restart(tmp_path: Path, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(chunks=["one ", "two"], hold=gate))
    with Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url}) as server:
        run = RemoteChat(Server(server.url(), server.token)).send("hi", conv_id="c")
        gate.step()
        gate.wait_held()
        server.kill()
        server.start()
        run.wait(30)
        assert run.status == "failed"
        assert run.error is not None
        assert "stopped while" in run.error or "restarted" in run.error


def test_a_server_that_asks_for_no_login(tmp_path: Path, model: ModelServer) -> None:
    model.script("Hello.")
    open_to_all = Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url})
    open_to_all.token = ""
    with open_to_all as server:
        chat = RemoteChat(Server(server.url(), ""))
        chat.configure("c", {})
        assert chat.send("hi", conv_id="c").wait(30).text == "Hello."


def test_a_run_that_the_server_forgot(tmp_path: Path, model: ModelServer) -> None:
    model.script(Reply("never", hold=Gate()))
    server = Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url})
    server.timeline_db = Path(":memory:")
    with server:
        run = RemoteChat(Server(server.url(), server.token)).send("hi", conv_id="c")
        assert run.status == "started"
        server.kill()
        server.start()
        with pytest.raises(ServerUnavailable, match="does not know this run") as error:
            run.wait(30)
        assert error.value.code == "run_lost"


def row(id: str, version: int, **props: object) -> dict[str, object]:
    """A row as /timeline gives it."""
    return {"id": id, "version": version, "createdSeq": 1, "kind": "run", "props": props}


def test_an_answer_that_comes_late_changes_nothing(chat: RemoteChat) -> None:
    """Two looks at once, as `await run` and a cell that reads `run.status` make them."""
    run = Run(chat, "c", "r", "started")
    newer = Changes([row("r", 20, status="finished"), row("r:text:1", 19, content="all")], 20, "e")
    older = Changes([row("r", 10, status="started"), row("r:text:1", 9, content="a")], 10, "e")
    answers = [older, newer]

    class Late(RemoteChat):
        def changes(self, conv_id: str, since: int = 0) -> Changes:
            answer = answers.pop(0)
            if answer is older:
                assert run.status == "finished"  # the second look overtakes the first
            return answer

    run._chat = Late(chat._server)
    assert run.text == "all"
    assert run.status == "finished"


def test_an_interrupt_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = RemoteChat(Server("http://127.0.0.1:9/", "canary-token"))

    def interrupted(request: object, timeout: float) -> object:
        headers = {"Authorization": "token canary-token"}
        raise KeyboardInterrupt(headers)

    monkeypatch.setattr(chat, "_open", interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        chat.timeline("c")
    assert interrupt.value.__suppress_context__
    shown = [
        repr(value)
        for entry in interrupt.traceback
        for name, value in entry.frame.f_locals.items()
        if "webchat_widget" in str(entry.path) and name != "self"
    ]
    assert not [text for text in shown if "canary" in text]
