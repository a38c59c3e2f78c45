"""`%chat` and `%%chat` in a kernel that is the chat's host; test_magics_server.py has the server's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.waiting import until

from .kernel import Cell, Kernel, parent

SETUP = """
%load_ext webchat_widget
import json, sys, threading, time
from webchat_widget import ChatWidget, ScriptedEngine
from webchat_widget.events import CallRequest

def note(text: str) -> str:
    "Write something down."
    return "noted"

def script(*turns, **options):
    global chat, engine
    engine = ScriptedEngine(*turns)
    chat = ChatWidget(new=True, engine=engine, **options)

def asked():
    return [message.content for message in engine.turns[-1].messages]
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module", params=["ipykernel", "ipykernel6"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel of each version."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"), old=request.param == "ipykernel6")
    kernel.run(SETUP)
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared: Kernel) -> Kernel:
    """The kernel, with nothing published yet."""
    shared.listen(0)
    shared.published.clear()
    return shared


def displays(kernel: Kernel, cell: str) -> list[dict[str, Any]]:
    """The outputs of a cell as a notebook has them at the end."""
    outputs: list[dict[str, Any]] = []
    for message in kernel.published:
        content = message["content"]
        if message["msg_type"] == "display_data" and parent(message) == cell:
            outputs.append(content)
        elif message["msg_type"] == "update_display_data":
            for output in outputs:
                if output["transient"] == content["transient"]:
                    output.update(content)
    return [output["data"] for output in outputs]


def view_of(kernel: Kernel) -> str:
    """The comm of the view of a run."""
    opened = [m["content"] for m in kernel.published if m["msg_type"] == "comm_open"]
    return str(next(c["comm_id"] for c in opened if c["data"]["state"].get("_run")))


class TestAsking:
    def test_the_answer_stays_as_text_and_the_view_does_not(self, kernel: Kernel) -> None:
        kernel.run("script('The **sky** is blue.')")
        kernel.published.clear()
        sent = kernel.begin("%%chat\nWhy is the sky blue?\n")
        cell = kernel.outcome(sent)
        assert (cell.shown, cell.stdout, cell.stderr, cell.error) == (["The **sky** is blue."], "", "", "")
        first = next(m for m in kernel.published if m["msg_type"] == "display_data")
        assert list(first["content"]["data"]) == [WIDGET]
        answer = "The **sky** is blue."
        assert displays(kernel, sent) == [{}, {"text/markdown": answer, "text/plain": answer}]
        view = view_of(kernel)
        assert view in [m["content"]["comm_id"] for m in kernel.published if m["msg_type"] == "comm_close"]

    def test_it_is_the_conversation_of_the_widget(self, kernel: Kernel) -> None:
        kernel.run("script('One.', 'Two.', tools=[note])\nprices = [3, 5]\nchat.context(prices)")
        kernel.run("chat.send('first').wait(10)")
        kernel.run("%%chat\nDescribe @prices.")
        assert kernel.value("asked()")[:2] == ["first", "One."]
        assert kernel.value("asked()")[2].startswith("Describe @prices.\n\n[prices]\nprices: list, 2")
        assert kernel.value("[tool.name for tool in engine.turns[-1].tools]") == ["note"]
        assert kernel.value("chat.text") == "Two."

    def test_the_widget_that_was_made_last_counts(self, kernel: Kernel) -> None:
        kernel.run("script('One.')\nfirst = chat\nscript('Two.')")
        assert kernel.run("%%chat\nhi").shown == ["Two."]
        kernel.run("chat.close()")
        assert kernel.run("%%chat\nhi").shown == ["One."]

    def test_another_conversation_for_one_cell(self, kernel: Kernel) -> None:
        kernel.run("script('There.', 'Here.', 'There again.')")
        kernel.run("%%chat -c elsewhere\nhi")
        assert kernel.run("%%chat\nhi").shown == ["Here."]
        assert kernel.value("asked()") == ["hi"]
        kernel.run("%%chat --conv elsewhere\nand?")
        assert kernel.value("asked()")[-3:] == ["hi", "There.", "and?"]
        assert kernel.value("len(chat.entities)") == 3

    def test_another_model_and_another_profile(self, kernel: Kernel) -> None:
        kernel.run("from webchat_widget import Profile")
        kernel.run("script('1', '2', '3', profiles=[Profile(slug='poet', system_prompt='Rhyme.')])")
        kernel.run("%%chat -m large\nhi")
        assert kernel.value("engine.turns[-1].model") == "large"
        kernel.run("%%chat -p poet\nhi")
        assert kernel.value("asked()[0]") == "Rhyme."
        kernel.run("%%chat\nhi")
        assert kernel.value("[engine.turns[-1].model, asked()[0]]") == [None, "hi"]

    def test_an_interrupt_stops_it_and_the_text_stays(self, kernel: Kernel, tmp_path: Path) -> None:
        spoke = tmp_path / "spoke"
        kernel.run(
            "import asyncio, pathlib\n"
            "async def slow(turn):\n"
            f"    yield 'one '\n    pathlib.Path({str(spoke)!r}).touch()\n    await asyncio.sleep(60)\n"
            "chat = ChatWidget(new=True, engine=slow)"
        )
        sent = kernel.begin("%%chat\nhi")
        until(spoke.exists, "the first word")
        kernel.manager.interrupt_kernel()
        cell = kernel.outcome(sent)
        assert cell.shown == ["one \n(stopped)"]
        assert cell.error == "KeyboardInterrupt: the answer was stopped"
        assert kernel.value("[chat.entities[0]['props']['status'], chat.text]") == ["stopped", "one "]

    def test_an_interrupt_while_it_is_sent_stops_it_too(self, kernel: Kernel, tmp_path: Path) -> None:
        """A value that says slowly what it is holds up the sending."""
        sending, go = tmp_path / "sending", tmp_path / "go"
        go.touch()
        kernel.run(
            "import pathlib\n"
            "class Slow:\n"
            "    def __repr__(self):\n"
            f"        pathlib.Path({str(sending)!r}).touch()\n"
            f"        while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
            "        return 'slow'\n"
            "script([threading.Event()])\n"
            "it = Slow()\n"
            "chat.context(it)"
        )
        go.unlink()
        sending.unlink()
        sent = kernel.begin("%%chat\nhi")
        until(sending.exists, "the sending")
        kernel.manager.interrupt_kernel()
        go.touch()
        cell = kernel.outcome(sent)
        assert cell.error == "KeyboardInterrupt: the answer was stopped"
        assert kernel.value("[row['props']['status'] for row in chat.entities if row['kind'] == 'run']") == [
            "stopped"
        ]

    def test_one_that_fails_says_why(self, kernel: Kernel) -> None:
        kernel.run("script()")
        cell = kernel.run("%%chat\nhi")
        assert cell.shown == ["Error: The scripted engine was asked for answer number 1 and was given 0."]

    @pytest.mark.parametrize(
        ("cell", "words"),
        [
            ("%%chat\n  \n", "holds no prompt"),
            ("%%chat --nonsense\nhi", "--nonsense"),
            ("%%chat -p 'x\nhi", "quotation mark"),
            ("%%chat -p nobody\nhi", "no profile 'nobody'"),
            ("%%chat -c ../etc\nhi", "conv_id"),
        ],
    )
    def test_what_makes_no_sense_is_one_line(self, kernel: Kernel, cell: str, words: str) -> None:
        kernel.run("script('Never.')")
        outcome = kernel.run(cell)
        assert outcome.stderr.startswith("UsageError: ")
        assert words in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert kernel.value("len(engine.turns)") == 0

    def test_what_the_model_writes_is_no_html(self, kernel: Kernel) -> None:
        kernel.run("script('<img src=x onerror=alert(1)>')")
        sent = kernel.begin("%%chat\nhi")
        kernel.outcome(sent)
        assert "<img" not in displays(kernel, sent)[-1]["text/markdown"]


class TestNotWaiting:
    def test_the_answer_takes_the_place_of_the_view(self, kernel: Kernel) -> None:
        kernel.run("script([(go := threading.Event()), 'Late.'])")
        kernel.published.clear()
        sent = kernel.begin("%%chat --no-wait\nhi")
        assert kernel.outcome(sent).shown == []
        assert list(displays(kernel, sent)[0]) == [WIDGET]
        kernel.run("go.set()")
        kernel.until(lambda message: message["msg_type"] == "update_display_data")
        assert displays(kernel, sent) == [{"text/markdown": "Late.", "text/plain": "Late."}]

    def test_a_cell_does_not_wait_for_a_person_whom_it_can_not_hear(self, kernel: Kernel) -> None:
        """No page answers here, as in nbclient; nor does one while a cell runs in ipykernel 6."""
        kernel.run("script([CallRequest('1', 'note', '{\"text\": \"x\"}')], 'Done.', tools=[note])")
        kernel.published.clear()
        sent = kernel.begin("%%chat\nhi")
        assert "chat.approve()" in kernel.outcome(sent).stdout
        kernel.run("chat.approve('note')")
        kernel.run("while chat.text != 'Done.': time.sleep(0.01)")
        kernel.until(lambda m: "text/plain" in m["content"].get("data", {}))
        assert displays(kernel, sent) == [{"text/markdown": "Done.", "text/plain": "Done."}]

    def test_without_a_page_that_is_heard_the_text_is_shown_as_it_comes(self, kernel: Kernel) -> None:
        kernel.run("script(['First ', (go := threading.Event()), 'last.'])")
        kernel.run("threading.Timer(4, go.set).start()")
        kernel.published.clear()
        sent = kernel.begin("%%chat\nhi")
        update = kernel.until(lambda message: message["msg_type"] == "update_display_data")
        assert update["content"]["data"] == {"text/markdown": "First "}
        assert kernel.runs(sent)
        kernel.outcome(sent)
        assert [list(output) for output in displays(kernel, sent)] == [[], ["text/markdown", "text/plain"]]


class TestCommands:
    def test_it_shows_and_names_the_chat(self, kernel: Kernel) -> None:
        kernel.run("script('Hello.')")
        assert kernel.run("%chat").shown == ["ChatWidget()"]
        assert kernel.run("mine = %chat\nprint(mine is chat)").stdout == "True\n"

    def test_another_conversation_with_the_same_tools(self, kernel: Kernel) -> None:
        kernel.run("script('One.', 'Two.', tools=[note])\n_ = %chat new")
        assert kernel.run("%%chat\nhi").shown == ["One."]
        assert kernel.value("[chat.text, _.text, _.conv_id != chat.conv_id]") == ["", "One.", True]
        assert kernel.value("[tool.name for tool in engine.turns[-1].tools]") == ["note"]
        assert kernel.run("same = %chat\nprint(same is _)").stdout == "True\n"

    def test_the_list_has_all_and_marks_the_present_one(self, kernel: Kernel) -> None:
        kernel.run("script('One.')\nchat.send('About | pipes').wait(10)\nold = chat.conv_id")
        kernel.run("script('Two.')\nchat.send('About the sky').wait(10)")
        lines = kernel.run("%chat list").shown[0].splitlines()
        assert lines[1].startswith("→ About the sky")
        assert kernel.value("chat.conv_id") in lines[1]
        assert lines[2].startswith("About | pipes")
        assert kernel.value("old") in lines[2]

    def test_the_tools(self, kernel: Kernel) -> None:
        kernel.run("script(tools=[note])\n@chat.tool(read_only=True)\ndef look() -> str: 'Look.'")
        shown = kernel.run("%chat tools").shown[0].splitlines()
        assert [line.split("  ")[0] for line in shown] == ["tool", "note", "look"]
        assert "Write something down." in shown[1]
        assert shown[1].endswith("asks first")
        assert shown[2].endswith("no")
        kernel.run("script(tools=[])")
        assert "nothing" in kernel.run("%chat tools").stdout

    def test_stop(self, kernel: Kernel) -> None:
        kernel.run("script([(go := threading.Event())])")
        assert kernel.run("%chat stop").stdout == "Nothing was being written.\n"
        assert kernel.run("run = chat.send('hi')\n%chat stop").stdout == "Stopped.\n"
        assert kernel.value("run.status") == "stopped"

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("%chat fxi", "Did you mean `%chat fix`?"),
            ("%chat What is this", "goes below a line with %%chat"),
            ("%chat stop now", "takes no 'now'"),
            ("%chat list --force", "%chat export"),
        ],
    )
    def test_an_unknown_one_is_told_the_others(self, kernel: Kernel, line: str, words: str) -> None:
        cell = kernel.run(line)
        assert cell.stderr.startswith("UsageError: ")
        assert words in cell.stderr

    def test_help(self, kernel: Kernel) -> None:
        told = kernel.run("%chat help").stdout
        for name in ("new", "list", "export", "tools", "stop", "fix", "--no-wait"):
            assert name in told
        assert (
            "--profile"
            in kernel.run("print(get_ipython().magics_manager.magics['cell']['chat'].__doc__)").stdout
        )


class TestFix:
    @pytest.fixture(autouse=True)
    def engine(self, kernel: Kernel) -> None:
        kernel.run("script('Because.', 'Because.')")

    def prompt(self, kernel: Kernel) -> str:
        assert kernel.run("%chat fix").shown == ["Because."]
        return str(kernel.value("asked()[-1]"))

    def test_the_cell_and_the_way_to_the_error(self, kernel: Kernel) -> None:
        kernel.run("def deep(n):\n    return deep(n - 1) if n else {}['needle']")
        failed(kernel, "x = 1\n# a word to the wise\ndeep(30)")
        prompt = self.prompt(kernel)
        assert prompt.startswith("KeyError in a cell of my notebook")
        assert "# a word to the wise\ndeep(30)" in prompt
        assert prompt.rstrip("`\n").endswith("KeyError: 'needle'")
        assert "in deep\n    return deep(n - 1) if n else {}['needle']" in prompt
        assert 'File "In[' in prompt
        assert "ipykernel" not in prompt
        assert "\x1b" not in prompt

    def test_a_syntax_error(self, kernel: Kernel) -> None:
        failed(kernel, "total = (1 +")
        prompt = self.prompt(kernel)
        assert prompt.count("total = (1 +") == 2
        assert "interactiveshell" not in prompt
        assert "SyntaxError" in prompt

    def test_a_line_that_is_no_python_tells_no_secret_either(self, kernel: Kernel) -> None:
        failed(kernel, 'password = "canary" if')
        prompt = self.prompt(kernel)
        assert prompt.count("password = (hidden) if") == 2
        assert "canary" not in prompt

    def test_what_led_to_it(self, kernel: Kernel) -> None:
        failed(kernel, "try:\n    1/0\nexcept ArithmeticError as e:\n    raise RuntimeError('no') from e")
        prompt = self.prompt(kernel)
        assert prompt.index("ZeroDivisionError: division") < prompt.index("RuntimeError: no")

    def test_it_is_bounded_and_tells_no_secrets(self, kernel: Kernel) -> None:
        kernel.run("def connect(password):\n    raise ValueError('x' * 10**6)")
        failed(kernel, "api_key = 'canary-key'\nconnect(password='canary-word')")
        prompt = self.prompt(kernel)
        assert len(prompt) < 20_000
        assert "canary" not in prompt
        assert "raise ValueError('x' * 10**6)" in prompt

    def test_a_magic_that_was_called_wrongly_is_no_error_of_a_cell(self, kernel: Kernel) -> None:
        failed(kernel, "1/0")
        kernel.run("%chat fxi")
        assert "ZeroDivisionError" in self.prompt(kernel)


def failed(kernel: Kernel, code: str) -> None:
    """Run a cell that ends with an exception."""
    assert kernel.outcome(kernel.begin(code)).error


class TestLoading:
    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Iterator[Kernel]:
        kernel = Kernel(tmp_path)
        yield kernel
        kernel.end()

    def test_it_imports_neither_widget_nor_sdk_and_goes_without_a_trace(self, fresh: Kernel) -> None:
        fresh.run("import json, sys\nshell = get_ipython()")
        fresh.run(
            "def look():\n"
            "    magics = shell.magics_manager.lsmagic()\n"
            "    return sorted(map(sorted, magics.values())), len(shell.events.callbacks['post_run_cell'])"
        )
        before = fresh.value("look()")
        fresh.run("%load_ext webchat_widget\n%load_ext webchat_widget\n%reload_ext webchat_widget")
        heavy = "[name for name in ('openai', 'pydantic', 'anywidget') if name in sys.modules]"
        assert fresh.value(heavy) == []
        assert fresh.run("%chat help").stdout
        fresh.run("%unload_ext webchat_widget")
        assert fresh.value("look()") == before

    def test_an_error_from_before_is_known(self, fresh: Kernel) -> None:
        failed(fresh, "# long ago\n1/0")
        fresh.run("%load_ext webchat_widget\nfrom webchat_widget import ChatWidget, ScriptedEngine")
        fresh.run("engine = ScriptedEngine('Yes.')\nchat = ChatWidget(engine=engine)")
        fresh.run("%chat fix")
        assert "# long ago\n1/0" in fresh.run("print(engine.turns[0].messages[0].content)").stdout

    def test_without_a_widget_it_is_the_notebooks_own_chat(self, fresh: Kernel) -> None:
        fresh.run("%load_ext webchat_widget\nimport json")
        assert "No cell has failed yet" in fresh.run("%chat fix").stdout
        assert "demo" in fresh.run("%%chat\nWhat can you do?").shown[0].lower()
        fresh.run("from webchat_widget import ChatWidget\nchat = ChatWidget()")
        assert fresh.value("[row['kind'] for row in chat.entities][:2]") == ["run", "message"]


class TestAPage:
    def test_a_cell_waits_for_a_person_whom_it_hears(self, tmp_path: Path) -> None:
        kernel = Kernel(tmp_path)
        try:
            kernel.run(SETUP)
            kernel.run("script([CallRequest('1', 'note', '{\"text\": \"x\"}')], 'Done.', tools=[note])")
            conv_id, subshell = kernel.value("chat.conv_id"), kernel.subshell()
            kernel.published.clear()
            sent = kernel.begin("%%chat\nhi")
            kernel.until(lambda message: message["msg_type"] == "display_data")
            view = view_of(kernel)
            kernel.reply(kernel.tell(view, "open", subshell, conv_id=conv_id))

            def call() -> dict[str, Any] | None:
                rows = kernel.reply(kernel.tell(view, "timeline", subshell, conv_id=conv_id))["body"]
                calls = [row for row in rows if row["kind"] == "tool_call" and "approval" in row["props"]]
                return calls[0] if calls else None

            asks = None
            while asks is None:
                asks = call()
            kernel.listen(3)
            assert kernel.runs(sent)
            digest = asks["props"]["approval"]["digest"]
            kernel.tell(
                view, "approve", subshell, conv_id=conv_id, call_id=asks["id"], decision="once", digest=digest
            )
            assert kernel.outcome(sent) == Cell(shown=["Done."])
        finally:
            kernel.end()


NOTEBOOK = (
    "%load_ext webchat_widget\n"
    "from webchat_widget import ChatWidget, ScriptedEngine\n"
    "chat = ChatWidget(engine=ScriptedEngine('Twelve.', ['It ', 2.5, '*was*.']), store='memory')",
    "%%chat\nHow large is a room of 3 by 4 metres?",
    "%%chat\nAnd slowly?",
    "chat",
)


class TestWithoutAFrontEnd:
    def test_a_notebook_that_was_run_by_a_program_has_the_text_and_passes_nbval(self, tmp_path: Path) -> None:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK])
        NotebookClient(notebook, kernel_name="python3").execute()
        texts = [
            output.data["text/plain"]
            for cell in notebook.cells[1:3]
            for output in cell.outputs
            if output.data
        ]
        assert texts == ["Twelve.", "It *was*."]
        assert "widget-view" not in str(notebook.cells[1:3])
        file = tmp_path / "asked.ipynb"
        nbformat.validate(notebook)
        nbformat.write(notebook, file)
        line = [sys.executable, "-m", "pytest", "--nbval", str(file), "-q", "-p", "no:cacheprovider"]
        ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "4 passed" in ran.stdout, ran.stdout

    def test_a_terminal_prints_the_answer(self, tmp_path: Path) -> None:
        script = tmp_path / "asks.ipy"
        script.write_text(
            "%load_ext webchat_widget\n"
            "from webchat_widget import ChatWidget, ScriptedEngine\n"
            "chat = ChatWidget(engine=ScriptedEngine('Twelve.'), store='memory')\n"
            "get_ipython().run_cell_magic('chat', '', 'How large?')\n"
        )
        line = [sys.executable, "-m", "IPython", "--simple-prompt", "--colors=NoColor", str(script)]
        ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.stdout == "Twelve.\n", ran.stderr
