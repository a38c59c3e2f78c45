"""The widget's Python: its arguments, what it keeps with the notebook, and how it shows."""

from __future__ import annotations

import asyncio
import html
import re
import threading
import warnings
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm
from IPython.display import Markdown
from msgspec import structs
from traitlets import TraitError

from tests.support.jupyter import Jupyter
from tests.support.waiting import until
from webchat_widget import ChatWidget
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import BadRequest
from webchat_widget.notebook.host import kernel_host
from webchat_widget.notebook.place import Place
from webchat_widget.notebook.remote import RemoteChat, Server
from webchat_widget.timeline.transcript import transcript


def test_without_a_server_the_chat_runs_in_the_kernel() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat = ChatWidget()
    bundle, _ = chat._repr_mimebundle_()
    assert bundle["text/plain"] == "ChatWidget()"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert (chat.where, chat._where) == ("kernel", "kernel")
    assert "not started by a Jupyter server" in chat.where_reason
    assert (chat.entities, chat.text) == ([], "")


def test_its_repr_is_what_was_written() -> None:
    assert repr(ChatWidget("mine")) == "ChatWidget('mine')"
    assert repr(ChatWidget(new=True)) == "ChatWidget()"


def test_what_is_saved_with_the_notebook_is_no_text() -> None:
    engine = ScriptedEngine("canary-answer")
    chat = ChatWidget("c", system_prompt="canary-prompt", model="canary-model", height=480, engine=engine)
    chat.send("canary-question").wait(10)
    state = chat.get_state()
    ours = {key: value for key, value in state.items() if not key.startswith(("_anywidget", "_esm", "_css"))}
    foreign = {"layout", "tabbable", "tooltip", "_dom_classes", "_view_count"}
    foreign |= {
        f"_{side}_{what}" for side in ("model", "view") for what in ("module", "module_version", "name")
    }
    assert set(ours) - foreign == {"conv_id", "profile", "height", "_where", "_channel", "_run"}
    assert (state["conv_id"], state["profile"], state["height"]) == ("c", "default", "480px")
    assert state["_where"] == "kernel"
    assert "canary" not in str(ours)


def test_each_widget_has_a_channel_of_its_own() -> None:
    one, other = ChatWidget("c"), ChatWidget("c")
    assert re.fullmatch(r"[0-9a-f]{32}", one._channel)
    assert one._channel != other._channel


def test_the_front_end_is_small_enough_to_travel() -> None:
    assert len(ChatWidget._esm) < 250_000


@pytest.mark.parametrize(
    ("height", "css"), [(None, ""), (300, "300px"), ("60vh", "60vh"), ("2.5em", "2.5em")]
)
def test_height(height: Any, css: str) -> None:
    assert ChatWidget(height=height).height == css


@pytest.mark.parametrize("height", ["tall", "1px;color:red", "-3px", "calc(1px)"])
def test_a_height_that_is_none(height: str) -> None:
    with pytest.raises(ValueError, match="height"):
        ChatWidget(height=height)


def test_a_bad_conv_id() -> None:
    with pytest.raises(BadRequest):
        ChatWidget("../x")
    chat = ChatWidget("fine")
    with pytest.raises(TraitError, match="conv_id must be"):
        chat.conv_id = "a b"
    assert chat.conv_id == "fine"


def test_conv_id_and_new_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="new=True"):
        ChatWidget("c", new=True)


class Sent(list[dict[str, Any]]):
    """What widgets have published; nothing gets out while it `fails`."""

    fails = False


class TestTheComm:
    """What travels between a widget and its pages; the messages themselves are in test_comm.py."""

    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> Sent:
        """What widgets publish."""
        published = Sent()

        class Recorder(BaseComm):
            def publish_msg(self, msg_type: str, data: Any = None, *rest: Any, **more: Any) -> None:
                if published.fails:
                    raise OSError("no such socket")
                if msg_type == "comm_msg":
                    published.append(data)

        monkeypatch.setattr(comm, "create_comm", Recorder)
        return published

    def come_in(self, chat: ChatWidget, content: Any) -> None:
        """A custom message of a page."""
        data = {"method": "custom", "content": content}
        chat._handle_msg({"content": {"comm_id": chat.comm.comm_id, "data": data}, "buffers": []})

    def test_a_question_and_its_answer(self, sent: Sent) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("Hello."))
        self.come_in(chat, {"op": "health", "rid": "r", "body": {}})
        until(lambda: sent, "an answer")
        assert (sent[0]["method"], sent[0]["content"]["rid"]) == ("custom", "r")
        assert sent[0]["content"]["body"]["engine"] == "scripted"

    def test_a_comm_that_is_gone_takes_nothing_down(
        self, sent: Sent, caplog: pytest.LogCaptureFixture
    ) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("one", "two"))
        sent.fails = True
        self.come_in(chat, {"op": "open", "rid": "r", "body": {"conv_id": "c"}})
        assert chat.send("hi").wait(10).text == "one"
        until(lambda: "no such socket" in caplog.text, "a word in the log")
        sent.fails = False
        self.come_in(chat, {"op": "health", "rid": "again", "body": {}})
        until(lambda: sent, "an answer")

    def test_a_closed_widget_neither_hears_nor_speaks(self, sent: Sent) -> None:
        go = threading.Event()
        chat = ChatWidget("c", engine=ScriptedEngine(["one ", go, "two"], "three"))
        self.come_in(chat, {"op": "open", "rid": "r", "body": {"conv_id": "c"}})
        run = chat.send("hi")
        until(lambda: any("frames" in message["content"] for message in sent), "frames")
        chat.close()
        kernel_host().call(asyncio.sleep(0))
        before = len(sent)
        go.set()
        assert run.wait(10).text == "one two"
        assert chat.send("from Python, still").wait(10).text == "three"
        assert len(sent) == before

    def test_pages_are_told_of_a_move_by_a_trait(self, sent: Sent, server: Jupyter) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine())
        self.come_in(chat, {"op": "open", "rid": "r", "body": {"conv_id": "c"}})
        until(lambda: sent, "an answer")
        place = Place("server", "for a test", RemoteChat(Server(server.url(), server.token)))
        here = chat._home.wishes
        chat._home.settle(structs.replace(here, place=place))
        moved = [message["state"] for message in sent if message["method"] == "update"]
        assert moved == [{"_where": "server"}]
        late = {"prompt": "hi", "conv_id": "c", "idempotency_key": "k"}
        self.come_in(chat, {"op": "chat", "rid": "late", "body": late})
        answer = until(lambda: self.answer(sent, "late"), "an answer")
        assert (answer["status"], answer["body"]["code"]) == (404, "moved"), "so the page asks elsewhere"
        chat._home.settle(here)
        self.come_in(chat, {"op": "health", "rid": "back", "body": {}})
        assert until(lambda: self.answer(sent, "back"), "an answer")["status"] == 200
        assert chat.entities == []

    def answer(self, sent: Sent, rid: str) -> Any:
        """The answer to one op, None as long as there is none."""
        found = [message["content"] for message in sent if message.get("content", {}).get("rid") == rid]
        return found[0] if found else None

    @pytest.mark.parametrize("value", ["../x", "", "c\x00", "x" * 200])
    def test_a_page_can_not_set_what_no_conversation_can_be(self, value: str) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("Hello."))
        data = {"method": "update", "state": {"conv_id": value}, "buffer_paths": []}
        chat._handle_msg({"content": {"comm_id": chat.comm.comm_id, "data": data}, "buffers": []})
        assert chat.conv_id == "c"
        assert chat.send("hi").wait(10).text == "Hello."

    def test_a_page_that_says_where_is_not_believed(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine("Hello."))
        data = {"method": "update", "state": {"_where": "server"}, "buffer_paths": []}
        chat._handle_msg({"content": {"comm_id": chat.comm.comm_id, "data": data}, "buffers": []})
        assert chat.where == "kernel"
        assert chat.send("hi").wait(10).text == "Hello."


def row(kind: str, **props: Any) -> Any:
    """An entity; a transcript looks at its kind and props only."""
    return {"id": "x", "kind": kind, "props": props}


def test_a_transcript_is_readable_markdown() -> None:
    text = transcript(
        [
            row("run", status="finished"),
            row("message", role="user", content="what is 6*7?"),
            row("message", role="thinking", content="hm"),
            row("tool_call", name="calculate", input={"expression": "6*7"}),
            row("tool_result", result="```42```"),
            row("message", role="assistant", content="It is **42**.", status="complete"),
            row("message", role="assistant", content="And", status="interrupted"),
            row("error", message="Cut."),
        ]
    )
    assert text == (
        "**You**\n\nwhat is 6\\*7?\n\n"
        '**Tool** calculate\n\n```\n{"expression": "6*7"}\n```\n\n'
        "````\n```42```\n````\n\n"
        "**Assistant**\n\nIt is **42**.\n\n"
        "**Assistant**\n\nAnd\n\n*(interrupted)*\n\n"
        "**Error** Cut\\."
    )


def test_a_transcript_is_an_object_that_notebooks_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatWidget, "entities", [row("message", role="user", content="hi")])
    shown = ChatWidget().transcript()
    assert isinstance(shown, Markdown)
    assert shown.data == "**You**\n\nhi"


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize(
    "text",
    [
        "![x](http://evil/leak.png)",
        "![x][r]\n\n[r]: http://evil/leak.png",
        "<img src=http://evil/a.png>",
        "\\`<img src=http://evil/a.png>`",
        "- ```\n  ```\n<img src=http://evil/a.png>\n```",
        "<!-- x --><svg onload=alert(1)>",
        "    ```\n<iframe src=http://evil>",
    ],
)
def test_a_transcript_loads_and_runs_nothing(role: str, text: str) -> None:
    """As the Markdown renderer of nbconvert sees it, which cleans nothing."""
    from nbconvert.filters import markdown2html

    shown = markdown2html(transcript([row("message", role=role, content=text)]))
    assert not re.search(r"<(img|svg|iframe|script)", shown), shown


def test_a_transcript_shows_what_was_typed() -> None:
    from nbconvert.filters import markdown2html

    typed = "2*3*4 and <b>_x_</b> & `code` [a](b) $5 # 1. -"
    shown = markdown2html(transcript([row("message", role="user", content=typed)]))
    assert html.unescape(re.sub("<[^>]+>", "", shown)).strip().endswith(typed)


def test_a_tool_whose_name_is_an_attack_is_a_name() -> None:
    from nbconvert.filters import markdown2html

    name = "x\n\n<img src=http://evil/a.png>\n\n![y](http://evil/b.png)"
    shown = markdown2html(transcript([row("tool_call", name=name, input={}), row("error", message=name)]))
    assert "<img" not in shown
