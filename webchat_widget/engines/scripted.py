"""An engine that answers what it was told to: for tests, ours and those of users, and for notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk
from webchat_widget.turns import Turn

__all__ = ["ScriptedEngine"]

Step = EngineEvent | Exception | asyncio.Event | threading.Event | float | str

_POLL_SECONDS = 0.01


class ScriptedEngine:
    """A model that says what you tell it to: the test double for notebooks, tools and code around a chat.

    It needs no network and no key, and answers the same each time. Each turn, that is each request to the
    model, takes the next script, a text or a list of steps:

    | step | what happens |
    |---|---|
    | a str | the model says this piece of its answer |
    | `ThinkingChunk(text)` | it thinks aloud |
    | `CallRequest(id, name, arguments)` | it asks for a tool; `arguments` is JSON text |
    | a number | it waits so many seconds |
    | a `threading.Event` | it waits until your test sets it (an `asyncio.Event` where the loop is yours) |
    | an exception | it fails: `EngineError(message, code=…, retryable=…)` shows `message` to the person |
    | any other engine event | as in `webchat_widget.events`; `Finish("length")` cuts the answer off |

    A script that neither fails nor says `Finish` ends well: with `Finish("tool_calls")` where it asked for a
    tool, so that the tool runs and its result comes with the next turn, else with `Finish("stop")`. A turn
    for which no script is left fails with EngineError, code `no_script`.

    `turns` holds what the model was sent, a `Turn` each: its messages, tools and model.

    In a notebook, or in a test that has a kernel::

        from webchat_widget import ChatWidget, ScriptedEngine, tool
        from webchat_widget.errors import EngineError
        from webchat_widget.events import CallRequest

        @tool(read_only=True)
        def double(number: int) -> int:
            "Twice a number."
            return 2 * number

        engine = ScriptedEngine([CallRequest("1", "double", '{"number": 21}')], "It is 42.")
        chat = ChatWidget(new=True, engine=engine, tools=[double])
        run = chat.send("Twice 21?").wait(10)
        assert run.text == "It is 42."
        assert engine.turns[1].messages[-1].content == "42"  # what the tool gave

        failing = ScriptedEngine([EngineError("The line is dead.", code="cut", retryable=False)])
        run = ChatWidget(new=True, engine=failing).send("Hello?").wait(10)
        assert run.error == "The line is dead."

    Without a chat, to test an engine's user:

    >>> import asyncio
    >>> from webchat_widget.turns import Message, Turn
    >>> async def ask(engine, prompt):
    ...     return [event async for event in engine.stream(Turn((Message("user", prompt),)))]
    >>> engine = ScriptedEngine("Hi.", ["Half", EngineError("The line is dead.", code="cut", retryable=True)])
    >>> asyncio.run(ask(engine, "Hello?"))[0]
    TextChunk(text='Hi.')
    >>> asyncio.run(ask(engine, "And now?"))
    Traceback (most recent call last):
    webchat_widget.errors.EngineError: The line is dead.
    >>> [turn.messages[-1].content for turn in engine.turns]
    ['Hello?', 'And now?']
    """

    name = "scripted"
    model = "scripted"

    def __init__(self, *scripts: str | Iterable[Step]) -> None:
        self._scripts = [[script] if isinstance(script, str) else list(script) for script in scripts]
        self.turns: list[Turn] = []

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Play the next script."""
        self.turns.append(turn)
        if not self._scripts:
            raise EngineError(
                f"The scripted engine was asked for answer number {len(self.turns)} and was given "
                f"{len(self.turns) - 1}.",
                code="no_script",
                retryable=False,
            )
        step: Step = ""
        end = "stop"
        for step in self._scripts.pop(0):
            match step:
                case Exception():
                    raise step
                case asyncio.Event():
                    await step.wait()
                case threading.Event():
                    while not step.is_set():  # noqa: ASYNC110 - set elsewhere
                        await asyncio.sleep(_POLL_SECONDS)
                case int() | float():
                    await asyncio.sleep(step)
                case str():
                    yield TextChunk(step)
                case _:
                    yield step
                    if isinstance(step, CallRequest):
                        end = "tool_calls"
        if not isinstance(step, Finish):
            yield Finish(end, model=self.model)

    async def aclose(self) -> None:
        """Nothing to let go of."""
