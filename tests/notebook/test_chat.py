"""A conversation from Python, where it is used by a tool that the same conversation runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.waiting import until
from webchat_widget import ChatWidget, ScriptedEngine, tool
from webchat_widget.events import CallRequest, EngineEvent, Finish
from webchat_widget.notebook.chat import Run


@pytest.fixture
def leave() -> Iterator[threading.Event]:
    """Tools may wait for it to be set, as it is when the test has ended."""
    leave = threading.Event()
    yield leave
    leave.set()


def calls(name: str) -> list[EngineEvent]:
    """What a model says that wants a tool without arguments."""
    return [CallRequest(call_id="1", name=name, arguments="{}"), Finish("tool_calls")]


def with_tool(fn: Callable[..., Any], *texts: str, conv_id: str = "c", **options: Any) -> ChatWidget:
    """A chat whose model calls a function, and then says the texts, one a request."""
    engine = ScriptedEngine(calls(fn.__name__), *texts)
    return ChatWidget(conv_id, engine=engine, tools=[tool(approval="never")(fn)], **options)


def told(chat: ChatWidget) -> str:
    """What the model was told by its first tool."""
    return next(str(row["props"]["result"]) for row in chat.entities if row["kind"] == "tool_result")


class TestAToolThatAsksItsOwnChat:
    def test_it_is_told_that_it_would_wait_for_itself(self) -> None:
        sent: list[Run] = []

        def ask() -> str:
            sent.append(chat.send("inner"))
            return sent[0].wait().text

        chat = with_tool(ask, "after the tool", "later")
        assert chat.send("outer").wait(10).text == "after the tool"
        assert told(chat).startswith("WebChatError: This would wait for itself")
        assert sent[0].wait(10).text == "later", "what was sent is answered all the same"

    def test_in_asyncio_too(self) -> None:
        async def ask() -> str:
            run = await asyncio.to_thread(chat.send, "inner")
            return (await run).text

        chat = with_tool(ask, "after the tool")
        assert chat.send("outer").wait(10).text == "after the tool"
        assert "wait for itself" in told(chat)

    def test_its_own_run_is_one_that_it_can_t_wait_for(self) -> None:
        runs: list[Run] = []
        sent = threading.Event()

        def wait() -> str:
            assert sent.wait(10)
            return runs[0].wait(5).text

        chat = with_tool(wait, "after the tool")
        runs.append(chat.send("hi"))
        sent.set()
        assert runs[0].wait(10).text == "after the tool"
        assert "wait for itself" in told(chat)

    def test_a_run_that_others_have_looked_at_already(self) -> None:
        """Their look took in that the tool's run began; the tool's own brings nothing new."""
        sent = threading.Event()
        runs: list[Run] = []

        def wait() -> str:
            assert sent.wait(10)
            return runs[1].wait(5).text

        chat = with_tool(wait, "after the tool")
        runs += [chat.send("first"), chat.send("second")]
        assert runs[1].status == "queued"
        sent.set()
        assert runs[0].wait(10).text == "after the tool"
        assert "wait for itself" in told(chat)

    def test_what_has_ended_needs_no_waiting(self) -> None:
        @tool(read_only=True)
        def before() -> str:
            return first.wait().text

        chat = ChatWidget("c", engine=ScriptedEngine("first", calls("before"), "second"), tools=[before])
        first = chat.send("hi")
        first.wait(10)
        assert chat.send("again").wait(10).text == "second"
        assert told(chat) == "first"


class TestAToolThatAsksAnother:
    def test_chat(self) -> None:
        other = ChatWidget("other", engine=ScriptedEngine("from the other"))

        def ask() -> str:
            return other.send("inner").wait(10).text

        chat = with_tool(ask, "after the tool")
        assert chat.send("outer").wait(10).text == "after the tool"
        assert told(chat) == "from the other"

    def test_chat_that_has_the_same_name_in_memory(self) -> None:
        other = ChatWidget("c", engine=ScriptedEngine("from the other"), store="memory")

        def ask() -> str:
            return other.send("inner").wait(10).text

        chat = with_tool(ask, "after the tool")
        assert chat.send("outer").wait(10).text == "after the tool"
        assert told(chat) == "from the other"


def test_a_tool_that_was_stopped_may_wait(leave: threading.Event) -> None:
    """Nothing waits for it any more."""
    begun = threading.Event()
    heard: list[str] = []

    def ask() -> None:
        begun.set()
        leave.wait()
        heard.append(chat.send("inner").wait(10).text)

    chat = with_tool(ask, "an answer")
    run = chat.send("outer")
    assert begun.wait(10)
    chat.stop()
    assert run.wait(10).status == "stopped"
    leave.set()
    assert until(lambda: heard, "the tool has its answer", 10) == ["an answer"]


def test_tools_that_were_stopped_keep_no_other_from_running(leave: threading.Event) -> None:
    begun = threading.Semaphore(0)

    @tool(read_only=True)
    def slow() -> None:
        begun.release()
        leave.wait()

    def quick() -> str:
        return "42"

    engine = ScriptedEngine(*[calls("slow")] * 40)
    chat = ChatWidget("c", engine=engine, tools=[slow])
    for _ in range(40):
        chat.send("go")
        assert begun.acquire(timeout=10), "the tool did not begin"
        chat.stop()
    other = with_tool(quick, "done", conv_id="other")
    assert other.send("go").wait(10).text == "done"


def test_a_process_ends_while_a_tool_runs() -> None:
    code = """
import threading
from webchat_widget import ChatWidget, ScriptedEngine, tool
from webchat_widget.events import CallRequest, Finish

begun = threading.Event()

@tool(read_only=True)
def nap() -> None:
    begun.set()
    threading.Event().wait(20)

call = CallRequest(call_id="1", name="nap", arguments="{}")
chat = ChatWidget("c", engine=ScriptedEngine([call, Finish("tool_calls")]), tools=[nap])
chat.send("go")
assert begun.wait(10)
"""
    since = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, timeout=40
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert time.monotonic() - since < 8
    row = next(row for row in ChatWidget("c", where="kernel").entities if row["kind"] == "run")
    assert row["props"]["stopReason"] == "interrupted"
