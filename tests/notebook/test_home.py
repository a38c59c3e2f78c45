"""One conversation and its moves: what comes along, who is told, and what a second holder hears."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.support.ids import without_address
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until
from webchat_widget import ChatWidget, tool
from webchat_widget.engines import environment
from webchat_widget.engines.demo import DemoEngine
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import ConversationHeld, NotAllowed, NotFound, ServerUnavailable, WebChatError
from webchat_widget.events import CallRequest, EngineEvent, Finish
from webchat_widget.notebook import home
from webchat_widget.notebook.local import LocalChat
from webchat_widget.turns import Turn

from .conftest import BelongTo


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"c-{uuid.uuid4()}"


def told(chat: ChatWidget) -> list[tuple[str, str]]:
    """Role and text of the messages."""
    rows = [row["props"] for row in chat.entities if row["kind"] == "message"]
    return [(props["role"], props["content"]) for props in rows]


def system_prompt(model: ModelServer) -> str | None:
    """What the model was told first in the last request."""
    first = model.completions[-1].body["messages"][0]
    return str(first["content"]) if first["role"] == "system" else None


@pytest.mark.usefixtures("_of_the_server")
class TestMoves:
    @pytest.fixture
    def _of_the_server(self, server: Jupyter, belong_to: BelongTo, model: ModelServer) -> None:
        belong_to(server)

    def test_rows_come_along_both_ways(self, conv: str, model: ModelServer, server: Jupyter) -> None:
        chat = ChatWidget(conv)
        assert (chat.where, chat._where) == ("server", "server")
        chat.send("one").wait(10)
        here = ChatWidget(conv, engine=ScriptedEngine("from the kernel"))
        assert (here.where, here._where) == ("kernel", "kernel")
        assert told(here) == [("user", "one"), ("assistant", "You said: one")]
        here.send("two").wait(10)
        there = ChatWidget(conv)
        assert (there.where, there._where) == ("server", "server")
        there.send("three").wait(10)
        assert told(there) == [
            ("user", "one"),
            ("assistant", "You said: one"),
            ("user", "two"),
            ("assistant", "from the kernel"),
            ("user", "three"),
            ("assistant", "You said: three"),
        ]
        remembered = [message["content"] for message in model.completions[-1].body["messages"]]
        assert remembered == ["one", "You said: one", "two", "from the kernel", "three"]
        assert len(server.timeline(conv)) == len(there.entities)

    def test_all_widgets_of_a_conversation_follow(self, conv: str) -> None:
        chat, other = ChatWidget(conv), ChatWidget(new=True)
        ChatWidget(conv, where="kernel")
        assert (chat.where, chat._where) == ("kernel", "kernel")
        assert chat.where_reason == "where='kernel' was asked for."
        assert (other.where, other._where) == ("server", "server")
        ChatWidget(conv, where="server")
        assert (chat.where, chat._where) == ("server", "server")
        assert chat.send("still here").wait(10).status == "finished"

    def test_one_that_was_closed_follows_no_more(self, conv: str) -> None:
        chat = ChatWidget(conv)
        chat.close()
        ChatWidget(conv, where="kernel")
        assert chat._where == "server"

    def test_what_runs_on_the_server_ends_as_interrupted(self, conv: str, model: ModelServer) -> None:
        gate = Gate()
        model.script(Reply(chunks=["half ", "an answer"], hold=gate))
        run = ChatWidget(conv).send("hi")
        gate.step()
        gate.wait_held()
        until(lambda: run.text == "half ", "the text streams")
        here = ChatWidget(conv, where="kernel")
        run.wait(10)
        assert (run.status, run.text) == ("failed", "half ")
        assert told(here) == [("user", "hi"), ("assistant", "half ")]

    def test_what_runs_in_the_kernel_ends_as_interrupted(self, conv: str) -> None:
        run = ChatWidget(conv, engine=ScriptedEngine(["half ", threading.Event()])).send("hi")
        until(lambda: run.text == "half ", "the text streams")
        there = ChatWidget(conv, where="server")
        run.wait(10)
        assert (run.status, run.text) == ("failed", "half ")
        assert told(there) == [("user", "hi"), ("assistant", "half ")]

    def test_what_waits_is_answered_at_the_new_place(self, conv: str, model: ModelServer) -> None:
        model.script(Reply(chunks=["half ", "an answer"], hold=Gate()))
        chat = ChatWidget(conv)
        chat.send("first")
        waiting = chat.send("second")
        ChatWidget(conv, engine=ScriptedEngine("by the kernel"))
        assert waiting.wait(10).text == "by the kernel"

    @pytest.mark.parametrize("first", ["kernel", "server"])
    async def test_a_run_that_is_awaited_meanwhile_ends(
        self, conv: str, first: str, model: ModelServer
    ) -> None:
        """Whoever waits goes on asking while the conversation is between its places."""
        engine = ScriptedEngine(*(["half ", threading.Event()] for _ in range(2)))
        for _ in range(2):
            model.script(Reply(chunks=["half ", "an answer"], hold=Gate()))
            chat = await asyncio.to_thread(ChatWidget, conv, where=first)
            if first == "kernel":
                chat = await asyncio.to_thread(ChatWidget, conv, engine=engine)
            run = chat.send("hi")
            waits = [asyncio.create_task(run._wait()) for _ in range(8)]
            await asyncio.to_thread(ChatWidget, conv, where="server" if first == "kernel" else "kernel")
            for ended in await asyncio.gather(*waits):
                assert ended.status == "failed"
        assert [role for role, _ in told(chat)].count("user") == 2

    def test_a_question_that_comes_too_late_does_not_take_the_conversation_back(self, conv: str) -> None:
        late = ChatWidget(conv, where="kernel")._home._now
        assert isinstance(late, LocalChat)
        there = ChatWidget(conv, where="server")
        with pytest.raises(WebChatError) as error:
            late.changes(conv)
        assert (error.value.status, error.value.code) == (503, "moved")
        assert there.send("hi").wait(10).status == "finished"

    def test_a_widget_that_turns_to_another_conversation(self, conv: str) -> None:
        here = ChatWidget(conv, engine=ScriptedEngine("one", "two"))
        here.send("hi").wait(10)
        here.conv_id = f"{conv}-other"
        assert (here.where, here._where, here.entities) == ("kernel", "kernel", [])
        assert here.send("hi").wait(10).text == "two"
        ChatWidget(conv, where="server")
        assert here._where == "kernel", "it has left that one"
        ChatWidget(f"{conv}-other", where="server")
        assert here._where == "server"

    def test_settings_reach_the_model_at_both_places(self, conv: str, model: ModelServer) -> None:
        chat = ChatWidget(conv, system_prompt="Be brief.", model="test-model")
        chat.send("one").wait(10)
        assert system_prompt(model) == "Be brief."
        chat = ChatWidget(conv, where="kernel", system_prompt="Be long.")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_BASE_URL", model.url)
            chat.send("two").wait(10)
            assert system_prompt(model) == "Be long."
            chat = ChatWidget(conv, where="kernel")
            chat.send("three").wait(10)
            assert system_prompt(model) is None, "a widget without any takes them back"
            chat = ChatWidget(conv, where="kernel", system_prompt="Be it.", model="test-other")
            chat.send("four").wait(10)
            assert (system_prompt(model), model.completions[-1].body["model"]) == ("Be it.", "test-other")
        ChatWidget(conv, where="server").send("five").wait(10)
        assert system_prompt(model) is None

    def test_settings_that_the_server_refuses_change_nothing_for_others(self, conv: str) -> None:
        chat = ChatWidget(conv, engine=ScriptedEngine("here"))
        with pytest.raises(WebChatError, match="not one of those") as error:
            ChatWidget(conv, where="server", model="forbidden")
        assert error.value.status == 422
        assert chat._where == chat.where
        assert chat.send("hi").wait(10).status == "finished"

    def test_turning_to_a_conversation_that_refuses_the_settings(
        self, conv: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat = ChatWidget(conv)
        wishes = structs.replace(chat._home.wishes, settings={"model": "forbidden"})
        monkeypatch.setattr(chat._home, "_wishes", wishes)
        with pytest.raises(WebChatError, match="not one of those"):
            chat.conv_id = f"{conv}-other"
        assert (chat.conv_id, chat.entities) == (f"{conv}-other", [])
        ChatWidget(f"{conv}-other", where="kernel")
        assert chat._where == "kernel"

    def test_a_move_does_not_depend_on_the_engine_that_is_left(self, conv: str) -> None:
        class Unwilling(ScriptedEngine):
            def aclose(self) -> None:  # type: ignore[override]
                raise RuntimeError("not now")

        here = ChatWidget(conv, engine=Unwilling("Hello."))
        here.send("hi").wait(10)
        there = ChatWidget(conv, where="server")
        assert there.send("hi").wait(10).status == "finished"

    def test_an_engine_that_moves_its_own_chat_changes_nothing(self, conv: str) -> None:
        said: list[str] = []

        class Moving(ScriptedEngine):
            def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
                try:
                    ChatWidget(conv, where="server")
                except WebChatError as error:
                    said.append(error.code)
                return super().stream(turn)

        here = ChatWidget(conv, engine=Moving("Hello."))
        assert here.send("hi").wait(10).text == "Hello."
        assert (said, here.where, here._where) == (["would_deadlock"], "kernel", "kernel")

    def test_an_engine_that_counts_as_nothing_is_one(self, conv: str) -> None:
        class Empty(ScriptedEngine):
            def __len__(self) -> int:
                return 0

        chat = ChatWidget(conv, engine=Empty("Hello."))
        assert chat.where == "kernel"
        assert chat.send("hi").wait(10).text == "Hello."


class TestInTheKernel:
    def test_the_last_widget_s_engine_and_tools_answer(self) -> None:
        @tool(read_only=True)
        def double(number: int) -> int:
            return 2 * number

        call = CallRequest("1", "double", '{"number": 21}')
        first = ScriptedEngine("first")
        chat = ChatWidget("c", engine=first)
        assert chat.send("hi").wait(10).text == "first"
        second = ScriptedEngine([call, Finish("tool_calls")], "done")
        ChatWidget("c", engine=second, tools=[double])
        assert chat.send("double 21").wait(10).text == "done"
        assert [tool.name for tool in second.turns[0].tools] == ["double"]
        assert [row["props"]["result"] for row in chat.entities if row["kind"] == "tool_result"] == ["42"]
        third = ScriptedEngine("third")
        ChatWidget("c", engine=third)
        assert chat.send("hi").wait(10).text == "third"
        assert third.turns[0].tools == ()

    def test_a_run_that_has_begun_keeps_its_engine(self) -> None:
        go = threading.Event()
        chat = ChatWidget("c", engine=ScriptedEngine(["one ", go, "two"]))
        run = chat.send("hi")
        until(lambda: run.text == "one ", "the text streams")
        ChatWidget("c", engine=ScriptedEngine("another"))
        go.set()
        assert run.wait(10).text == "one two"
        assert chat.send("hi").wait(10).text == "another"

    @pytest.fixture
    def _quick_demo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Quick(DemoEngine):
            def __init__(self) -> None:
                super().__init__(0)

        monkeypatch.setattr(environment, "DemoEngine", Quick)

    @pytest.mark.usefixtures("_quick_demo")
    def test_the_demo_answers_where_the_environment_names_no_model(self) -> None:
        chat = ChatWidget()
        assert "1554" in chat.send("37 * 42").wait(30).text

    @pytest.mark.usefixtures("_quick_demo")
    def test_the_notebook_s_own_calculate_is_not_the_demo_s(self) -> None:
        @tool(read_only=True)
        def calculate(expression: str) -> str:
            return f"{expression} is what I am asked"

        chat = ChatWidget(tools=[calculate])
        chat.send("37 * 42").wait(30)
        results = [row["props"]["result"] for row in chat.entities if row["kind"] == "tool_result"]
        assert results == ["37 * 42 is what I am asked"]

    def test_the_environment_is_read_when_a_prompt_is_sent(
        self, model: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat = ChatWidget(store="memory")
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        assert chat.send("hi").wait(20).text == "You said: hi"
        assert "tools" not in model.completions[-1].body, "the demo's tool is none of the model's"
        assert "pre_inference" in {record["phase"] for record in chat.turns()}
        assert not any(record.get("tools") for record in chat.turns()), "nor of what it was sent"

    def test_in_memory_nothing_is_on_disk(self, folder: Path) -> None:
        chat = ChatWidget("c", store="memory", engine=ScriptedEngine("Hello."))
        chat.send("hi").wait(10)
        assert chat.text == "Hello."
        assert ChatWidget("c", store="memory").text == "Hello.", "it lives as long as the kernel"
        assert not list(folder.rglob("*")) if folder.exists() else True
        assert ChatWidget("c", where="kernel").entities == [], "what is on disk is another conversation"

    def test_conversations_are_apart(self) -> None:
        engine = ScriptedEngine("one", "two")
        first, second = ChatWidget("C", engine=engine), ChatWidget("c", engine=engine)
        first.send("to the first").wait(10)
        second.send("to the second").wait(10)
        assert (first.text, second.text) == ("one", "two")
        assert len(engine.turns[1].messages) == 1

    def test_text_that_is_no_text_is_refused(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("never"))
        for prompt in ("", "  ", "\ud800", "a\x00b", "x" * (256 * 1024 + 1)):
            with pytest.raises(WebChatError) as error:
                chat.send(prompt)
            assert error.value.status in (400, 413)
        with pytest.raises(NotFound):
            chat.send("hi", profile="nobody")
        assert ChatWidget("c").entities == []

    def test_stop(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine(["one ", threading.Event()], "two"))
        run, waiting = chat.send("hi"), chat.send("and")
        until(lambda: run.text == "one ", "the text streams")
        waiting.stop()
        assert waiting.wait(10).status == "stopped"
        chat.stop()
        assert (run.status, run.text) == ("stopped", "one ")
        chat.stop()


HOLD = """
from webchat_widget import ChatWidget
chat = ChatWidget("c", where="kernel")
chat.entities
print("held", flush=True)
input()
"""


class TestAnotherHolder:
    @pytest.fixture
    def holder(self) -> Iterator[subprocess.Popen[str]]:
        """Another kernel that has the conversation open."""
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=pipe, stdout=pipe, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()
        process.communicate()

    def test_a_widget_is_made_and_each_call_says_what_is_the_matter(
        self, holder: subprocess.Popen[str]
    ) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("at last"), system_prompt="Be brief.")
        assert (chat.where, chat._where) == ("kernel", "kernel")
        for use in (lambda: chat.send("hi"), lambda: chat.entities):
            with pytest.raises(ConversationHeld, match=r"Another kernel .* ChatWidget\(new=True\)"):
                use()
        holder.kill()
        holder.wait()
        assert chat.send("hi").wait(10).text == "at last"
        engine = chat._home.wishes.equipment.engine
        assert isinstance(engine, ScriptedEngine)
        assert engine.turns[0].messages[0].content == "Be brief.", "what it was made with holds"

    def test_the_server_says_so_too(
        self, holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(home, "PROMISE_SECONDS", 0.1)
        with Jupyter(tmp_path, command="webchat") as server:
            monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.folder / "runtime"))
            monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
            with pytest.warns(UserWarning, match="did not reach the server: This conversation runs in"):
                chat = ChatWidget("c", system_prompt="Be brief.")
            assert chat.where == "server"
            assert "This conversation runs in" in chat.where_reason, "why it does not answer there"
            with pytest.raises(WebChatError) as error:
                chat.send("hi")
            assert (error.value.status, error.value.code) == (409, "conversation_held")
            holder.kill()
            holder.wait()
            assert chat.send("hi").wait(30).status == "finished"
            assert chat.where_reason.endswith("its demo engine answers.")


class Lacking:
    """Nearly an engine."""

    name = "lacking"
    model = None

    async def aclose(self) -> None:
        """Nothing."""


def untyped(x) -> None:  # type: ignore[no-untyped-def]
    """A parameter without a type is any JSON."""


def strange(x: threading.Lock) -> None:
    """No model can send one."""


def by_position(x: int, /) -> int:
    """Models name what they give."""
    return x


class TestArguments:
    @pytest.mark.parametrize(
        ("engine", "sentence"),
        [
            (object(), "object lacks name, model, stream, aclose"),
            (Lacking(), "Lacking lacks stream"),
            ("openai", "str lacks name, model, stream, aclose"),
            (0, "int lacks"),
            (ScriptedEngine, "ScriptedEngine is a class"),
        ],
        ids=without_address,
    )
    def test_what_is_no_engine(self, engine: Any, sentence: str) -> None:
        with pytest.raises(TypeError, match=sentence) as error:
            ChatWidget("c", engine=engine)
        assert "engine=" in str(error.value)

    @pytest.mark.parametrize(
        ("tools", "sentence"),
        [
            ([lambda x: x], "<lambda>"),
            ([functools.partial(untyped, 1)], "partial"),
            (["calculate"], "str"),
            ("calculate", "str"),
            ([None], "NoneType"),
            ([int], "int"),
            ([Lacking], "Lacking"),
            ([strange], "strange can't be described"),
            ([by_position], "by_position can't be described"),
            ([untyped, untyped], "two .* untyped"),
            (untyped, "list of functions"),
            (7, "list of functions"),
        ],
        ids=without_address,
    )
    def test_what_is_no_tool(self, tools: Any, sentence: str) -> None:
        with pytest.raises(TypeError, match=sentence) as error:
            ChatWidget("c", tools=tools)
        assert "tool" in str(error.value)
        assert str(error.value).endswith((".", ")"))

    def test_what_can_be_a_tool(self) -> None:
        class Box:
            def open(self, how: str = "gently", *, twice: bool = False) -> str:
                return f"opened {how}"

        async def later(seconds: float) -> None:
            """Wait."""

        engine = ScriptedEngine("Hello.")
        chat = ChatWidget("c", tools=iter([Box().open, later, untyped]), engine=engine)
        chat.send("hi").wait(10)
        assert [tool.name for tool in engine.turns[0].tools] == ["open", "later", "untyped"]
        assert all(tool.parameters["type"] == "object" for tool in engine.turns[0].tools)

    def test_what_only_a_kernel_can_do_and_where_server(self) -> None:
        for argument in ({"engine": ScriptedEngine()}, {"store": "memory"}):
            with pytest.raises(NotAllowed, match="works in the kernel only"):
                ChatWidget("c", where="server", **argument)

    @pytest.mark.parametrize("argument", [{"tools": [untyped]}, {"profiles": [{"slug": "a"}]}])
    def test_what_a_server_takes_from_its_own_kernels(self, argument: Any) -> None:
        with pytest.raises(NotAllowed, match="from its own kernels only"):
            ChatWidget("c", where="server", **argument)
        assert ChatWidget("c", **argument).where_reason.startswith("The chat runs in this kernel. This ker")

    def test_a_server_that_is_not_there(self) -> None:
        with pytest.raises(ServerUnavailable):
            ChatWidget("c", where="server")
        assert ChatWidget("c").where == "kernel"

    @pytest.mark.parametrize("store", ["disk", "", 7, False])
    def test_a_store_that_is_none(self, store: Any) -> None:
        with pytest.raises(ValueError, match="'memory'"):
            ChatWidget("c", store=store)
