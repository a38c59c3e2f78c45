"""A Python function as a tool: described by its signature and docstring, its arguments checked."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextvars import copy_context
from typing import Any, TypeVar

from webchat_widget.sem.text import clean
from webchat_widget.turns import ToolSchema
from webchat_widget.typing import JSONObject

from .capture import captured
from .decorator import options_of
from .emit import emitting
from .output import Output, output_of, own_bundle
from .registry import BadArguments, Report, ToolCancelled
from .threads import run_in_thread, said_by

__all__ = ["FunctionTool", "Runner", "function_tool"]

_T = TypeVar("_T")

Runner = Callable[[Callable[[], Output]], Awaitable[Output]]
"""Runs a call where it belongs: on a thread of its own, on a kernel's main thread."""

_PRINTED = 20_000
"""Characters of what a call prints that the model is told: the value needs room too."""
_ASK_SECONDS = 5.0
"""For so long a predicate may think about whether to ask; then a person is asked."""


class FunctionTool:
    """A `Tool` that calls `fn`; what `@tool` said about it holds.

    A plain function is run by `runner`, one that may run beside the main thread on a thread of its own, and
    so is an async one, with a loop of its own. `bundle` makes the forms of a result (`own_bundle`).

    The schema and the check of arguments are pydantic's, which comes with `openai`; it is imported when the
    first turn with tools begins.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        runner: Runner = run_in_thread,
        bundle: Callable[[Any], Mapping[str, Any]] = own_bundle,
    ) -> None:
        self.fn = fn
        self.options = options_of(fn)
        self.name = self.options.name or fn.__name__
        self._bundle = bundle
        self._schema: ToolSchema | None = None
        self._fitted: Any = None
        called = inspect.unwrap(fn)
        self._is_async = inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        self._runner = run_in_thread if self.thread else runner

    @property
    def approval(self) -> str:
        """`ask`, `each`, `never`, or `predicate`."""
        return self.options.approval if isinstance(self.options.approval, str) else "predicate"

    @property
    def thread(self) -> bool:
        """Whether it may run beside the kernel's main thread."""
        return self.options.thread or self._is_async

    @property
    def schema(self) -> ToolSchema:
        """Name, description and parameters as JSON schema."""
        if self._schema is None:
            description = self.options.description
            if description is None:
                description = inspect.getdoc(self.fn) or ""
            self._schema = ToolSchema(self.name, clean(description), self._adapter.json_schema())
        return self._schema

    async def asks(self, arguments: JSONObject) -> bool:
        """Whether a person must say yes; a predicate that fails or takes too long means yes."""
        asks = functools.partial(self.must_ask, arguments)
        if self.approval != "predicate":
            return asks()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await run_in_thread(asks)
        except TimeoutError:
            return True

    def must_ask(self, arguments: JSONObject) -> bool:
        """`asks`, on the calling thread. Raises BadArguments."""
        args, kwargs = self._coerced(arguments)
        approval = self.options.approval
        if isinstance(approval, str):
            return approval != "never"
        try:
            given = inspect.signature(self.fn).bind(*args, **kwargs)
            answer = approval(**_by_name(given))
            return answer is None or bool(answer)
        except BaseException:  # whatever a stranger's predicate does, a doubt is a question
            return True

    async def call(self, arguments: JSONObject, report: Report) -> Output:
        """Run it; see `Tool.call`."""
        attempt = _Attempt(self, arguments, report)
        try:
            return await self._runner(attempt.run)
        except asyncio.CancelledError:
            attempt.cancel()
            raise

    def invoke(self, arguments: JSONObject, report: Report) -> Output:
        """Run it to its end on the calling thread; an async function on a loop of its own.

        Raises BadArguments, ToolCancelled for a KeyboardInterrupt, RuntimeError for a SystemExit, and what
        the function raises.
        """
        return _Attempt(self, arguments, report).run()

    def _coerced(self, arguments: JSONObject) -> tuple[tuple[Any, ...], dict[str, Any]]:
        from pydantic import ValidationError

        try:
            args, kwargs = self._adapter.validate_python(arguments)
        except ValidationError as error:
            raise BadArguments(_said(error)) from None
        return args, kwargs

    @property
    def _adapter(self) -> Any:
        if self._fitted is None:
            from pydantic import TypeAdapter

            @functools.wraps(self.fn)
            def gather(*args: Any, **kwargs: Any) -> Any:
                return args, kwargs

            # The arguments, whatever the function returns and however it runs.
            self._fitted = TypeAdapter(gather)  # type: ignore[arg-type]  # a function is a type here
        return self._fitted


def function_tool(
    fn: Callable[..., Any],
    *,
    runner: Runner = run_in_thread,
    bundle: Callable[[Any], Mapping[str, Any]] = own_bundle,
) -> FunctionTool:
    """A tool that is called like the function."""
    return FunctionTool(fn, runner=runner, bundle=bundle)


class _Attempt:
    """One call of a function: it may be cancelled from another thread while it runs."""

    def __init__(self, tool: FunctionTool, arguments: JSONObject, report: Report) -> None:
        self._tool = tool
        self._arguments = arguments
        self._report = report
        self._progress = _Progress(report)
        self._printed = _Printed(report)
        self._cancelled = False
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self) -> Output:
        """Call the function, and make an output of what it prints and gives."""
        args, kwargs = self._tool._coerced(self._arguments)
        try:
            with captured(self._printed.take), emitting(self._report):
                output = output_of(self._value(self._tool.fn(*args, **kwargs)), self._tool._bundle)
        except KeyboardInterrupt as error:
            self.cancel()
            raise ToolCancelled("The tool was interrupted.") from error
        except SystemExit as error:
            raise RuntimeError(said_by(error)) from error
        return Output(output.text, output.mime, self._printed.text)

    def cancel(self) -> None:
        """End what can be ended: an async function at its next await, a generator at its next yield."""
        self._cancelled = True
        if self._waiting is not None:
            loop, task = self._waiting
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return  # it has ended

    def _value(self, given: Any) -> Any:
        """What the function gives at its end."""
        if isinstance(given, Generator):
            return self._drained(given)
        if isinstance(given, AsyncGenerator):
            return _finished(self._watched(self._drained_later(given)))
        if isinstance(given, Coroutine):
            return _finished(self._watched(given))
        return given

    def _drained(self, steps: Generator[Any, None, Any]) -> Any:
        try:
            while not self._cancelled:
                self._progress.take(next(steps))
        except StopIteration as end:
            return end.value
        finally:
            steps.close()
        raise ToolCancelled("The tool was interrupted.")

    async def _drained_later(self, steps: AsyncGenerator[Any, None]) -> None:
        try:
            async for step in steps:
                self._progress.take(step)
        finally:
            await steps.aclose()

    async def _watched(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._waiting = asyncio.get_running_loop(), task
        if self._cancelled:
            task.cancel()
        return await work


class _Printed:
    """What a call prints: it is reported at once, and its beginning is kept for the model."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._kept: list[str] = []
        self._chars = 0

    def take(self, text: str) -> None:
        self._report.stdout(text)
        if self._chars < _PRINTED:
            self._kept.append(text[: _PRINTED - self._chars])
        self._chars += len(text)

    @property
    def text(self) -> str:
        """What was printed so far."""
        text = "".join(self._kept)
        left_out = self._chars - _PRINTED
        return f"{text}\n… {left_out:,} characters cut" if left_out > 0 else text


class _Progress:
    """What a generator yields: a number is a value, a text what it is about, a pair both."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._value: float | None = None
        self._text = ""

    def take(self, step: Any) -> None:
        match step:
            case bool():
                return
            case int() | float():
                self._value = step
            case str():
                self._text = step
            case (int() | float() | None as value, str() as text):
                self._value, self._text = value, text
            case _:
                return
        self._report.progress(self._value, self._text)


def _finished(work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns, on a loop of its own: here, or on another thread where a loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    settled: list[tuple[_T | None, BaseException | None]] = []
    context = copy_context()

    def beside() -> None:
        try:
            settled.append((context.run(asyncio.run, work), None))
        except BaseException as error:
            settled.append((None, error))

    thread = threading.Thread(target=beside, name="webchat-call", daemon=True)
    thread.start()
    thread.join()
    ((value, error),) = settled
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """All arguments by their names, those that nobody gave at their defaults."""
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named


def _said(error: Any) -> str:
    """What is wrong with arguments, without pydantic's links and the values themselves."""
    faults = [
        f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "The arguments don't fit: " + "; ".join(faults[:10])
