"""Python functions as tools."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import pytest

from tests.tools.conftest import Told
from webchat_widget import tool
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.function import FunctionTool, function_tool
from webchat_widget.tools.output import Output, bounded
from webchat_widget.tools.registry import BadArguments, ToolCancelled, ToolRegistry


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    For some days.
    """
    return f"{city} {days!r} {unit}"


async def text_of(fn: Callable[..., Any], **arguments: Any) -> str:
    """What the model is told of a call."""
    return bounded(await function_tool(fn).call(arguments, Told()), 50_000).text


class TestSchema:
    def test_it_comes_from_signature_and_docstring(self) -> None:
        schema = function_tool(weather).schema
        assert schema.name == "weather"
        assert schema.description == "The weather of a city.\n\nFor some days."
        assert schema.parameters["type"] == "object"
        assert schema.parameters["required"] == ["city"]
        properties = schema.parameters["properties"]
        assert set(properties) == {"city", "days", "unit"}
        assert properties["city"]["type"] == "string"
        assert (properties["days"]["type"], properties["days"]["default"]) == ("integer", 1)
        assert properties["unit"]["enum"] == ["C", "F"]

    def test_of_a_function_without_parameters_and_docstring(self) -> None:
        def now() -> str:
            return ""

        schema = function_tool(now).schema
        assert schema.description == ""
        assert (schema.parameters["type"], schema.parameters["properties"]) == ("object", {})

    def test_of_async_functions_and_generators(self) -> None:
        async def fetch(url: str) -> str:
            """Fetch."""
            return url

        def steps(url: str) -> Iterator[float]:
            """Step."""
            yield 0.5

        assert list(function_tool(fetch).schema.parameters["properties"]) == ["url"]
        assert list(function_tool(steps).schema.parameters["properties"]) == ["url"]

    def test_of_a_method(self) -> None:
        class Counter:
            @tool(read_only=True)
            def add(self, n: int) -> int:
                """Add."""
                return 40 + n

        made = function_tool(Counter().add)
        assert list(made.schema.parameters["properties"]) == ["n"]
        assert made.approval == "never"
        assert made.invoke({"n": "2"}, Told()) == Output("42")

    def test_it_is_made_once(self) -> None:
        made = function_tool(weather)
        assert made.schema is made.schema

    def test_what_the_author_says_goes_before_name_and_docstring(self) -> None:
        @tool(name="forecast", description="Will it rain?")
        def f(city: str) -> str:
            """Nobody reads this."""
            return city

        schema = function_tool(f).schema
        assert (schema.name, schema.description) == ("forecast", "Will it rain?")


class TestCall:
    async def test_arguments_are_coerced(self) -> None:
        assert await text_of(weather, city="Rome", days="3") == "Rome 3 C"

    @pytest.mark.parametrize(
        ("arguments", "about"),
        [
            ({}, "city"),
            ({"city": "Rome", "days": "many"}, "days"),
            ({"city": 7}, "city"),
            ({"city": "Rome", "unit": "K"}, "unit"),
            ({"city": "Rome", "wind": 1}, "wind"),
        ],
    )
    async def test_arguments_that_do_not_fit_are_named(self, arguments: dict[str, Any], about: str) -> None:
        with pytest.raises(BadArguments, match=about) as raised:
            await function_tool(weather).call(arguments, Told())
        assert "pydantic" not in str(raised.value)
        with pytest.raises(BadArguments, match=about):
            await function_tool(weather).asks(arguments)

    async def test_a_failure_of_validation_inside_the_function_is_its_own(self) -> None:
        def outer() -> None:
            from pydantic import TypeAdapter

            TypeAdapter(int).validate_python("x")

        with pytest.raises(ValueError, match="int") as raised:
            await text_of(outer)
        assert not isinstance(raised.value, BadArguments)

    async def test_a_plain_function_runs_where_its_runner_says(self) -> None:
        ran: list[str] = []

        async def here(call: Callable[[], Output]) -> Output:
            ran.append(threading.current_thread().name)
            return call()

        def where() -> str:
            return threading.current_thread().name

        @tool(thread=True)
        def beside() -> str:
            return threading.current_thread().name

        mine = threading.current_thread().name
        assert (await FunctionTool(where, runner=here).call({}, Told())).text == mine
        assert (await FunctionTool(beside, runner=here).call({}, Told())).text != mine
        assert ran == [mine]

    async def test_a_plain_function_holds_up_nobody(self) -> None:
        entered, leave = threading.Event(), threading.Event()

        def slow() -> str:
            entered.set()
            assert leave.wait(10), "the loop was held up"
            return threading.current_thread().name

        running = asyncio.ensure_future(text_of(slow))
        assert await asyncio.to_thread(entered.wait, 10)
        leave.set()  # only a loop that goes on comes here
        assert await running != threading.current_thread().name

    async def test_an_async_function_runs_beside_on_a_loop_of_its_own(self) -> None:
        async def where(n: int) -> str:
            await asyncio.sleep(0)
            return f"{threading.current_thread().name} {n + 1}"

        name, number = (await text_of(where, n="1")).split()
        assert number == "2"
        assert name != threading.current_thread().name

    async def test_an_async_function_can_be_invoked_where_a_loop_runs(self) -> None:
        async def double(n: int) -> int:
            await asyncio.sleep(0)
            return 2 * n

        assert function_tool(double).invoke({"n": 21}, Told()) == Output("42")

    async def test_an_async_function_ends_when_its_call_is_cancelled(self) -> None:
        entered, ended = threading.Event(), threading.Event()

        async def wait() -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        running = asyncio.ensure_future(text_of(wait))
        assert await asyncio.to_thread(entered.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(ended.wait, 10)

    async def test_a_generator_ends_at_its_next_step_when_its_call_is_cancelled(self) -> None:
        entered, leave, ended = threading.Event(), threading.Event(), threading.Event()

        def steps() -> Iterator[float]:
            try:
                while True:
                    entered.set()
                    leave.wait(10)
                    yield 0.5
            finally:
                ended.set()

        running = asyncio.ensure_future(text_of(steps))
        assert await asyncio.to_thread(entered.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        leave.set()
        assert await asyncio.to_thread(ended.wait, 10)

    async def test_what_the_function_raises_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            await text_of(calculate, expression="1/0")

    async def test_what_no_future_may_carry_is_raised_as_something_else(self) -> None:
        """A StopIteration would never come out of the thread: the call would hang."""

        def first_of_nothing() -> Any:
            return next(iter([]))

        with pytest.raises(RuntimeError, match="StopIteration"):
            async with asyncio.timeout(5):
                await text_of(first_of_nothing)

    async def test_a_function_that_wants_to_end_the_process_only_fails(self) -> None:
        def leave() -> None:
            sys.exit(3)

        async def leave_later() -> None:
            sys.exit(3)

        for fn in (leave, leave_later):
            with pytest.raises(RuntimeError, match="SystemExit: 3"):
                await text_of(fn)

    async def test_an_interrupt_cancels_the_tool(self) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        with pytest.raises(ToolCancelled):
            await text_of(interrupted)

    async def test_an_argument_may_have_any_name(self) -> None:
        def odd(func: int, args: int, self: int, kwargs: int) -> int:
            return func + args + self + kwargs

        assert await text_of(odd, func=1, args=2, self=3, kwargs=4) == "10"

    async def test_arguments_that_the_function_does_not_name(self) -> None:
        def any_of(first: int, **more: int) -> str:
            return f"{first} {sorted(more.items())}"

        assert await text_of(any_of, first=1, b="2") == "1 [('b', 2)]"


class TestProgress:
    async def test_what_a_generator_yields_is_how_far_it_is(self) -> None:
        def steps() -> Iterator[Any]:
            yield 0.25
            yield "halfway"
            yield 0.5
            yield (0.75, "nearly")
            yield (None, "who knows")
            yield None
            return "there"

        told = Told()
        output = await function_tool(steps).call({}, told)
        assert output == Output("there")
        assert told.steps == [
            (0.25, ""),
            (0.25, "halfway"),
            (0.5, "halfway"),
            (0.75, "nearly"),
            (None, "who knows"),
        ]

    async def test_a_generator_that_returns_nothing_is_done(self) -> None:
        def steps() -> Iterator[float]:
            yield 1.0

        async def later() -> AsyncIterator[float]:
            yield 0.5

        told = Told()
        assert await function_tool(steps).call({}, told) == Output("done")
        assert await function_tool(later).call({}, told) == Output("done")
        assert told.steps == [(1.0, ""), (0.5, "")]

    async def test_what_is_printed_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        def say(n: int) -> None:
            print("number", n)
            print("fault", file=sys.stderr)

        async def say_later() -> None:
            await asyncio.sleep(0)
            print("later")

        told = Told()
        await function_tool(say).call({"n": 1}, told)
        await function_tool(say_later).call({}, told)
        assert told.text == "number 1\nlater\n"
        assert capsys.readouterr() == ("", "fault\n")

    async def test_the_model_is_told_what_is_printed_too(self) -> None:
        def say(value: Any = None) -> Any:
            print("one")
            print("two", end="")
            return value

        def say_nothing() -> None:
            print()

        assert await text_of(say) == "one\ntwo"
        assert await text_of(say, value=42) == "one\ntwo\n42"
        assert await text_of(say_nothing) == "done"

    async def test_a_value_has_room_beside_what_is_printed(self) -> None:
        def chatter() -> Output:
            print("x" * 1_000_000)
            print("y" * 1_000_000)
            return Output("42", {"text/html": "<b>42</b>"})

        told = Told()
        output = bounded(await function_tool(chatter).call({}, told), 50_000)
        assert len(told.text) == 2_000_002
        assert len(output.text) < 21_000
        assert output.text.endswith("x\n… 1,980,002 characters cut\n42")
        assert output.mime == {"text/html": "<b>42</b>"}


class TestApproval:
    @pytest.mark.parametrize(
        ("options", "asks"),
        [
            ({}, True),
            ({"read_only": True}, False),
            ({"approval": "never"}, False),
            ({"read_only": True, "approval": "ask"}, True),
        ],
    )
    async def test_who_is_asked(self, options: dict[str, Any], asks: bool) -> None:
        @tool(**options)
        def launch() -> None: ...

        assert await function_tool(launch).asks({}) is asks

    async def test_a_function_of_which_nobody_said_anything_asks(self) -> None:
        assert await function_tool(weather).asks({"city": "Rome"})

    async def test_a_predicate_is_given_the_coerced_arguments_by_name(self) -> None:
        seen: list[Any] = []

        def dear(amount: int, currency: str) -> bool:
            seen.append((amount, currency))
            return amount > 100

        @tool(approval=dear)
        def pay(amount: int, currency: str = "EUR") -> None: ...

        made = function_tool(pay)
        assert made.approval == "predicate"
        assert not await made.asks({"amount": "100"})
        assert await made.asks({"amount": 101, "currency": "USD"})
        assert seen == [(100, "EUR"), (101, "USD")]

    @pytest.mark.parametrize("answer", [None, True, 1, "no"])
    async def test_a_predicate_that_gives_no_clear_no_asks(self, answer: Any) -> None:
        @tool(approval=lambda: answer)
        def launch() -> None: ...

        assert await function_tool(launch).asks({})

    @pytest.mark.parametrize("fault", [ValueError, SystemExit, KeyboardInterrupt])
    async def test_a_predicate_that_fails_asks(self, fault: type[BaseException]) -> None:
        def fail(**arguments: Any) -> bool:
            raise fault

        @tool(approval=fail)
        def launch(n: int) -> None: ...

        assert await function_tool(launch).asks({"n": 1})

    async def test_a_predicate_that_thinks_for_long_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        leave = threading.Event()
        monkeypatch.setattr("webchat_widget.tools.function._ASK_SECONDS", 0.01)

        @tool(approval=lambda: not leave.wait(10))
        def launch() -> None: ...

        assert await function_tool(launch).asks({})
        leave.set()

    @pytest.mark.parametrize(
        "options", [{"approval": "always"}, {"approval": True}, {"name": "no spaces"}, {"name": ""}]
    )
    def test_options_that_make_no_sense_are_refused_at_once(self, options: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="@tool"):
            tool(**options)

    def test_it_stands_before_a_function_with_or_without_options(self) -> None:
        assert tool(weather) is weather
        del weather.__webchat_tool__  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="@tool"):
            tool("weather")  # type: ignore[call-overload]


class TestRegistry:
    tools = ToolRegistry([function_tool(weather), function_tool(calculate)])

    def test_tools_are_found_by_name(self) -> None:
        found = self.tools.get("weather")
        assert isinstance(found, FunctionTool)
        assert found.fn is weather
        assert self.tools.get("nothing") is None
        assert "weather" in self.tools
        assert "nothing" not in self.tools
        assert len(self.tools) == 2

    def test_the_model_is_told_of_all_in_order(self) -> None:
        assert [schema.name for schema in self.tools.schemas()] == ["weather", "calculate"]
        assert ToolRegistry().schemas() == ()

    def test_some_of_them(self) -> None:
        assert self.tools.only(["calculate", "nothing", "calculate"]).names == ("calculate",)
        assert len(self.tools.only([])) == 0
        assert len(self.tools) == 2

    def test_one_s_own_go_before_others_of_the_same_name(self) -> None:
        def calculate() -> None: ...

        own = ToolRegistry([function_tool(calculate)])
        both = own.over(self.tools)
        assert set(both.names) == {"weather", "calculate"}
        found = both.get("calculate")
        assert isinstance(found, FunctionTool)
        assert found.fn is calculate
