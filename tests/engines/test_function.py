"""An engine out of one async generator function."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from webchat_widget.engines.base import Engine
from webchat_widget.engines.function import FunctionEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, Turn

CALL = CallRequest("1", "double", "{}")


async def answer(function: Any) -> list[EngineEvent]:
    """All events of one turn."""
    engine: Engine = FunctionEngine(function)
    return [event async for event in engine.stream(Turn((Message("user", "hi"),)))]


async def test_text_and_events_and_an_end_that_need_not_be_said() -> None:
    async def mine(turn: Turn) -> AsyncIterator[Any]:
        yield ThinkingChunk("hm")
        yield turn.messages[-1].content
        yield ""

    assert await answer(mine) == [ThinkingChunk("hm"), TextChunk("hi"), Finish("stop")]
    assert (FunctionEngine(mine).name, FunctionEngine(mine).model) == ("mine", None)
    await FunctionEngine(mine).aclose()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([], [Finish("stop")]),
        ([CALL], [CALL, Finish("tool_calls")]),
        ([Finish("length"), "never"], [Finish("length")]),
    ],
    ids=["nothing", "a call", "an end of its own"],
)
async def test_how_it_ends(said: list[Any], heard: list[EngineEvent]) -> None:
    async def mine(turn: Turn) -> AsyncIterator[Any]:
        for each in said:
            yield each

    assert await answer(mine) == heard


async def test_an_object_that_can_be_called() -> None:
    class Mine:
        async def __call__(self, turn: Turn) -> AsyncIterator[str]:
            yield "Hi"

    assert await answer(Mine()) == [TextChunk("Hi"), Finish("stop")]
    assert FunctionEngine(Mine()).name == "Mine"  # type: ignore[arg-type]


async def test_an_early_end_ends_the_function() -> None:
    ended: list[bool] = []

    async def mine(turn: Turn) -> AsyncIterator[str]:
        try:
            yield "one"
            yield "two"
        finally:
            ended.append(True)

    stream = FunctionEngine(mine).stream(Turn(()))  # type: ignore[arg-type]
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert ended == [True]


async def test_its_own_sentence_is_shown() -> None:
    async def mine(turn: Turn) -> AsyncIterator[str]:
        raise EngineError("The moon is down.", code="moon", retryable=True)
        yield ""

    with pytest.raises(EngineError, match=r"The moon is down\.") as error:
        await answer(mine)
    assert error.value.code == "moon"


async def test_of_other_errors_the_log_has_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def mine(turn: Turn) -> AsyncIterator[str]:
        yield str(1 // len(turn.tools))

    with pytest.raises(EngineError, match=r"The engine mine raised ZeroDivisionError; the log has") as error:
        await answer(mine)
    assert (error.value.code, error.value.retryable) == ("engine_failed", False)
    assert "1 // len(turn.tools)" in caplog.text


async def test_what_is_no_event() -> None:
    async def mine(turn: Turn) -> AsyncIterator[Any]:
        yield 7

    with pytest.raises(EngineError, match="The engine mine yielded int: an engine yields str, or events"):
        await answer(mine)


async def coroutine(turn: Turn) -> str:
    return "Hi"


def generator(turn: Turn) -> Any:
    yield "Hi"


@pytest.mark.parametrize("wrong", [coroutine, generator, print, "text", None])
def test_what_is_no_such_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match="write `async def"):
        FunctionEngine(wrong)
