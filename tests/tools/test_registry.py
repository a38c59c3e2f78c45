"""Python functions as tools."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Literal

import pytest

from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.registry import Tool, ToolRegistry, function_tool


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    For some days.
    """
    return f"{city} {days!r} {unit}"


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

    def test_of_an_async_function(self) -> None:
        async def fetch(url: str) -> str:
            """Fetch."""
            return url

        assert list(function_tool(fetch).schema.parameters["properties"]) == ["url"]

    def test_it_is_made_once(self) -> None:
        tool = function_tool(weather)
        assert tool.schema is tool.schema

    def test_a_tool_may_have_another_name_than_its_function(self) -> None:
        assert Tool("forecast", weather).schema.name == "forecast"


class TestCall:
    async def test_arguments_are_coerced(self) -> None:
        assert await function_tool(weather).call({"city": "Rome", "days": "3"}) == "Rome 3 C"

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
        with pytest.raises(ValueError, match=about):
            await function_tool(weather).call(arguments)

    async def test_an_async_function_runs_on_the_loop_s_thread(self) -> None:
        async def where(n: int) -> str:
            await asyncio.get_running_loop().run_in_executor(None, int)
            return f"{threading.current_thread().name} {n + 1}"

        assert await function_tool(where).call({"n": "1"}) == f"{threading.current_thread().name} 2"

    async def test_a_plain_function_runs_beside_it_and_holds_up_nobody(self) -> None:
        entered, leave = threading.Event(), threading.Event()

        def slow() -> str:
            entered.set()
            assert leave.wait(10), "the loop was held up"
            return threading.current_thread().name

        running = asyncio.ensure_future(function_tool(slow).call({}))
        assert await asyncio.to_thread(entered.wait, 10)
        leave.set()  # only a loop that goes on comes here
        assert await running != threading.current_thread().name

    @pytest.mark.parametrize(
        ("value", "text"),
        [("text", "text"), (7, "7"), (None, "None"), (float("nan"), "nan"), ({"a": [1]}, "{'a': [1]}")],
    )
    async def test_any_result_becomes_a_text(self, value: Any, text: str) -> None:
        def give() -> Any:
            return value

        async def give_later() -> Any:
            return value

        assert await function_tool(give).call({}) == text
        assert await function_tool(give_later).call({}) == text

    async def test_a_result_that_holds_itself(self) -> None:
        def cycle() -> list[Any]:
            found: list[Any] = [1]
            found.append(found)
            return found

        assert await function_tool(cycle).call({}) == "[1, [...]]"

    async def test_what_the_function_raises_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            await function_tool(calculate).call({"expression": "1/0"})

    async def test_what_no_future_may_carry_is_raised_as_something_else(self) -> None:
        """A StopIteration would never come out of the thread: the call would hang."""

        def first_of_nothing() -> Any:
            return next(iter([]))

        with pytest.raises(RuntimeError, match="StopIteration"):
            async with asyncio.timeout(5):
                await function_tool(first_of_nothing).call({})

    async def test_a_function_that_wants_to_end_the_process_only_fails(self) -> None:
        def leave() -> None:
            sys.exit(3)

        async def leave_later() -> None:
            sys.exit(3)

        for fn in (leave, leave_later):
            with pytest.raises(RuntimeError, match="SystemExit: 3"):
                await function_tool(fn).call({})

    async def test_an_argument_may_have_any_name(self) -> None:
        def odd(func: int, args: int, self: int) -> int:
            return func + args + self

        assert await function_tool(odd).call({"func": 1, "args": 2, "self": 3}) == "6"


class TestRegistry:
    tools = ToolRegistry([function_tool(weather), function_tool(calculate)])

    def test_tools_are_found_by_name(self) -> None:
        found = self.tools.get("weather")
        assert found is not None
        assert found.fn is weather
        assert self.tools.get("nothing") is None
        assert "weather" in self.tools
        assert "nothing" not in self.tools
        assert len(self.tools) == 2

    def test_the_model_is_told_of_all_in_order(self) -> None:
        assert [schema.name for schema in self.tools.schemas()] == ["weather", "calculate"]
        assert ToolRegistry().schemas() == ()

    def test_some_of_them(self) -> None:
        assert [tool.name for tool in self.tools.only(["calculate"])] == ["calculate"]
        assert len(self.tools.only([])) == 0
        assert len(self.tools) == 2

    def test_an_unknown_name_is_a_key_error(self) -> None:
        with pytest.raises(KeyError, match="nothing"):
            self.tools.only(["weather", "nothing"])
