"""The embedded engine: no network, no key, always the same."""

from __future__ import annotations

import ast
import json
import time

import pytest

from webchat_widget.engines.demo import DemoEngine
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Message, ToolCall, ToolSchema, Turn

CALCULATE = ToolRegistry([function_tool(calculate)]).schemas()
OTHER = (ToolSchema("other", "", {"type": "object"}),)
BEFORE = (Message("user", "hello"), Message("assistant", "Hello!"))


async def answer(
    prompt: str, *, before: tuple[Message, ...] = (), tools: tuple[ToolSchema, ...] = ()
) -> list[EngineEvent]:
    turn = Turn((*before, Message("user", prompt)), tools)
    return [event async for event in DemoEngine(delay=0).stream(turn)]


def said(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextChunk))


def asked(events: list[EngineEvent]) -> list[str]:
    """The expressions that it wants to be calculated."""
    calls = [event for event in events if isinstance(event, CallRequest)]
    assert all(call.name == "calculate" for call in calls)
    return [json.loads(call.arguments)["expression"] for call in calls]


PROMPTS = [
    "hello",
    "compute 37 * 42",
    "show me a table and a formula",
    "some python code",
    "что?",
    "1+1 in a table",
    "",
]


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_it_always_says_the_same_and_always_comes_to_an_end(prompt: str) -> None:
    first = await answer(prompt, tools=CALCULATE)
    assert first == await answer(prompt, tools=CALCULATE)
    assert isinstance(first[-1], Finish)
    assert [event for event in first if isinstance(event, Finish)] == first[-1:]
    assert isinstance(first[0], ThinkingChunk)
    assert said(first)


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_its_first_answer_says_what_it_is_and_how_to_get_a_model(prompt: str) -> None:
    text = said(await answer(prompt, tools=CALCULATE))
    assert "demo engine" in text
    assert "OPENAI_API_KEY" in text
    assert "OPENAI_BASE_URL" in text


async def test_later_answers_do_not_introduce_it_again() -> None:
    assert "Hello!" in said(await answer("a table please"))
    assert "Hello!" not in said(await answer("a table please", before=BEFORE))


async def test_each_piece_is_about_a_word() -> None:
    pieces = [event.text for event in await answer("hello") if isinstance(event, TextChunk)]
    assert len(pieces) > 50
    assert all(piece and len(piece.split()) <= 1 for piece in pieces)


class TestWhatItShows:
    async def test_a_table_and_a_formula(self) -> None:
        text = said(await answer("show me a table and a formula", before=BEFORE))
        assert "|:-----|" in text
        assert "\n$$\nv_e = \\sqrt{\\frac{2 G M}{r}}\n$$\n" in text

    async def test_code_that_runs(self) -> None:
        text = said(await answer("some code please", before=BEFORE))
        code = text.split("```python\n")[1].split("```")[0]
        namespace: dict[str, object] = {}
        exec(compile(ast.parse(code), "answer", "exec"), namespace)  # its own assert tests it
        assert "fibonacci" in namespace

    async def test_for_anything_else_what_it_can_do(self) -> None:
        assert "compute" in said(await answer("what is love?", before=BEFORE))


class TestArithmetic:
    async def test_it_asks_for_calculate_and_then_tells_the_result(self) -> None:
        prompt = Message("user", "compute 37 * 42")
        events = [event async for event in DemoEngine(0).stream(Turn((prompt,), CALCULATE))]
        *_, call, finish = events
        assert isinstance(call, CallRequest)
        assert asked(events) == ["37 * 42"]
        assert finish == Finish("tool_calls")
        made = Message("assistant", said(events), (ToolCall(call.call_id, call.name, call.arguments),))
        result = Message("tool", calculate("37 * 42"), tool_call_id=call.call_id)
        last = [event async for event in DemoEngine(0).stream(Turn((prompt, made, result), CALCULATE))]
        assert "1554" in said(last)
        assert "37 * 42" in said(last)
        assert last[-1] == Finish("stop")

    @pytest.mark.parametrize(
        ("prompt", "expression"),
        [
            ("37*42", "37*42"),
            ("what is 1,234 + 5,678?", "1234 + 5678"),
            ("2 × 3 ÷ 4", "2 * 3 / 4"),
            ("compute 2^10.", "2**10"),
            ("compute 2 * (3 + 4), please", "2 * (3 + 4)"),
            ("compute -3 + 5", "-3 + 5"),
            ("(1 + 2) * 3 and 4 + 5", "(1 + 2) * 3"),
            ("In 2024 I had 3 cats, now 7 % 4", "7 % 4"),
            ("10 // 3", "10 // 3"),
        ],
    )
    async def test_it_finds_the_expression(self, prompt: str, expression: str) -> None:
        assert asked(await answer(prompt, tools=CALCULATE)) == [expression]
        assert calculate(expression)

    @pytest.mark.parametrize(
        "prompt", ["hello", "version 3.11", "call 112", "a - b", "(see above)", "-5", "", "+ - *"]
    )
    async def test_a_number_alone_is_nothing_to_compute(self, prompt: str) -> None:
        assert asked(await answer(prompt, tools=CALCULATE)) == []

    @pytest.mark.parametrize("tools", [(), OTHER], ids=["no tools", "another tool"])
    async def test_it_never_asks_for_a_tool_that_it_was_not_given(
        self, tools: tuple[ToolSchema, ...]
    ) -> None:
        events = await answer("compute 37 * 42", tools=tools)
        assert asked(events) == []
        assert events[-1] == Finish("stop")
        assert said(events)

    @pytest.mark.parametrize(
        "prompt",
        ["1" * 200_000, "1 " * 100_000, "1" + "+" * 200_000, "1+" * 100_000 + "x", "(" * 200_000],
        ids=lambda p: p[:6],
    )
    async def test_a_long_prompt_holds_up_nobody(self, prompt: str) -> None:
        begun = time.process_time()
        await answer(prompt, tools=CALCULATE)
        assert time.process_time() - begun < 1
