"""Tools in a real kernel, ipykernel 7 and 6: where they run, how they are stopped, what they leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .kernel import Kernel

SETUP = """
import asyncio, contextvars, json, random, signal, threading, time
from webchat_widget import ChatWidget, ScriptedEngine, tool
from webchat_widget.events import CallRequest, Finish
from webchat_widget.notebook.host import kernel_host
from webchat_widget.notebook.main_thread import main_thread, pause

def calls(name, **arguments):
    return [CallRequest("1", name, json.dumps(arguments)), Finish("tool_calls")]

def with_tool(function, times=1, **options):
    engine = ScriptedEngine(*[calls(function.__name__), "done"] * times)
    return ChatWidget(new=True, engine=engine, tools=[tool(read_only=True, **options)(function)])

def rows(chat, kind):
    return [row["props"] for row in chat.entities if row["kind"] == kind]

def until(condition):
    while not condition():
        time.sleep(0.005)

def press_when_begun():
    def press():
        until(lambda: seen)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    threading.Thread(target=press).start()

seen = []
def where():
    "Where it runs."
    seen.append(threading.current_thread() is threading.main_thread())
    return 1

def nap():
    "Take long."
    seen.append("begun")
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        seen.append("interrupted")
        raise
"""

# What of matplotlib matters here: it is no dependency.
STAND_IN = {
    "__init__": "def get_backend(): return 'module://matplotlib_inline.backend_inline'",
    "_pylab_helpers": (
        "class Gcf:\n    figs = {}\n    @classmethod\n    def destroy(cls, number): del cls.figs[number]\n"
    ),
    "figure": (
        "class Figure:\n"
        "    def __init__(self): self.canvas = self; self.figure = self\n"
        "    def savefig(self, file, **options): file.write(b'\\x89PNG\\r\\n\\x1a\\n')\n"
        "    def __repr__(self): return '<Figure>'\n"
    ),
    "pyplot": (
        "from ._pylab_helpers import Gcf\n"
        "from .figure import Figure\n"
        "def figure():\n"
        "    made = Gcf.figs[max(Gcf.figs, default=0) + 1] = Figure()\n"
        "    return made\n"
    ),
}


@pytest.fixture(scope="module", params=["ipykernel 7", "ipykernel 6"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel of each version for all tests here."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "lib" / "matplotlib").mkdir(parents=True)
    for name, text in STAND_IN.items():
        (folder / "lib" / "matplotlib" / f"{name}.py").write_text(text)
    kernel = Kernel(folder, old=request.param == "ipykernel 6", path=str(folder / "lib"))
    kernel.run(SETUP)
    assert kernel.run("import ipykernel; print(ipykernel.__version__[0])").stdout.strip() in request.param
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared: Kernel) -> Kernel:
    """The kernel, with nothing seen yet."""
    shared.run("seen.clear()")
    shared.listen(0)
    shared.published.clear()
    return shared


class TestWhere:
    def test_while_a_cell_waits_for_the_answer(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(where, 2)")
        assert kernel.run("print(chat.send('hi').wait(10).text, seen)").stdout == "done [True]\n"
        assert kernel.run("print((await chat.send('hi')).text, seen)").stdout == "done [True, True]\n"

    def test_while_a_loop_of_the_users_own_holds_the_thread(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(where)\nasync def ask(): return (await chat.send('hi')).text")
        cell = "own = asyncio.new_event_loop()\nloop = asyncio._get_running_loop()\n"
        cell += "asyncio._set_running_loop(None)\ntry: print(own.run_until_complete(ask()), seen)\n"
        cell += "finally: asyncio._set_running_loop(loop)"
        assert kernel.run(cell).stdout == "done [True]\n"

    def test_while_nothing_runs(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(where)\nrun = chat.send('hi')")
        kernel.run("while run.status == 'started': await asyncio.sleep(0.01)")
        assert kernel.value("[run.text, seen]") == ["done", [True]]

    def test_not_while_a_cell_does_something_else(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(where)")
        kernel.run(
            "run = chat.send('hi')\n"
            "until(lambda: rows(chat, 'tool_call') and rows(chat, 'tool_call')[0]['status'] == 'waiting')\n"
            "assert not seen"
        )
        assert kernel.run("print(run.wait(10).text, seen)").stdout == "done [True]\n"

    def test_beside_it_where_that_is_said(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(where, thread=True)")
        kernel.run("run = chat.send('hi')\nuntil(lambda: run.status == 'finished')\nassert seen == [False]")

    def test_a_tool_may_wait_for_another_chat(self, kernel: Kernel) -> None:
        kernel.run("inner = with_tool(where)\ndef ask(): return inner.send('hi').wait(10).text")
        kernel.run("outer = with_tool(ask)")
        assert kernel.run("print(outer.send('hi').wait(10).text, seen)").stdout == "done [True]\n"
        assert kernel.value("rows(outer, 'tool_result')[0]['result']") == "done"

    def test_the_thread_s_own_state_is_as_it_was(self, kernel: Kernel) -> None:
        look = (
            "def look(): return [len(In), get_ipython().execution_count, repr(_), "
            "repr(signal.getsignal(signal.SIGINT)), repr(__import__('sys').stdout), "
            "repr(get_ipython().display_pub.__dict__.get('publish'))]"
        )
        kernel.run(f"{look}\nchat = with_tool(where)")
        kernel.run("before = look()\nchat.send('hi').wait(10)\nassert look() == before, (before, look())")


class TestStop:
    @pytest.mark.parametrize("waits", ["run.wait(10)", "await run"])
    def test_inside_a_tool(self, waits: str, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(nap, 2)")
        kernel.run(
            "run = chat.send('hi')\n"
            "threading.Thread(target=lambda: (until(lambda: seen), chat.stop())).start()\n"
            f"{waits}\nuntil(lambda: len(seen) == 2 or pause(0))"
        )
        assert kernel.value("[run.status, seen]") == ["stopped", ["begun", "interrupted"]]
        assert kernel.value("rows(chat, 'tool_call')[0]['status']") == "cancelled"

    def test_while_libc_ignores_the_signal(self, kernel: Kernel, tmp_path: Path) -> None:
        """It is sent again until it was heard, once, and by nobody but the tool."""
        kernel.run("""
import os
def shell(begun):
    "Take long elsewhere."
    os.system(f"touch '{begun}'; sleep 1")
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        seen.append("interrupted")
        time.sleep(0.5)
        seen.append("tidied")
        raise
""")
        kernel.run(
            f"begun = {str(tmp_path / 'begun')!r}\n"
            "engine = ScriptedEngine(calls('shell', begun=begun))\n"
            "chat = ChatWidget(new=True, engine=engine, tools=[tool(read_only=True)(shell)])"
        )
        kernel.run(
            "run = chat.send('hi')\n"
            "threading.Thread(target=lambda: (until(lambda: os.path.exists(begun)), chat.stop())).start()\n"
            "run.wait(20)\nuntil(lambda: 'tidied' in seen or pause(0))"
        )
        assert kernel.value("[run.status, seen]") == ["stopped", ["interrupted", "tidied"]]

    def test_before_it_has_begun(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(nap)")
        kernel.run("run = chat.send('hi')\nuntil(lambda: rows(chat, 'tool_call'))\nchat.stop()\nrun.wait(10)")
        kernel.run("for step in range(5): await asyncio.sleep(0.01)")
        assert kernel.value("[run.status, seen]") == ["stopped", []]

    def test_an_interrupt_of_the_kernel_ends_the_tool_alone(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(nap)\npress_when_begun()\nrun = chat.send('hi')")
        assert kernel.run("print(run.wait(10).text, seen)").stdout == "done ['begun', 'interrupted']\n"
        assert kernel.value("rows(chat, 'tool_call')[0]['status']") == "cancelled"

    def test_an_interrupt_of_a_cell_that_waits_ends_both(self, kernel: Kernel) -> None:
        kernel.run("chat = with_tool(nap)")
        cell = kernel.begin("press_when_begun()\nrun = chat.send('hi')\nrun.wait()")
        assert "KeyboardInterrupt" in kernel.outcome(cell).error
        assert kernel.run("print(run.wait(10).text, seen)").stdout == "done ['begun', 'interrupted']\n"

    @pytest.mark.parametrize("late", [0, 0.01])
    def test_a_signal_hits_no_code_of_the_users(self, late: float, kernel: Kernel) -> None:
        """Calls that end at any moment around their cancel, many times; the signal may take its time."""
        kernel.run("""
from webchat_widget.notebook import main_thread as module
at_once = module._signal_main_thread
def signal_late(): threading.Timer(late, at_once).start()

host, main, ended, entered = kernel_host(), main_thread(), [], []

def work(seconds):
    entered.append(1)
    until_then = time.perf_counter() + seconds
    while time.perf_counter() < until_then: pass

async def one(seconds, patience):
    try:
        async with asyncio.timeout(patience):
            await main.run(lambda: work(seconds))
    except TimeoutError: pass
    except RuntimeError as error: ended.append(str(error))

def many():
    dice = random.Random(7)
    for call in range(400):
        length = dice.random() / 500
        host.call(one(length, length + dice.gauss(0.0002, 0.0003)))
    many.over = True
many.over = False
""")
        cell = kernel.run(
            f"hits, late = 0, {late}\n"
            "if late: module._signal_main_thread = signal_late\n"
            "threading.Thread(target=many).start()\n"
            "while not many.over:\n"
            "    try:\n"
            "        sum(range(50)); pause(0.0003)\n"
            "    except KeyboardInterrupt: hits += 1\n"
            "module._signal_main_thread = at_once\n"
            "print(hits, len(entered) > 100, signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        )
        assert cell.stdout == "0 True True\n"


class TestWhatItShows:
    def test_what_it_prints_is_no_output_of_a_cell(self, kernel: Kernel) -> None:
        kernel.run("def talk(): print('from the tool')\nchat = with_tool(talk)")
        cell = kernel.run("run = chat.send('hi').wait(10)\nprint('from the cell')")
        assert cell.stdout == "from the cell\n"
        assert kernel.value("rows(chat, 'tool_call')[0]['stdout']") == "from the tool\n"

    def test_what_it_displays_is_its_result(self, kernel: Kernel) -> None:
        kernel.run(
            "from IPython.display import HTML, clear_output, display\n"
            "def show():\n"
            "    clear_output()\n"
            "    display(HTML('<table><tr><td>1</td></tr></table>'))\n"
            "chat = with_tool(show)"
        )
        cell = kernel.run("run = chat.send('hi').wait(10)\ndisplay('of the cell')")
        assert cell.shown == ["'of the cell'"]
        assert not [m for m in kernel.published if m["msg_type"] == "clear_output"]
        result = kernel.value("rows(chat, 'tool_result')[0]")
        assert result["mime"]["text/html"] == "<table><tr><td>1</td></tr></table>"
        assert "HTML object" in result["result"]

    @pytest.mark.parametrize("ending", ["plt.figure()", "return plt.figure()", "plt.figure(); return 7"])
    def test_figures_are_drawn_once_and_closed(self, ending: str, kernel: Kernel) -> None:
        kernel.run("import matplotlib.pyplot as plt\nmine = plt.figure()")
        kernel.run(f"def plot():\n    import matplotlib.pyplot as plt\n    {ending}\nchat = with_tool(plot)")
        cell = kernel.run("chat.send('hi').wait(10)\nassert list(plt.Gcf.figs.values()) == [mine]")
        assert cell.shown == []
        result = kernel.value("rows(chat, 'tool_result')[0]")
        assert result["mime"]["image/png"] == "iVBORw0KGgo="
        assert result["result"] == ("7" if "7" in ending else "<Figure>")
        kernel.run("plt.Gcf.figs.clear()")

    def test_a_form_that_fails_fails_nothing(self, kernel: Kernel) -> None:
        kernel.run(
            "class Odd:\n"
            "    def _repr_html_(self): raise ValueError('canary')\n"
            "    def _repr_markdown_(self): return '**odd**'\n"
            "def make(): return Odd()\n"
            "get_ipython().display_formatter.formatters['image/png'].for_type(Odd, lambda odd: 1 / 0)\n"
            "chat = with_tool(make)"
        )
        cell = kernel.run("run = chat.send('hi').wait(10)")
        assert (cell.stdout, cell.stderr, cell.shown) == ("", "", [])
        assert list(kernel.value("rows(chat, 'tool_result')[0]['mime']")) == ["text/markdown"]
        assert "canary" not in str([m for m in kernel.published if m["msg_type"] in ("stream", "error")])


class TestContext:
    def test_it_follows_its_variable_from_cell_to_cell(self, kernel: Kernel) -> None:
        kernel.run("chat = ChatWidget(new=True, engine=ScriptedEngine('hm'))\nx = [1]\nchat.context(x)")
        kernel.run("x = [2, 3]\nclass Odd:\n    def __repr__(self): raise KeyError('canary')\ny = Odd()")
        kernel.run("chat.context(y)")
        assert kernel.value("chat._home.wishes.equipment.contexts['x']") == "x: list, 2\n  2\n  3"
        assert kernel.run("x.append(y)").stderr == ""
        assert "<Odd instance" in kernel.value("chat._home.wishes.equipment.contexts['x']")
        kernel.run("chat.close()")
        assert (
            kernel.value(
                "[str(c) for c in get_ipython().events.callbacks['post_run_cell'] if c == chat._refresh]"
            )
            == []
        )


class TestBuiltIn:
    def test_code_runs_in_the_notebook_and_leaves_it_alone(self, kernel: Kernel) -> None:
        kernel.run("""
from webchat_widget.builtin import run_code
codes = ["number = 6\\nprint('printed')\\nnumber * 7", "def f():\\n    return 1 / 0\\nf()", "%who_ls"]
script = [CallRequest(str(at), "run_code", json.dumps({"code": code})) for at, code in enumerate(codes)]
chat = ChatWidget(new=True, engine=ScriptedEngine([*script, Finish("tool_calls")], "done"), tools=[run_code])
""")
        kernel.run("'last'")
        cell = kernel.run(
            "run = chat.send('hi')\nasked = chat.approve('run_code')\nrun.wait(10)\nassert _ == 'last'"
        )
        assert (cell.stdout, cell.stderr) == ("", "")
        assert kernel.value("[len(asked), run.text, number]") == [3, "done", 6]
        printed = kernel.value("[props.get('stdout') for props in rows(chat, 'tool_call')]")
        assert printed == ["printed\n", None, None]
        results = kernel.value(
            "{props['toolCallId'][-1]: props['result'] for props in rows(chat, 'tool_result')}"
        )
        assert results["1"] == "printed\n42"
        assert results["2"].endswith(
            "line 2, in f\n    return 1 / 0\n           ~~^~~\nZeroDivisionError: division by zero"
        )
        assert "with_tool" in results["3"]
