"""The engine that says what it was told to: for our tests, and for those of users."""

from __future__ import annotations

import asyncio
import doctest
import threading
import time

import pytest

from webchat_widget import ScriptedEngine
from webchat_widget.engines import scripted
from webchat_widget.engines.base import Engine
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, Turn

TURN = Turn((Message("user", "hi"),))


async def answer(engine: ScriptedEngine, turn: Turn = TURN) -> list[EngineEvent]:
    """All events of one turn."""
    return [event async for event in engine.stream(turn)]


async def test_it_says_what_it_was_told_and_keeps_what_it_was_sent() -> None:
    engine = ScriptedEngine("Hi", ["a", ThinkingChunk("b"), Finish("length")])
    turns = [Turn((Message("user", text),)) for text in ("one", "two")]
    assert await answer(engine, turns[0]) == [TextChunk("Hi"), Finish("stop", model="scripted")]
    assert await answer(engine, turns[1]) == [TextChunk("a"), ThinkingChunk("b"), Finish("length")]
    assert engine.turns == turns


async def test_calls_are_events_like_others() -> None:
    call = CallRequest("1", "double", '{"number": 2}')
    assert await answer(ScriptedEngine([call, Finish("tool_calls")])) == [call, Finish("tool_calls")]


async def test_a_script_that_ends_with_calls_waits_for_the_tools() -> None:
    calls = [CallRequest(str(n), "double", "{}") for n in range(2)]
    assert (await answer(ScriptedEngine(calls)))[-1] == Finish("tool_calls", model="scripted")


def test_its_documentation_is_true() -> None:
    assert doctest.testmod(scripted).failed == 0
    assert doctest.testmod(scripted).attempted > 5


async def test_scripts_may_come_from_anywhere() -> None:
    assert await answer(ScriptedEngine(word for word in ("a ", "b"))) == [
        TextChunk("a "),
        TextChunk("b"),
        Finish("stop", model="scripted"),
    ]


async def test_an_empty_script_finishes() -> None:
    assert await answer(ScriptedEngine([])) == [Finish("stop", model="scripted")]


async def test_an_exception_is_raised_where_it_stands() -> None:
    stream = ScriptedEngine(["half", ConnectionError("cut"), "never"]).stream(TURN)
    assert await anext(stream) == TextChunk("half")
    with pytest.raises(ConnectionError, match="cut"):
        await anext(stream)


async def test_a_number_is_a_pause() -> None:
    begun = time.monotonic()
    assert len(await answer(ScriptedEngine([0.05, "a", 0]))) == 2
    assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize("kind", [asyncio.Event, threading.Event])
async def test_an_event_is_waited_for(kind: type[asyncio.Event] | type[threading.Event]) -> None:
    go = kind()
    stream = ScriptedEngine(["one", go, "two"]).stream(TURN)
    assert await anext(stream) == TextChunk("one")
    second = asyncio.ensure_future(anext(stream))
    assert not (await asyncio.wait([second], timeout=0.03))[0]
    go.set()
    assert await second == TextChunk("two")


async def test_a_wait_can_be_cancelled() -> None:
    second = asyncio.ensure_future(anext(ScriptedEngine([threading.Event(), "never"]).stream(TURN)))
    await asyncio.wait([second], timeout=0.03)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_turn_too_many_is_the_engine_s_error() -> None:
    engine = ScriptedEngine("one")
    await answer(engine)
    with pytest.raises(EngineError, match="asked for answer number 2 and was given 1") as error:
        await answer(engine)
    assert (error.value.code, error.value.retryable) == ("no_script", False)
    assert len(engine.turns) == 2


async def test_it_is_an_engine() -> None:
    engine: Engine = ScriptedEngine()
    await engine.aclose()
    assert (engine.name, engine.model) == ("scripted", "scripted")
