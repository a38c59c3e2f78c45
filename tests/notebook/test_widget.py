"""The widget's Python: its arguments, what it keeps with the notebook, and how it shows."""

from __future__ import annotations

import html
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from IPython.display import Markdown

from webchat_widget import ChatWidget
from webchat_widget.errors import BadRequest, NotAllowed, ServerUnavailable
from webchat_widget.notebook.transcript import transcript


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that no Jupyter server started."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def test_it_shows_without_a_server_and_says_so_when_used() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat = ChatWidget()
    bundle, _ = chat._repr_mimebundle_()
    assert bundle["text/plain"] == "ChatWidget()"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert chat.where == "server"
    assert "not started by a Jupyter server" in chat.where_reason
    for use in (lambda: chat.send("hi"), chat.stop, lambda: chat.entities, lambda: chat.text):
        with pytest.raises(ServerUnavailable, match="Open the notebook in JupyterLab"):
            use()


def test_its_repr_is_what_was_written() -> None:
    assert repr(ChatWidget("mine")) == "ChatWidget('mine')"
    assert repr(ChatWidget(new=True)) == "ChatWidget()"


def test_a_notebook_has_a_conversation_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/plots.ipynb")
    mine = ChatWidget().conv_id
    assert re.fullmatch(r"nb-[0-9a-f]{32}", mine)
    assert ChatWidget().conv_id == mine
    assert ChatWidget(new=True).conv_id != mine
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/other.ipynb")
    assert ChatWidget().conv_id != mine


def test_where_no_notebook_is_known_each_widget_is_a_conversation() -> None:
    assert ChatWidget().conv_id != ChatWidget().conv_id


def test_what_is_saved_with_the_notebook_is_no_text() -> None:
    with pytest.warns(UserWarning, match="did not reach the server"):
        chat = ChatWidget("c", system_prompt="canary-prompt", model="canary-model", height=480)
    state = chat.get_state()
    ours = {key: value for key, value in state.items() if not key.startswith("_")}
    assert set(ours) == {"conv_id", "profile", "height", "layout", "tabbable", "tooltip"}
    assert (state["conv_id"], state["profile"], state["height"]) == ("c", "default", "480px")
    assert "canary" not in str(ours)


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
    with pytest.raises(BadRequest):
        chat.conv_id = "a b"
    assert chat.conv_id == "fine"


def test_conv_id_and_new_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="new=True"):
        ChatWidget("c", new=True)


@pytest.mark.parametrize(
    "argument", [{"where": "kernel"}, {"store": "memory"}, {"engine": object()}, {"tools": [len]}]
)
def test_what_needs_a_kernel_as_host_says_so(argument: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed, match="runs in the kernel") as error:
        ChatWidget(**argument)
    assert error.value.code == "not_supported"


def test_where_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="where"):
        ChatWidget(where="cloud")
    ChatWidget(where="server")


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
