"""A new kind of row takes a class in a cell: in real kernels, whichever host the chat has, live and later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from webchat_widget.notebook.renderers import Renderers
from webchat_widget.timeline.projector import Projector

from .kernel import Kernel, said

SETUP = """
import json
from pathlib import Path
from webchat_widget import ChatWidget, Event, ScriptedEngine, emit, tool
from webchat_widget.events import CallRequest

class Weather(Event):
    city: str
    celsius: float

@tool(read_only=True)
def look(city: str) -> str:
    print("looking")
    for celsius in (19.5, 20.5, float("nan")):
        emit(Weather(city, celsius, id=city))
    emit(Weather(city, 21.5))
    return "warm"

async def forecast(turn):
    if turn.messages[-1].role == "tool":
        yield "It is warm."
        return
    yield "Let me look. "
    yield Weather("Paris", 12.5)
    yield CallRequest("1", "look", '{"city": "Rome"}')

def own():
    return [[row["id"], row["props"]] for row in chat.entities if row["kind"] == "weather"]
"""
ROME, AGAIN = {"city": "Rome", "celsius": None}, {"city": "Rome", "celsius": 21.5}
PARIS, OSLO = {"city": "Paris", "celsius": 12.5}, {"city": "Oslo", "celsius": -3}


def comm_of(kernel: Kernel) -> str:
    """The comm of the widget that was made last."""
    opened = [m["content"] for m in kernel.published if m["msg_type"] == "comm_open"]
    return str([c["comm_id"] for c in opened if "_channel" in c["data"]["state"]][-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for all tests here."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.run(SETUP)
    yield kernel
    kernel.end()


@pytest.fixture(scope="module", params=["python3", "python-ipykernel6"])
def served(request: pytest.FixtureRequest, server: Jupyter) -> Iterator[Kernel]:
    """A kernel of the server, of each version."""
    server.add_ipykernel6()
    kernel = Kernel.of_server(server, request.param)
    kernel.run(SETUP)
    yield kernel
    kernel.client.stop_channels()
    server.shut_kernels_down()


def test_live_rows_are_the_rows_of_later(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    try:
        kernel.run(SETUP)
        kernel.run("chat = ChatWidget('live', engine=forecast, tools=[look])")
        comm = comm_of(kernel)
        kernel.reply(kernel.tell(comm, "open", conv_id="live"))
        kernel.run("chat.emit(Weather('Oslo', 1, id='oslo')), chat.emit(Weather('Oslo', -3, id='oslo'))")
        kernel.run("run = chat.send('Is it warm?').wait(10)")
        run = kernel.value("run.run_id")
        rows = kernel.value("own()")
        assert rows == [
            ["event:weather:oslo", OSLO],
            [f"{run}:event:1", PARIS],
            [f"{run}:event:weather:Rome", ROME],
            [f"{run}:call:1:event:1", AGAIN],
        ]
        live = folded(kernel, "run.finished")
        assert live == kernel.reply(kernel.tell(comm, "timeline", conv_id="live"))["body"]

        kernel.restart()
        kernel.run("import json\nfrom webchat_widget import ChatWidget, ScriptedEngine")
        kernel.run("chat = ChatWidget('live', engine=ScriptedEngine())")
        again = kernel.value("[[r['id'], r['props']] for r in chat.entities if r['kind'] == 'weather']")
        assert again == rows, "also where nobody knows the class any more"
    finally:
        kernel.end()


class TestAChatInTheKernel:
    def test_code_that_a_model_wrote(self, alone: Kernel) -> None:
        alone.run(
            "from webchat_widget.builtin import run_code\n"
            "code = json.dumps({'code': 'emit(Weather(\"Rome\", 20.5))'})\n"
            "engine = ScriptedEngine([CallRequest('1', 'run_code', code)], 'Ok.')\n"
            "chat = ChatWidget(new=True, engine=engine, tools=[run_code])\n"
            "run = chat.send('go')\nchat.approve()\nrun.wait(10)"
        )
        assert [props for _, props in alone.value("own()")] == [{"city": "Rome", "celsius": 20.5}]

    def test_a_mistake_is_an_error_of_the_cell(self, alone: Kernel) -> None:
        alone.run("chat = ChatWidget(new=True, engine=ScriptedEngine())")
        alone.run("class Message(Event): pass")
        for wrong, why in (
            ("chat.emit(Message())", "Message can't have rows of kind 'message'"),
            ("chat.emit(Weather('Rome', object()))", "make numbers, texts, lists or dicts of the object"),
            ("emit(Weather('Rome', 1))", "Elsewhere use chat.emit(event)"),
        ):
            assert why in alone.outcome(alone.begin(wrong)).error
        assert alone.value("chat.entities") == []

    def test_renderers_are_told_when_they_are_asked_for(self, alone: Kernel, tmp_path: Path) -> None:
        alone.run("chat = ChatWidget(new=True, engine=ScriptedEngine())")
        comm = comm_of(alone)
        file = tmp_path / "wind.js"
        file.write_text("export function render() {}")
        before = changes(alone)
        alone.run(
            f"chat.renderers['weather'] = 'export default {{}}'\nchat.renderers['wind'] = Path({str(file)!r})"
        )
        assert changes(alone) == before + 2
        asked = alone.reply(alone.tell(comm, "renderers"))
        assert (asked["status"], asked["body"]) == (
            200,
            {"weather": "export default {}", "wind": "export function render() {}"},
        )
        file.write_text("export function render() { return 1; }")
        alone.run("del chat.renderers['weather']")
        assert changes(alone) == before + 3
        asked = alone.reply(alone.tell(comm, "renderers"))
        assert asked["body"] == {"wind": "export function render() { return 1; }"}

    def test_the_views_of_a_chat_draw_as_it_does(self, alone: Kernel, tmp_path: Path) -> None:
        file = tmp_path / "wind.js"
        file.write_text("/* one */")
        alone.run(
            "from webchat_widget.notebook.views import RunView, Sibling\n"
            "chat = ChatWidget(new=True, engine=ScriptedEngine())\n"
            f"chat.renderers['wind'] = Path({str(file)!r})\n"
            "views = [RunView(chat, 'r'), Sibling(chat, 'other')]"
        )
        file.write_text("/* two */")
        before = changes(alone)
        alone.run("chat.renderers['weather'] = '/* new */'")
        assert changes(alone) == before + 3
        both = {"wind": "/* two */", "weather": "/* new */"}
        assert alone.value("[dict(view.renderers) for view in views]") == [both, both]
        alone.run("views[0].close(); views[0].close()")
        alone.run("del chat.renderers['weather']")
        assert changes(alone) == before + 5

    def test_nothing_of_a_renderer_is_saved_with_the_notebook(self, alone: Kernel) -> None:
        alone.run("chat = ChatWidget(new=True, engine=ScriptedEngine())")
        alone.run("chat.renderers['weather'] = '/* canary */'")
        assert "canary" not in alone.run("print(chat.get_state())").stdout


def folded(kernel: Kernel, last: str) -> list[dict[str, Any]]:
    """The rows that a page makes of the frames that it was sent, up to one of type `last`."""

    def events() -> list[dict[str, Any]]:
        frames = [frame for message in kernel.published for frame in said(message).get("frames", ())]
        return [frame["event"] for frame in frames]

    kernel.until(lambda _: any(event["type"] == last for event in events()))
    page = Projector()
    for event in events():
        page.apply(event)  # type: ignore[arg-type]
    return [dict(entity) for entity in page.entities()]


def changes(kernel: Kernel) -> int:
    """How often pages were told that renderers have changed."""
    kernel.listen(0)
    return [said(message) for message in kernel.published].count({"renderers": True})


class TestAChatOnTheServer:
    def test_rows_of_a_tool_and_of_a_cell(self, served: Kernel, model: ModelServer, server: Jupyter) -> None:
        model.script(Reply(tool_calls=[{"name": "look", "arguments": {"city": "Rome"}}]), "Warm.")
        served.run("chat = ChatWidget(new=True, tools=[look])")
        assert served.value("chat.where") == "server"
        served.run("for celsius in (1, -3): chat.emit(Weather('Oslo', celsius, id='oslo'))")
        run = served.value("chat.send('Is it warm?').wait(20).run_id")
        assert served.value("own()") == [
            ["event:weather:oslo", OSLO],
            [f"{run}:event:weather:Rome", ROME],
            [f"{run}:call:1:event:1", AGAIN],
        ]
        rows = server.timeline(served.value("chat.conv_id"))
        assert [row["props"] for row in rows if row["kind"] == "weather"] == [OSLO, ROME, AGAIN]
        kinds = [row["kind"] for row in rows]
        assert kinds.index("tool_call") < kinds.index("weather", 1) < kinds.index("tool_result")

    def test_a_mistake_is_an_error_of_the_cell(self, served: Kernel) -> None:
        served.run("chat = ChatWidget(new=True)\nclass Message(Event): pass")
        wrong = served.outcome(served.begin("chat.emit(Message())")).error
        assert "Message can't have rows of kind 'message'" in wrong

    def test_the_widget_tells_its_renderers_all_the_same(self, served: Kernel) -> None:
        served.run("chat = ChatWidget(new=True)\nchat.renderers['weather'] = 'export default {}'")
        asked = served.reply(served.tell(comm_of(served), "renderers"))
        assert (asked["status"], asked["body"]) == (200, {"weather": "export default {}"})


class TestRenderers:
    @pytest.mark.parametrize("kind", ["message", "Weather", "", "my kind", 3])
    def test_kinds_that_are_not_one_s_own(self, kind: Any) -> None:
        with pytest.raises(ValueError, match="a kind of your own"):
            Renderers()[kind] = "export default {}"

    @pytest.mark.parametrize(
        ("source", "error", "why"),
        [
            ("", ValueError, "can't be empty"),
            (" \n", ValueError, "can't be empty"),
            ("é" * 128_001, ValueError, "at most 256,000 bytes"),
            (b"export", TypeError, "bytes is neither"),
            (None, TypeError, "NoneType is neither"),
            (Path("/nowhere.js"), FileNotFoundError, "nowhere"),
        ],
    )
    def test_sources_that_are_refused(self, source: Any, error: type[Exception], why: str) -> None:
        changed: list[int] = []
        renderers = Renderers()
        renderers.watch(lambda: changed.append(1))
        with pytest.raises(error, match=why):
            renderers["weather"] = source
        assert not renderers
        assert not changed

    def test_it_is_like_a_dict(self) -> None:
        changed: list[int] = []
        renderers = Renderers()
        renderers.watch(lambda: changed.append(1))
        renderers.update(weather="one", wind="two")
        renderers["weather"] = "three"
        assert (dict(renderers), len(changed)) == ({"weather": "three", "wind": "two"}, 3)
        assert renderers.pop("wind") == "two"
        assert ("wind" in renderers, len(renderers), len(changed)) == (False, 1, 4)
        assert repr(renderers) == "<renderers of weather>"
        with pytest.raises(KeyError):
            del renderers["wind"]

    def test_a_file_that_has_gone_is_what_it_was(self, tmp_path: Path) -> None:
        file = tmp_path / "weather.js"
        file.write_text("one")
        renderers = Renderers()
        renderers["weather"] = file
        file.write_text("two")
        assert renderers["weather"] == "two"
        file.write_text("")
        assert renderers["weather"] == "two", "somebody is writing it"
        file.unlink()
        assert dict(renderers) == {"weather": "two"}
        renderers["weather"] = "a text"
        file.write_text("three")
        assert renderers["weather"] == "a text"
