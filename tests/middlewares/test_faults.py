"""Middlewares are strangers' code: what goes wrong in one is told with its name and harms no conversation."""

from __future__ import annotations

import logging
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.middlewares.test_in_a_chat import double, ended, same_everywhere, seen
from tests.runtime.conftest import Start
from tests.tools.test_loop import Stage
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import EngineError
from webchat_widget.events import (
    CallRequest,
    Carried,
    Finish,
    LogWritten,
    Retrying,
    RunChanged,
    TextChunk,
)
from webchat_widget.middlewares.base import Ask, Middleware, Middlewares, RunView, Stream
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.tools.own_events import MAX_BYTES
from webchat_widget.turns import Turn
from webchat_widget.typing import Usage


class Says(Middleware, frozen=True):
    """Says something before the model does."""

    name: ClassVar[str] = "says"
    what: Any = None

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        yield self.what
        async with aclosing(ask(turn)) as said:
            async for each in said:
                yield each


class Passes(Says, frozen=True):
    """Lets all through."""

    name: ClassVar[str] = "passes"

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        async with aclosing(ask(turn)) as said:
            async for each in said:
                yield each


class Raises(Middleware, frozen=True):
    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        raise ValueError("secret")
        yield


class Prepares(Middleware, frozen=True):
    name: ClassVar[str] = "prepares"
    how: Any = None

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        prepared: Turn = self.how(turn)
        return prepared


class PreparesAndPasses(Prepares, frozen=True):
    name: ClassVar[str] = "both"

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        async with aclosing(ask(self.prepare(turn, run))) as said:
            async for each in said:
                yield each


def log(**fields: Any) -> LogWritten:
    return LogWritten(**{"id": "r:log:1", "level": "info", "message": "m", "fields": {}, **fields})


async def failure(*middlewares: Middleware) -> EngineError:
    return await Stage("Hello.", middlewares=(Passes(), *middlewares, Passes())).fail()


@pytest.mark.parametrize(
    ("middleware", "sentence"),
    [
        (Raises(), "The middleware Raises raised ValueError; the log has the traceback."),
        (Prepares(lambda _: 1 / 0), "The middleware prepares raised ZeroDivisionError; the log has"),
        (Prepares(lambda _: None), "The middleware prepares asks with NoneType, and `prepare` must return"),
        (PreparesAndPasses(lambda _: None), "The middleware both asks with NoneType"),
    ],
)
async def test_a_fault_is_told_with_the_name_of_its_middleware(
    middleware: Middleware, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        failed = await failure(middleware)
    assert (failed.code, failed.retryable) == ("middleware_failed", False)
    assert failed.message.startswith(sentence)
    assert "secret" not in failed.message
    assert ("ValueError: secret" in caplog.text) == (type(middleware) is Raises)


async def test_a_fault_of_the_model_is_no_middleware_s() -> None:
    stage = Stage(["Hel", ZeroDivisionError("mine")], middlewares=(Passes(), Passes()))
    with pytest.raises(ZeroDivisionError, match="mine"):
        await stage.run()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("text", "yielded str: what is yielded must be an event of webchat_widget.events."),
        (None, "yielded NoneType: "),
        (TextChunk, "yielded the class TextChunk: "),
        (RunChanged(id="r", status="finished"), "yielded RunChanged: "),
        (TextChunk(5), "yielded TextChunk with a field that does not fit: Expected `str`, got `int`"),  # type: ignore[arg-type]
        (Finish("stop", Usage(inputTokens=1)), "yielded Finish with a field that does not fit"),  # type: ignore[typeddict-item]
        (log(message=None), "yielded LogWritten with a field that does not fit: Expected `str`, got `null`"),
        (log(fields={"a": object()}), "yielded what can't be shown. LogWritten has fields that are no JSON"),
        (log(fields={"a": Path("x")}), "make numbers, texts, lists or dicts of the PosixPath first."),
        (log(fields={"a": Fraction(1, 3)}), "of the Fraction first."),
        (log(fields={"a": "x" * MAX_BYTES}), "yielded LogWritten of 262,20"),
        (Retrying("Soon.", float("inf")), "yielded Retrying with a field that does not fit"),
        (Carried({"a": object()}), "Carried has fields that are no JSON"),
    ],
)
async def test_what_nobody_can_take_is_refused_with_a_sentence(said: Any, sentence: str) -> None:
    failed = await failure(Says(said))
    assert failed.code == "bad_event"
    assert failed.message.startswith("The middleware says yielded ")
    assert sentence in failed.message


async def test_an_engine_that_says_such_a_thing_is_told_of_too() -> None:
    failed = await Stage(["Hel", TextChunk]).fail()
    assert failed.message.startswith("The engine scripted yielded the class TextChunk: ")


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"a": float("nan"), "b": 2**80}, {"a": None, "b": str(2**80)}),
        ({"a": ("x\ud800", {1: "\x00"})}, {"a": ["x\ufffd", {"1": "\ufffd"}]}),
    ],
)
async def test_what_can_be_shown_another_way_is(fields: dict[str, Any], shown: dict[str, Any]) -> None:
    stage = Stage("Hello.", middlewares=(Says(log(message="m\ud800", fields=fields)),))
    await stage.run_and_close()
    (written,) = (event for event in stage.told if isinstance(event, LogWritten))
    assert (written.message, written.fields) == ("m\ufffd", shown)


async def test_middlewares_see_what_a_model_says_clean() -> None:
    class Listens(Middleware, frozen=True):
        async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
            async with aclosing(ask(turn)) as said:
                async for each in said:
                    heard.append(each)
                    yield each

    heard: list[Any] = []
    call = CallRequest("1\ud800", "double", '{"n": 2, "x": "\ud800\x00"}')
    stage = Stage(
        ["a\ud800", Carried({"k": "\udfff"}), call], "Done.", tools=(double,), middlewares=(Listens(),)
    )
    await stage.run_and_close()
    assert heard[:3] == [
        TextChunk("a\ufffd"),
        Carried({"k": "\ufffd"}),
        CallRequest("1\ufffd", "double", '{"n": 2, "x": "\ufffd\ufffd"}'),
    ]


async def test_an_item_that_can_not_be_kept_is_passed_over() -> None:
    stage = Stage([Carried({"a": float("inf")}), Carried({"a": 2**80}), "Hello."])
    await stage.run_and_close()
    assert stage.loop.produced[-1].carried == ({"a": 2**80},)


class Waits(Middleware, frozen=True):
    name: ClassVar[str] = "waits"
    seconds: str

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        await run.pause("after\ud800", "\ud800" * 10_000, float(self.seconds))
        async with aclosing(ask(turn)) as said:
            async for each in said:
                yield each


class TestPauses:
    async def test_a_call_that_no_reader_could_take_is_shown_in_a_pause(self, start: Start) -> None:
        engine = ScriptedEngine([CallRequest("1", "double", '{"n": 2, "x": "\ud800\x00"}')], "Done.")
        chat = await start(engine, tools=(double,), middlewares=("step",))
        page = await chat.join()
        await chat.say("Twice 2?")
        pause = await seen(page, "debugger_pause")
        assert pause["props"]["summary"].endswith('"x": "\ufffd\ufffd"})')
        await chat.service.stop("c", None)
        assert await ended(page) == "stopped"
        await same_everywhere(start, chat, page)

    @pytest.mark.parametrize(
        ("seconds", "status"), [("inf", "cancelled"), ("nan", "expired"), ("-1", "expired")]
    )
    async def test_a_pause_is_bounded_in_all_that_it_is_made_of(
        self, start: Start, seconds: str, status: str
    ) -> None:
        chat = await start(ScriptedEngine("Hello."))
        waits = {"name": "waits", "config": {"seconds": seconds}}
        profile = Profile(slug="default", middlewares=(waits,))
        chat.service._env.profiles = Profiles(profile, middlewares=Middlewares([Waits]))
        page = await chat.join()
        await chat.say("hi")
        props = (await seen(page, "debugger_pause"))["props"]
        assert props["phase"] == "after\ufffd"
        assert props["summary"] == "\ufffd" * 3999 + "…"
        if status == "cancelled":
            await chat.service.stop("c", None)
        await ended(page)
        rows = await same_everywhere(start, chat, page)
        assert [row["status"] for row in rows["debugger_pause"]] == [status]
