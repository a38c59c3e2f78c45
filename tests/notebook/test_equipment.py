"""What a widget gives its conversation: tools, texts for `@name`, and a yes or no from Python."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
import threading
import types
from typing import Any

import pytest

from tests.support.waiting import until
from webchat_widget import ChatWidget, ScriptedEngine, builtin, tool
from webchat_widget.events import CallRequest, EngineEvent, Finish
from webchat_widget.notebook.masking import is_secret, masked
from webchat_widget.notebook.namespace import short, summary

from .line import Line


def calls(*names: str, **arguments: Any) -> list[EngineEvent]:
    """What a model says that wants these tools."""
    text = json.dumps(arguments)
    return [*(CallRequest(str(at), name, text) for at, name in enumerate(names)), Finish("tool_calls")]


def area(width: float = 1, height: float = 1) -> float:
    """The area of a rectangle."""
    return width * height


def volume() -> int:
    """Another."""
    return 1


class TestTools:
    def test_one_more(self) -> None:
        engine = ScriptedEngine("one", "two")
        chat = ChatWidget("c", engine=engine, tools=[area])
        chat.send("hi").wait(10)

        @chat.tool(read_only=True, name="how_much")
        def amount() -> int:
            """Words for the model."""
            return 7

        assert chat.tool(volume) is volume
        assert amount() == 7, "it is the function still"
        chat.send("hi").wait(10)
        assert [tool.name for tool in engine.turns[0].tools] == ["area"]
        assert {tool.name for tool in engine.turns[1].tools} == {"area", "how_much", "volume"}

    def test_the_same_name_again_is_the_new_one(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine(calls("size"), "done"))

        def made(number: int) -> Any:
            def size() -> int:
                return number

            return size

        for number in (1, 2):
            chat.tool(made(number), read_only=True)
        chat.send("hi").wait(10)
        assert [row["props"]["result"] for row in chat.entities if row["kind"] == "tool_result"] == ["2"]

    def test_none_at_all_and_then_one(self) -> None:
        engine = ScriptedEngine("one", "two")
        chat = ChatWidget("c", engine=engine, tools=[])
        chat.send("hi").wait(10)
        chat.tool(area)
        chat.send("hi").wait(10)
        assert [[tool.name for tool in turn.tools] for turn in engine.turns] == [[], ["area"]]

    def test_none_means_not_the_demo_s_either(self) -> None:
        chat = ChatWidget("c", tools=[])
        chat.send("37 * 42").wait(30)
        assert not [row for row in chat.entities if row["kind"] == "tool_call"]

    def test_an_engine_may_be_a_function(self) -> None:
        async def echo(turn: Any) -> Any:
            yield "You said: "
            yield turn.messages[-1].content

        assert ChatWidget("c", engine=echo).send("hi").wait(10).text == "You said: hi"

    def test_another_function_is_no_engine(self) -> None:
        async def answer(turn: Any) -> str:
            return "no generator"

        with pytest.raises(TypeError, match=r"engine= .*async def answer\(turn\)"):
            ChatWidget("c", engine=answer)  # type: ignore[arg-type]


class TestApprovals:
    def test_yes(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine(calls("area", "volume", width=2), "done"))
        chat.tool(area)
        run = chat.send("hi")
        (asked,) = until(lambda: chat.approvals, "a question")
        assert (asked["name"], asked["input"]) == ("area", {"width": 2})
        assert set(asked) == {"id", "name", "input", "digest", "expiresAt"}
        assert chat.approve("area") == [asked]
        assert run.wait(10).text == "done"
        assert chat.approvals == []

    def test_always(self) -> None:
        engine = ScriptedEngine(calls("area"), "one", calls("area"), "two")
        chat = ChatWidget("c", engine=engine, tools=[area])
        run = chat.send("hi")
        chat.approve(always=True)
        assert run.wait(10).text == "one"
        assert chat.send("hi").wait(10).text == "two"

    def test_no_with_a_reason(self) -> None:
        engine = ScriptedEngine(calls("area"), "done")
        chat = ChatWidget("c", engine=engine, tools=[area])
        run = chat.send("hi")
        chat.deny("Not today.")
        assert run.wait(10).text == "done"
        assert "Not today." in engine.turns[1].messages[-1].content

    def test_nobody_asks(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine(calls("area"), "done"), tools=[area])
        run = chat.send("hi")
        until(lambda: chat.approvals, "a question")
        with pytest.raises(TimeoutError, match=r"No call of volume has asked within 0\.1 s"):
            chat.approve("volume", timeout=0.1)
        run.stop()
        run.wait(10)
        with pytest.raises(TimeoutError, match=r"No tool call has asked"):
            chat.approve(timeout=0)

    def test_over_the_comm(self) -> None:
        line = Line(ScriptedEngine(calls("area"), "done", calls("area"), "done"), area)
        line.open()
        run = line.say()
        row = until(lambda: asking(line), "a question")
        asked = {"conv_id": "c", "call_id": row["id"], "digest": row["props"]["approval"]["digest"]}
        assert row["id"].startswith(run)
        refused = [
            ({"decision": "perhaps"}, 400, "bad_decision"),
            ({"decision": "once", "digest": "0" * 64}, 409, "stale_approval"),
            ({"decision": "once", "call_id": "none"}, 404, "unknown_call"),
            ({"decision": "once", "conv_id": "other"}, 404, "other_conversation"),
        ]
        for change, status, code in refused:
            answer = line.ask("approve", **{**asked, **change})
            assert (answer["status"], answer["body"]["code"]) == (status, code)
        assert asking(line) is not None
        answer = line.ask("approve", **asked, decision="once")
        assert (answer["status"], answer["body"]) == (200, {"status": "once", "call_id": row["id"]})
        line.until_type("run.finished")
        line.say()
        row = until(lambda: asking(line), "a question")
        asked = {"conv_id": "c", "call_id": row["id"], "digest": row["props"]["approval"]["digest"]}
        answer = line.ask("approve", **asked, decision="deny", reason="no")
        assert (answer["status"], answer["body"]["status"]) == (200, "denied")


def asking(line: Line) -> dict[str, Any] | None:
    """The call that waits for a yes."""
    rows = line.ask("timeline", conv_id="c")["body"]
    waiting = (row for row in rows if row["props"].get("approval", {}).get("state") == "pending")
    return next(waiting, None)


class Table:
    """As pandas has them."""

    shape = (1000, 2)
    columns = ("region", "units")
    dtypes = ("object", "int64")

    def head(self, rows: int) -> str:
        return "region units\nnorth 120"


class TestContexts:
    def test_a_name_sends_the_summary_along(self) -> None:
        engine = ScriptedEngine("one", "two")
        chat = ChatWidget("c", engine=engine)
        chat.context(Table(), name="sales")
        chat.send("Describe @sales and @nothing.").wait(10)
        chat.send("No name.").wait(10)
        sent = [turn.messages[-1].content for turn in engine.turns]
        assert sent[0].startswith("Describe @sales and @nothing.\n\n[sales]\nsales: ")
        for part in ("1000 x 2", "region: object", "units: int64", "north 120"):
            assert part in sent[0]
        assert sent[1] == "No name."
        assert chat.entities[1]["props"]["content"] == "Describe @sales and @nothing."

    def test_a_value_without_a_name(self) -> None:
        chat = ChatWidget("c", engine=ScriptedEngine())
        with pytest.raises(ValueError, match="name it"):
            chat.context(object())
        with pytest.raises(ValueError, match="letters"):
            chat.context(1, name="two words")

    def test_it_is_bounded_whatever_the_value_is(self) -> None:
        class Odd:
            shape = property(lambda self: 1 / 0)

            def __repr__(self) -> str:
                raise RuntimeError

        values = ("x" * 10_000, {n: "y" * 500 for n in range(1000)}, list(range(10_000)), Odd(), threading)
        for value in values:
            assert 0 < len(summary("value", value)) <= 4000


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        ["api_key", "OPENAI_API_KEY", "token", "hfToken", "db_password", "secret", "auth", "my_pass", "PWD"],
    )
    def test_names_that_are_none_to_show(self, name: str) -> None:
        assert is_secret(name)

    @pytest.mark.parametrize("name", ["monkey", "author", "tokenizer", "keyboard", "KeyError", "passes", "x"])
    def test_names_that_are_fine(self, name: str) -> None:
        assert not is_secret(name)

    def test_secrets_within_a_value(self) -> None:
        value = {"user": "ann", "api_key": "abc123", "also": ["sk-abcdefghijklmnop"]}
        for text in (short(value), summary("config", value), masked(repr(value))):
            assert "ann" in text
            assert "abc123" not in text
            assert "sk-abc" not in text

    @pytest.mark.parametrize(
        "code",
        [
            "api_key = 'canary'",
            'os.environ["OPENAI_API_KEY"] = "canary"',
            'token: str = "canary"',
            "pwd='canary",
            "(key := 'canary')",
            'password = "canary" if',
            "secret = b'canary'",
            'secret = f"canary"',
            'token = Rb"canary"',
            'password = ("canary")',
            'password = (\n    "canary"\n)',
            'password = """canary\nand canary"""',
            'password = "a\\"canary"',
            "password = 'a' \\\n  'canary'",
            'auth = ("bob", x, "canary")',
            'HTTPBasicAuth("bob", "canary")',
            'my_pass = passphrase = "canary"',
            "token: str | None = 'canary'",
            'def f(user: str, token="canary"): pass',
            'os.environ.setdefault("DB_PASSWORD", "canary")',
            'os.environ.get("TOKEN", "canary")',
            'if password == "canary": pass',
            'credentials = {"user": "canary", "word": "canary"}',
            '"{\\"password\\": \\"canary\\"}"',
            "postgresql://bob:canary@host/db",
            '"host=db password=canary1 user=bob"',
            "?token=canary1&x=1",
            "%env API_KEY=canary",
            "%env API_KEY canary",
            "!curl -u bob:canary http://x",
            "!tool --api-key canary",
            "!curl -H 'Authorization: Bearer canary1' x",
            "!curl -H 'X-Api-Key: canary1' x",
            'k = "-----BEGIN PRIVATE KEY-----\\ncanary\\n-----END PRIVATE KEY-----"',
            "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128\n\ncanary\n-----END RSA PRIVATE KEY-----",
        ],
    )
    def test_secrets_within_code(self, code: str) -> None:
        assert masked(f"x = 1\n{code}\ny = 2").startswith("x = 1\n")
        assert "canary" not in masked(code)

    @pytest.mark.parametrize(
        "code",
        [
            "KeyError: 'x'",
            "raise KeyError('name')",
            'api_key = os.environ["OPENAI_API_KEY"]',
            'print("Token: ", "abc")',
            'password = getpass("Password: ")',
            'f"postgresql://{user}:{password}@db"',
            'pd.merge(a, b, on=["key", "date"])',
            'tokens = ["the", "cat"]',
            "sorted(x, key=lambda r: r[1])",
            "max(d, key=len)",
            'password = ""',
            "git@github.com and http://localhost:8888/lab",
        ],
    )
    def test_what_is_none_stays(self, code: str) -> None:
        assert masked(code) == code

    @pytest.mark.parametrize(
        "piece",
        [
            *("x", "=", "a=", "key=", "key=a", "key=(", "auth(", "tokens: [", "key: a[", "key:a|", "key\\"),
            *("key='a' ", '"', "key='", 'key="""', "'key' , ", "://a:", "--key ", "-u a", "%env ", "\n", " "),
            *("-----", "-----BEGIN PRIVATE KEY-----", "Bearer ", "authorization: ", "eyJ"),
        ],
    )
    def test_the_time_grows_with_the_text(self, piece: str) -> None:
        masked(piece * (300_000 // len(piece)))  # in minutes, where it grows with the square of that


def test_the_calculator_asks_nobody() -> None:
    from webchat_widget.builtin import calculator

    chat = ChatWidget("c", engine=ScriptedEngine(calls("calculator", expression="2**10"), "done"))
    chat.tool(calculator)
    assert chat.send("hi").wait(10).text == "done"
    assert "1024" in [row["props"].get("result") for row in chat.entities]


def test_a_context_is_as_its_variable_is_when_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    engine = ScriptedEngine("one", "two")
    chat = ChatWidget("c", engine=engine)
    main.__dict__.update(prices=[1, 2, 3], total=6)
    chat.context(main.prices)
    chat.context([7], name="total")
    main.__dict__.update(prices=[4], total=0)
    chat.send("@prices @total").wait(10)
    assert "prices: list, 1\n  4" in engine.turns[0].messages[-1].content
    assert "total: list, 1\n  7" in engine.turns[0].messages[-1].content, "it never was that variable"
    del main.prices
    chat.send("@prices").wait(10)
    assert "prices: list, 1\n  4" in engine.turns[1].messages[-1].content


def test_the_example_of_the_scripted_engine() -> None:
    """As `help` shows it."""
    lines = inspect.getdoc(ScriptedEngine) or ""
    example = lines.partition("that has a kernel::")[2].partition("Without a chat")[0]
    exec(compile(textwrap.dedent(example), "example", "exec", dont_inherit=True), {})


class Frame:
    """A type that JSON does not know."""


def rest(a: int, b: int = 2, *others: int) -> None: ...
def table(a: int, frame: Frame) -> None: ...
def by_place(a: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (rest, r"\*others has no names for what it takes\. Take a list"),
        (table, "its parameter frame is of the type Frame, which JSON does not know"),
        (max, "give each parameter a name"),
        (by_place, "its parameter a can't be given by name"),
    ],
)
def test_what_a_model_can_t_be_told(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        ChatWidget("c", tools=[function])


def test_variables_without_those_of_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("def mine(): 'A tool.'\ndef helper(): 'None.'", main.__dict__)
    chat = ChatWidget("c", engine=ScriptedEngine("Hi."), tools=[main.mine])
    main.__dict__.update(chat=chat, run=chat.send("hi").wait(10), x=1)
    assert [line.partition(":")[0] for line in builtin.variables().text.splitlines()] == ["helper", "x"]


def test_variables_of_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__dict__.update(api_key="sk-canary-canary", numbers=[1, 2, 3], json=json, tool=tool, _own=1)
    monkeypatch.setitem(sys.modules, "__main__", main)
    output = builtin.variables()
    assert output.text.splitlines() == [
        "api_key: str = (hidden: the name says that it is a secret)",
        "numbers: list (3) = [1, 2, 3]",
    ]
    assert output.mime is not None
    assert "<td>numbers</td>" in output.mime["text/html"]
    assert "canary" not in str(output) + builtin.inspect("api_key")
    assert builtin.inspect("numbers").startswith("numbers: list, 3")
    assert builtin.run_code("numbers.append(4)\nsum(numbers)") == 10
    with pytest.raises(NameError, match="no variable 'nothing'"):
        builtin.inspect("nothing")
