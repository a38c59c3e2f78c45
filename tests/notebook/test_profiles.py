"""Profiles, middlewares and overrides from Python, in a kernel that hosts its chat and over the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace
from traitlets import TraitError

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until
from webchat_widget import ChatWidget, Middleware, Profile, ScriptedEngine, tool
from webchat_widget.errors import BadRequest, NotAllowed, NotFound, WebChatError
from webchat_widget.events import CallRequest
from webchat_widget.middlewares.base import RunView
from webchat_widget.middlewares.system_prompt import SystemPrompt
from webchat_widget.turns import Turn

from .conftest import BelongTo, forget_the_kernel
from .kernel import Kernel
from .line import Line


class Loud(Middleware, frozen=True):
    """Shouts."""

    name: ClassVar[str] = "loud"
    mark: str = "!"

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        *before, last = turn.messages
        return replace(turn, messages=(*before, replace(last, content=last.content.upper() + self.mark)))


class Nameless(Middleware, frozen=True):
    """Nobody can ask for it."""


@tool(read_only=True)
def look() -> str:
    """Look."""
    return "seen"


@tool(read_only=True)
def touch() -> str:
    """Touch."""
    return "felt"


SQL = Profile(slug="sql", display_name="SQL", system_prompt="Answer in SQL.", model="m-sql", tools=["look"])
POEM = Profile(slug="poem", system_prompt="Answer in verse.", middlewares=[Loud()])


def seen(turn: Turn) -> tuple[str, str | None, set[str], str]:
    """What the model was told first, which one it is, its tools, and the prompt."""
    system = "".join(message.content for message in turn.messages if message.role == "system")
    return system, turn.model, {tool.name for tool in turn.tools}, turn.messages[-1].content


def chat_of(*scripts: Any, **options: Any) -> tuple[ChatWidget, ScriptedEngine]:
    """A chat of this kernel with those two profiles."""
    engine = ScriptedEngine(*scripts)
    options = {"profiles": [SQL, POEM], "tools": [look, touch], **options}
    return ChatWidget("c", engine=engine, **options), engine


class TestThePicked:
    def test_it_is_set_at_any_time(self) -> None:
        chat, engine = chat_of("1", "2", "3", profile="sql")
        chat.send("hi").wait(10)
        chat.profile = "poem"
        chat.send("hi").wait(10)
        chat.profile = "default"
        chat.send("hi").wait(10)
        assert [seen(turn) for turn in engine.turns] == [
            ("Answer in SQL.", "m-sql", {"look"}, "hi"),
            ("Answer in verse.", None, {"look", "touch"}, "HI!"),
            ("", None, {"look", "touch"}, "hi"),
        ]

    def test_a_prompt_that_waits_keeps_its_own(self) -> None:
        go = threading.Event()
        chat, engine = chat_of([go, "1"], "2", profile="poem")
        first, second = chat.send("one"), chat.send("two", profile="sql")
        chat.profile = "default"
        go.set()
        assert (first.wait(10).status, second.wait(10).status) == ("finished", "finished")
        assert [seen(turn)[0] for turn in engine.turns] == ["Answer in verse.", "Answer in SQL."]
        runs = [row["props"].get("profile") for row in chat.entities if row["kind"] == "run"]
        assert runs == ["poem", "sql"]

    def test_it_is_one_of_these(self) -> None:
        chat, _ = chat_of()
        assert chat.profiles == [
            {"slug": "default", "display_name": "Default"},
            {"slug": "sql", "display_name": "SQL"},
            {"slug": "poem", "display_name": "poem"},
        ]
        for slug in ("nobody", "", "SQL"):
            with pytest.raises(TraitError, match=r"There is no profile .*Profiles: default, sql, poem"):
                chat.profile = slug
        assert chat.profile == "default"
        with pytest.raises(TraitError):
            chat_of(profile="nobody")
        with pytest.raises(NotFound):
            chat.send("hi", profile="nobody")

    def test_one_that_goes_with_the_widget_that_brought_it(self) -> None:
        chat, _ = chat_of(profile="sql")
        with pytest.warns(UserWarning, match="The profile 'sql' is gone with the widget") as told:
            ChatWidget("c", engine=(engine := ScriptedEngine("1")))
        assert told[0].filename == __file__, "it is said of the cell that did it"
        assert chat.profile == "default"
        assert chat.send("hi").wait(10).status == "finished"
        assert seen(engine.turns[0])[0] == ""
        with pytest.raises(NotFound, match="There is no profile 'sql'"):
            chat.send("hi", profile="sql")

    def test_one_that_another_widget_brings_too(self) -> None:
        chat, _ = chat_of(profile="sql")
        other, _ = chat_of(profile="default")
        ChatWidget("c", engine=(engine := ScriptedEngine("1")), tools=[look], profiles=[SQL])
        assert (chat.profile, other.profile) == ("sql", "default")
        chat.send("hi").wait(10)
        assert seen(engine.turns[0])[0] == "Answer in SQL."

    def test_a_page_picks_one(self) -> None:
        chat, _ = chat_of()
        chat.set_state({"profile": "sql"})
        assert chat.profile == "sql"

    def test_tools_that_come_later_leave_them(self) -> None:
        chat, engine = chat_of("1", tools=[look])
        chat.tool(touch)
        chat.send("hi", profile="sql").wait(10)
        assert seen(engine.turns[0])[2] == {"look"}


class TestWhatAPromptChooses:
    @pytest.mark.parametrize(
        ("chosen", "wanted"),
        [
            ({"model": "m"}, ("Answer in SQL.", "m", {"look"}, "hi")),
            ({"system_prompt": "Be brief."}, ("Be brief.", "m-sql", {"look"}, "hi")),
            ({"system_prompt": ""}, ("", "m-sql", {"look"}, "hi")),
            ({"tools": []}, ("Answer in SQL.", "m-sql", set(), "hi")),
            ({"tools": [touch]}, ("Answer in SQL.", "m-sql", {"touch"}, "hi")),
            ({"tools": ["touch", look]}, ("Answer in SQL.", "m-sql", {"look", "touch"}, "hi")),
            ({"middlewares": [Loud(mark="?")]}, ("Answer in SQL.", "m-sql", {"look"}, "HI?")),
            ({"middlewares": ["loud"]}, ("Answer in SQL.", "m-sql", {"look"}, "HI!")),
            (
                {"middlewares": [SystemPrompt(text="Really.", where="after")]},
                ("Answer in SQL.\n\nReally.", "m-sql", {"look"}, "hi"),
            ),
            ({"profile": "poem", "model": "m"}, ("Answer in verse.", "m", {"look", "touch"}, "HI!")),
        ],
    )
    def test_it_holds_for_that_one(self, chosen: Any, wanted: Any) -> None:
        chat, engine = chat_of("1", "2", profile="sql")
        chat.send("hi", **chosen).wait(10)
        chat.send("hi").wait(10)
        assert [seen(turn) for turn in engine.turns] == [wanted, ("Answer in SQL.", "m-sql", {"look"}, "hi")]

    @pytest.mark.parametrize(
        ("chosen", "error", "said"),
        [
            ({"tools": ["shell"]}, NotAllowed, "The tool 'shell' is not available"),
            ({"tools": "look"}, TypeError, "tools= takes a list"),
            ({"middlewares": ["nothing"]}, NotAllowed, "There is no middleware 'nothing'"),
            ({"middlewares": "loud"}, TypeError, "middlewares= takes a list of names"),
            ({"middlewares": [Loud]}, TypeError, r"Loud is a class: write Loud\(…\)"),
            ({"middlewares": [Nameless()]}, ValueError, "the middleware Nameless needs a name"),
            ({"middlewares": [7]}, BadRequest, "'overrides' is malformed"),
            ({"middlewares": [{"name": "loud", "config": {"mark": 7}}]}, NotAllowed, "does not fit"),
            ({"model": 7}, BadRequest, "'overrides' is malformed"),
            ({"system_prompt": "\ud800"}, BadRequest, "lone surrogate"),
        ],
    )
    def test_what_makes_no_sense(self, chosen: Any, error: type[Exception], said: str) -> None:
        chat, engine = chat_of()
        with pytest.raises(error, match=said):
            chat.send("hi", **chosen)
        assert chat.entities == []
        assert not engine.turns

    def test_a_class_of_a_later_cell(self) -> None:
        chat = ChatWidget("c", engine=(engine := ScriptedEngine("1")))
        chat.send("hi", middlewares=[Loud(mark="?!")]).wait(10)
        assert seen(engine.turns[0])[3] == "HI?!"

    def test_what_its_profile_locks(self) -> None:
        chat, _ = chat_of(profiles=[Profile(slug="locked", allow_overrides=["tools"])])
        with pytest.raises(NotAllowed, match="The profile locked does not let you choose model"):
            chat.send("hi", profile="locked", model="m")


class TestAWidgetThatBringsThem:
    def test_middlewares_of_all_prompts(self) -> None:
        middlewares = [Loud(), {"name": "system_prompt", "config": {"text": "Hi."}}]
        chat, engine = chat_of("1", "2", middlewares=middlewares)
        chat.send("hi").wait(10)
        chat.send("hi", middlewares=[]).wait(10)
        assert [seen(turn)[::3] for turn in engine.turns] == [("Hi.", "HI!"), ("", "hi")]

    def test_what_it_says_is_for_profiles_that_do_not_say_it(self) -> None:
        chat, engine = chat_of(
            *"1234",
            model="m",
            system_prompt="Be brief.",
            middlewares=["history_limit", Loud(mark="?")],
            profiles=[SQL, POEM, Profile(slug="plain")],
        )
        for profile in ("default", "sql", "poem", "plain"):
            chat.send("hi", profile=profile).wait(10)
        brief = ("Be brief.", "m", {"look", "touch"}, "HI?")
        assert [seen(turn) for turn in engine.turns] == [
            brief,
            ("Answer in SQL.", "m-sql", {"look"}, "HI?"),
            ("Answer in verse.", "m", {"look", "touch"}, "HI!"),
            brief,
        ]

    def test_a_class_that_was_written_anew(self) -> None:
        class Loud(Middleware, frozen=True):
            name: ClassVar[str] = "loud"

            def prepare(self, turn: Turn, run: RunView) -> Turn:
                return replace(turn, messages=(replace(turn.messages[-1], content="new"),))

        ChatWidget("c", engine=ScriptedEngine(), middlewares=[globals()["Loud"]()])
        chat = ChatWidget("c", engine=(engine := ScriptedEngine("1")), middlewares=[Loud()])
        chat.send("hi").wait(10)
        assert seen(engine.turns[0])[3] == "new"

    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"profiles": SQL}, TypeError, "profiles= takes a list of Profile objects"),
            ({"profiles": {"slug": "a"}}, TypeError, "profiles= takes a list of Profile objects"),
            (
                {"profiles": ["sql"]},
                ValueError,
                "A profile is a Profile, or a dict with a slug; 'sql' is none",
            ),
            ({"profiles": [{"slug": "a", "modle": "m"}]}, ValueError, "unknown field `modle`"),
            ({"profiles": [{"slug": "default"}]}, NotAllowed, "The chat has a profile default already"),
            ({"profiles": [SQL, SQL]}, NotAllowed, "Two profiles have the slug sql"),
            ({"profiles": [Profile(slug="a", tools=["shell"])]}, NotAllowed, "The tool 'shell' is not avail"),
            ({"profiles": [Profile(slug="a", middlewares=["x"])]}, NotAllowed, "There is no middleware 'x'"),
            ({"middlewares": ["x"]}, NotAllowed, r"There is no middleware 'x'\. Middlewares: agent_mode, "),
            ({"middlewares": "step"}, TypeError, "middlewares= takes a list of names"),
            ({"middlewares": [Loud]}, TypeError, "Loud is a class"),
            ({"middlewares": [Nameless()]}, ValueError, "needs a name"),
        ],
    )
    def test_what_makes_no_sense(self, options: Any, error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            chat_of(**options)

    def test_dicts_and_objects(self) -> None:
        chat, engine = chat_of("1", profiles=[{"slug": "a", "system_prompt": "A.", "middlewares": [Loud()]}])
        chat.send("hi", profile="a").wait(10)
        assert seen(engine.turns[0])[::3] == ("A.", "HI!")

    def test_they_come_back_with_the_kernel(self) -> None:
        """A prompt that waits when the kernel ends is answered under its profile by the next one."""
        chat, engine = chat_of([threading.Event()])
        chat.send("one")
        until(lambda: engine.turns, "the first prompt is under way")
        chat.send("two", profile="sql")
        chat._home._host.close()
        forget_the_kernel()
        again, engine = chat_of("2")
        until(lambda: again.text == "2", "the second prompt is answered")
        assert seen(engine.turns[0])[0] == "Answer in SQL."


class TestPauses:
    STEP: ClassVar[Any] = {"tools": [look], "middlewares": ["step"]}

    def test_they_go_on_one_after_the_other(self) -> None:
        chat, _ = chat_of([CallRequest("1", "look", "{}")], "done", profiles=None, **self.STEP)
        run = chat.send("hi")
        (first,) = chat.resume(timeout=10)
        assert set(first) == {"id", "phase", "summary", "deadlineMs"}
        assert (first["phase"], "look" in first["summary"]) == ("after_inference", True)
        (paused,) = until(lambda: chat.pauses, "the second pause")
        assert chat.resume(paused["id"]) == [paused]
        assert run.wait(10).text == "done"
        assert chat.pauses == []

    def test_nothing_pauses(self) -> None:
        chat, _ = chat_of("done", profiles=None)
        chat.send("hi").wait(10)
        with pytest.raises(TimeoutError, match=r"No run has paused within 0\.1 s"):
            chat.resume(timeout=0.1)

    def test_over_the_comm(self) -> None:
        line = Line(ScriptedEngine([CallRequest("1", "look", "{}")], "done"), look)
        line.open()
        step = {"middlewares": [{"name": "step", "config": {"phases": ["after_tools"]}}]}
        run = line.ask("chat", conv_id="c", prompt="hi", overrides=step)["body"]["run_id"]
        line.until_type("debugger.pause")
        pause_id = next(f["event"]["id"] for f in line.frames if f["event"]["type"] == "debugger.pause")
        for _ in range(2):
            reply = line.ask("resume", conv_id="c", pause_id=pause_id)
            assert (reply["status"], reply["body"]) == (200, {"status": "continued", "pause_id": pause_id})
        line.until_type("run.finished")
        assert run == line.frames[-1]["event"]["id"]
        assert line.ask("resume", conv_id="d", pause_id=pause_id)["status"] == 404


def test_the_list_over_the_comm() -> None:
    line = Line(ScriptedEngine())
    assert line.ask("profiles", conv_id="c")["body"] == [{"slug": "default", "display_name": "Default"}]
    assert line.ask("profiles", conv_id="d")["status"] == 404
    assert line.ask("chat", conv_id="c", prompt="hi", profile="sql")["body"]["code"] == "unknown_profile"


PACKAGE = """
from typing import ClassVar
from webchat_widget import Middleware, Profile
class Shout(Middleware, frozen=True):
    name: ClassVar[str] = "shout"
PROFILE = Profile(slug="plugged", system_prompt="Plugged.", middlewares=["shout"])
"""
POINTS = "[webchat_widget.middlewares]\nshout = adds:Shout\n[webchat_widget.profiles]\np = adds:PROFILE\n"


def test_installed_packages_count_in_a_kernel_too(tmp_path: Path) -> None:
    (tmp_path / "adds.py").write_text(PACKAGE)
    info = tmp_path / "adds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS + "bad = adds:Nothing\n")
    kernel = Kernel(tmp_path / "kernel", path=str(tmp_path))
    try:
        kernel.run(
            "import json\nfrom webchat_widget import ChatWidget, ScriptedEngine\n"
            "engine = ScriptedEngine('1')\nchat = ChatWidget('c', engine=engine, profile='plugged')\n"
            "chat.send('hi').wait(10)"
        )
        assert kernel.value("[each['slug'] for each in chat.profiles]") == ["default", "plugged"]
        assert kernel.value("engine.turns[0].messages[0].content") == "Plugged."
    finally:
        kernel.end()


SETUP = """
import json
from typing import ClassVar
from webchat_widget import ChatWidget, Middleware, Profile, tool
from webchat_widget.middlewares.system_prompt import SystemPrompt

class Loud(Middleware, frozen=True):
    name: ClassVar[str] = "loud"

@tool(read_only=True)
def look() -> str:
    return "seen"

@tool(read_only=True)
def touch() -> str:
    return "felt"

sql = Profile(slug="sql", system_prompt="Answer in SQL.", model="test-sql", tools=["look"])
poem = Profile(slug="poem", tools=[], middlewares=[SystemPrompt(text="Answer in verse.")])
"""


@pytest.fixture(scope="module")
def kernel(server: Jupyter) -> Iterator[Kernel]:
    """A kernel of the server."""
    kernel = Kernel.of_server(server)
    kernel.run(SETUP)
    yield kernel
    kernel.client.stop_channels()
    server.shut_kernels_down()


class TestOnTheServer:
    @staticmethod
    def sent(model: ModelServer, at: int) -> tuple[str, str, set[str]]:
        """System message, model and tools of a request."""
        body = model.completions[at].body
        first = body["messages"][0]
        tools = {tool["function"]["name"] for tool in body.get("tools", ())}
        return (first["content"] if first["role"] == "system" else ""), body["model"], tools

    def test_two_of_one_conversation_in_turn(self, kernel: Kernel, model: ModelServer) -> None:
        kernel.run("chat = ChatWidget(new=True, tools=[look, touch], profiles=[sql, poem], profile='sql')")
        assert kernel.value("chat.where") == "server"
        slugs = kernel.value("[each['slug'] for each in chat.profiles]")
        assert slugs == ["default", "sql", "poem"]
        kernel.run(
            "chat.send('1').wait(20)\nchat.profile = 'poem'\nchat.send('2').wait(20)\n"
            "chat.send('3', profile='sql', model='test-other').wait(20)\n"
            "chat.send('4', profile='default').wait(20)"
        )
        assert [self.sent(model, at) for at in range(4)] == [
            ("Answer in SQL.", "test-sql", {"look"}),
            ("Answer in verse.", "test-model", set()),
            ("Answer in SQL.", "test-other", {"look"}),
            ("", "test-model", {"look", "touch"}),
        ]
        runs = "[row['props'].get('profile') for row in chat.entities if row['kind'] == 'run']"
        assert kernel.value(runs) == ["sql", "poem", "sql", None]

    def test_they_go_with_the_widget_that_brought_them(self, kernel: Kernel, model: ModelServer) -> None:
        kernel.run(
            "chat = ChatWidget(new=True, tools=[look], profiles=[sql], profile='sql')\n"
            "ChatWidget(chat.conv_id)\nchat.send('1').wait(20)"
        )
        assert kernel.value("chat.profile") == "default"
        assert self.sent(model, 0) == ("", "test-model", set())

    def test_middlewares_by_name(self, kernel: Kernel, model: ModelServer) -> None:
        kernel.run(
            "chat = ChatWidget(new=True, middlewares=[SystemPrompt(text='Hi.')])\nchat.send('1').wait(20)\n"
            "chat.send('2', middlewares=[]).wait(20)"
        )
        assert [self.sent(model, at)[0] for at in range(2)] == ["Hi.", ""]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ("middlewares=[Loud()]", "middlewares= works in the kernel only."),
            ("profiles=[Profile(slug='a', middlewares=[Loud()])]", "profiles= works in the kernel only."),
        ],
    )
    def test_a_class_of_the_notebook_s_own_is_a_reason_to_leave(
        self, kernel: Kernel, options: str, reason: str
    ) -> None:
        assert kernel.value(f"ChatWidget(new=True, {options}).where_reason") == reason

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            (
                "ChatWidget(new=True, profiles=[Profile(slug='a', model='m')])",
                "The model 'm' is not one",
            ),
            (
                "ChatWidget(new=True, profiles=[Profile(slug='a', tools=['x'])])",
                "The tool 'x' is not available",
            ),
            ("ChatWidget(new=True, profiles=[Profile(slug='default')])", "The chat has a profile default"),
            ("ChatWidget(new=True, middlewares=['x'])", "There is no middleware 'x'"),
            (
                "ChatWidget(new=True, where='server', middlewares=[Loud()])",
                "middlewares= works in the kernel",
            ),
            ("ChatWidget(new=True).send('hi', middlewares=[Loud()])", "There is no middleware 'loud'"),
            ("ChatWidget(new=True, profile='nobody').send('hi')", "There is no profile 'nobody'"),
        ],
    )
    def test_refused(self, kernel: Kernel, code: str, said: str) -> None:
        outcome = kernel.outcome(kernel.begin(code))
        assert said in outcome.error

    def test_a_pause_goes_on(self, kernel: Kernel, model: ModelServer) -> None:
        model.script(Reply(tool_calls=[{"name": "look", "arguments": {}}]), "done")
        cell = kernel.run(
            "chat = ChatWidget(new=True, tools=[look], middlewares=['step'])\nrun = chat.send('hi')\n"
            "phases = [chat.resume()[0]['phase'] for _ in range(2)]\nprint(run.wait(20).text, *phases)"
        )
        assert cell.stdout == "done after_inference after_tools\n"


def test_a_server_s_profile_is_the_server_s_to_know(server: Jupyter, belong_to: BelongTo) -> None:
    belong_to(server)
    chat = ChatWidget("of-the-server", profile="nobody")
    with pytest.raises(WebChatError, match="There is no profile 'nobody'") as refused:
        chat.send("hi")
    assert refused.value.status == 404
    chat.profile = "default"
    assert chat.send("hi").wait(20).status == "finished"
