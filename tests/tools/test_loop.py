"""The tool loop: what a model asks for is done, what goes wrong is told, every end leaves things whole."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest

from tests.support.waiting import until
from tests.tools.conftest import give
from webchat_widget import tool
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import EngineError, StoreUnavailable
from webchat_widget.events import (
    CallDelta,
    CallDone,
    CallOutput,
    CallRequest,
    CallResult,
    CallStarted,
    Carried,
    EngineEvent,
    Finish,
    LogWritten,
    Retrying,
    RunEvent,
    TextDelta,
    TextEnded,
    TextStarted,
    ThinkingChunk,
)
from webchat_widget.requests import Decision
from webchat_widget.sem.frames import MAX_SEQ, Frame
from webchat_widget.sem.translator import translate
from webchat_widget.timeline.projector import Applied, Projector
from webchat_widget.timeline.store import TurnRecord
from webchat_widget.tools.approvals import Question, Verdict
from webchat_widget.tools.arguments import digest_of, parsed
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.checkpoint import Checkpoint
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.loop import CALLING_RUN, Limits, ToolLoop
from webchat_widget.tools.output import Output
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Message, ToolCall, ToolSchema, Turn
from webchat_widget.typing import Usage

PROMPT = Message("user", "1 + 1?")
CALLS = Finish("tool_calls")


class Sink:
    """Keeps what it is told. An event is told when `emit` is called; `hold` keeps its caller waiting."""

    def __init__(self) -> None:
        self.told: list[RunEvent] = []
        self.checkpoints: list[Checkpoint] = []
        self.records: list[TurnRecord] = []
        self.hold: type[RunEvent] | None = None
        self.held = asyncio.Event()

    def emit(self, *events: RunEvent, **parts: Any) -> Awaitable[None]:
        self.told += events
        self.checkpoints += [Checkpoint(**stored) for _, stored in parts.get("checkpoints", ())]
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.hold is not None and any(isinstance(event, self.hold) for event in events):
            self.held.set()
        else:
            saved.set_result(None)
        return saved

    def delta(self, event: TextDelta | CallOutput) -> None:
        self.told.append(event)

    def record(self, record: TurnRecord) -> None:
        self.records.append(record)


class Person:
    """Answers what is asked: each tool by its name; who has no answer is not answered."""

    def __init__(self, **answers: Verdict) -> None:
        self.answers = answers
        self.asked: list[Question] = []
        self.closed: list[Question] = []
        self.grants: set[str] = set()
        self.decisions: dict[str, Decision] = {}
        self.waiting = asyncio.Event()

    def granted(self, tool: str) -> bool:
        return tool in self.grants

    def expires_at(self) -> int:
        return 86_400_000

    def open(self, question: Question) -> None:
        self.asked.append(question)

    def close(self, question: Question) -> None:
        self.closed.append(question)

    async def answer(self, question: Question) -> Verdict:
        if question.tool not in self.answers:
            self.waiting.set()
            await asyncio.Event().wait()
        return self.answers[question.tool]


class NoPauses:
    """Nobody looks."""

    async def pause(self, id: str, phase: str, summary: str, seconds: float) -> None:
        raise AssertionError("no pause was asked for")


class Stage:
    """A loop, its sink, and what a person would see of it."""

    def __init__(
        self,
        *scripts: Any,
        tools: Iterable[Callable[..., Any]] = (calculate,),
        person: Person | None = None,
        **options: Any,
    ) -> None:
        if person is None:  # then it is not the subject
            tools = [tool(read_only=True)(fn) for fn in tools]
        self.person = person or Person()
        registry = ToolRegistry(map(function_tool, tools))
        self.engine = ScriptedEngine(*scripts)
        self.sink = Sink()
        self.loop = ToolLoop(
            "r",
            self.engine,
            [Message("system", "Be brief."), PROMPT],
            lambda: registry,
            self.sink,
            self.person,
            timeline=Projector(),
            pauses=NoPauses(),
            **{"clock": lambda: 0.0, **options},
        )

    async def run(self) -> Finish:
        return await asyncio.wait_for(self.loop.run(), 10)

    async def run_and_close(self, status: str = "complete") -> Finish:
        finish = await self.run()
        self.close(status, finish)
        return finish

    async def fail(self, status: str = "error") -> EngineError:
        """Run into an error, and close as a conversation does."""
        with pytest.raises(EngineError) as raised:
            await self.run()
        self.close(status)
        return raised.value

    async def stop_when(self, ready: Awaitable[Any]) -> None:
        """Run, wait, and be stopped as by a person."""
        running = asyncio.ensure_future(self.loop.run())
        waiting = asyncio.ensure_future(ready)
        await asyncio.wait({running, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert waiting.done(), "what the stop should come after never came"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        self.close("stopped")

    def close(self, status: str, finish: Finish | None = None) -> None:
        self.sink.told += self.loop.close(status, finish)
        assert self.loop.close(status, finish) == [], "what was closed is closed"
        assert_whole(self.loop.produced)
        assert_nothing_is_open(self.sink.told)

    @property
    def told(self) -> list[RunEvent]:
        return self.sink.told

    def ends(self) -> list[tuple[str, str, str | None]]:
        return [(e.id, e.status, e.text) for e in self.told if isinstance(e, TextEnded)]

    def result(self) -> tuple[str, str]:
        """Status and text of the one call."""
        (done,) = (e for e in self.told if isinstance(e, CallDone))
        (result,) = (e for e in self.told if isinstance(e, CallResult))
        assert result.call_id == done.id
        assert result.error == (None if done.status == "completed" else result.result)
        return done.status, result.result


def assert_whole(produced: Sequence[Message]) -> None:
    """The next turn can build on it: each call is answered, in order, before anything else is said."""
    open_calls: list[str] = []
    for message in produced:
        if message.role == "tool":
            assert open_calls, "a result without a call"
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert not open_calls, f"{open_calls} have no result"
            open_calls = [call.id for call in message.tool_calls]
    assert not open_calls, f"{open_calls} have no result"


def assert_nothing_is_open(told: list[RunEvent]) -> None:
    """Every row that was begun has ended, and every event is a frame that fits and can be sent."""
    timeline = Projector()
    for seq, event in enumerate(told, 1):
        if isinstance(event, TextDelta | CallOutput):
            assert event.id in timeline
            timeline.append(
                event.id, seq, event.text, "content" if isinstance(event, TextDelta) else "stdout"
            )
        else:
            frame = translate(event, seq)
            json.loads(Frame(frame).encoded())
            assert timeline.apply(frame) in (Applied.CHANGED, Applied.STALE)
    for row in timeline.rows():
        props = row["props"]
        assert props.get("streaming", False) is False, row
        assert props.get("done", True) is True, row
        if row["kind"] == "tool_call":
            assert f"{row['id']}:result" in timeline


def asks(expression: str = "1 + 1", *, id: str = "call_0") -> CallRequest:
    return CallRequest(id, "calculate", json.dumps({"expression": expression}))


def raw(arguments: str, *, name: str = "calculate") -> CallRequest:
    return CallRequest("call_0", name, arguments)


class TestText:
    async def test_pieces_become_one_message(self) -> None:
        usage = Usage(inputTokens=7, outputTokens=2, cachedTokens=1)
        finish = Finish("stop", usage, "gpt")
        stage = Stage(["Hel", "lo", finish])
        assert await stage.run_and_close() == finish
        assert stage.told == [
            TextStarted(id="r:text:1", role="assistant"),
            TextDelta("r:text:1", "assistant", "Hel"),
            TextDelta("r:text:1", "assistant", "lo"),
            TextEnded(
                id="r:text:1",
                role="assistant",
                status="complete",
                text="Hello",
                model="gpt",
                usage=usage,
                stop_reason="stop",
                duration_ms=0,
            ),
        ]
        assert stage.loop.produced == [Message("assistant", "Hello")]
        assert stage.loop.usage == usage
        assert stage.loop.has_text

    async def test_the_model_is_given_the_history_its_tools_and_a_name(self) -> None:
        stage = Stage("Hi", model="chosen")
        await stage.run_and_close()
        (turn,) = stage.engine.turns
        assert turn.messages == (Message("system", "Be brief."), PROMPT)
        assert [tool.name for tool in turn.tools] == ["calculate"]
        assert turn.model == "chosen"

    async def test_thinking_and_text_are_two_messages(self) -> None:
        stage = Stage([ThinkingChunk("h"), ThinkingChunk("m"), "Yes"])
        await stage.run_and_close()
        assert stage.ends() == [("r:thinking:1", "complete", "hm"), ("r:text:1", "complete", "Yes")]
        kinds = [type(event) for event in stage.told]
        assert kinds == [TextStarted, TextDelta, TextDelta, TextEnded, TextStarted, TextDelta, TextEnded]
        assert stage.loop.produced == [Message("assistant", "Yes")], "thoughts are not remembered"

    async def test_thinking_again_is_a_message_of_its_own(self) -> None:
        stage = Stage([ThinkingChunk("a"), "b", ThinkingChunk("c"), "d"])
        await stage.run_and_close()
        assert [id for id, _, _ in stage.ends()] == ["r:thinking:1", "r:text:1", "r:thinking:2", "r:text:2"]
        assert stage.loop.produced == [Message("assistant", "bd")]

    async def test_thoughts_alone_are_no_text(self) -> None:
        stage = Stage([ThinkingChunk("hm")])
        await stage.run_and_close()
        assert not stage.loop.has_text
        assert stage.loop.produced == []

    async def test_nothing_at_all(self) -> None:
        stage = Stage([Finish("stop")])
        await stage.run_and_close()
        assert (stage.told, stage.loop.produced, stage.loop.usage) == ([], [], None)

    async def test_what_no_reader_can_take_is_replaced(self) -> None:
        stage = Stage(["a\x00b\ud800", ThinkingChunk("\udfff"), Finish("stop", model="g\ud800")])
        await stage.run_and_close()
        assert [text for _, _, text in stage.ends()] == ["a\ufffdb\ufffd", "\ufffd"]
        assert stage.loop.produced == [Message("assistant", "a\ufffdb\ufffd")]
        assert "".join(e.text for e in stage.told if isinstance(e, TextDelta)) == "a\ufffdb\ufffd\ufffd"


class TestCalls:
    async def test_there_and_back(self) -> None:
        stage = Stage(["Let me see.", asks("6 * 7"), CALLS], ["It is ", "42."])
        finish = await stage.run_and_close()
        assert finish.reason == "stop"
        assert [type(event) for event in stage.told] == [
            *(TextStarted, TextDelta, TextEnded),
            *(CallStarted, CallResult, CallDone),
            *(TextStarted, TextDelta, TextDelta, TextEnded),
        ]
        assert stage.told[3:6] == [
            CallStarted(id="r:call:1", name="calculate", input={"expression": "6 * 7"}),
            CallResult(call_id="r:call:1", result="42"),
            CallDone(id="r:call:1", status="completed", duration_ms=0),
        ]
        assert stage.ends() == [
            ("r:text:1", "complete", "Let me see."),
            ("r:text:2", "complete", "It is 42."),
        ]

    async def test_the_second_request_holds_the_first_and_its_results(self) -> None:
        stage = Stage(["Hm.", asks("6 * 7"), CALLS], "42.")
        await stage.run_and_close()
        made = Message("assistant", "Hm.", (ToolCall("call_0", "calculate", '{"expression": "6 * 7"}'),))
        result = Message("tool", "42", tool_call_id="call_0")
        assert stage.engine.turns[1].messages == (Message("system", "Be brief."), PROMPT, made, result)
        assert stage.loop.produced == [made, result, Message("assistant", "42.")]

    async def test_several_run_at_the_same_time_and_are_told_in_order(self) -> None:
        together = threading.Barrier(3)

        def note(n: int) -> str:
            together.wait(10)  # one after the other would never come further
            return f"noted {n}"

        requests = [CallRequest(f"call_{n}", "note", f'{{"n": {n}}}') for n in (3, 1, 2)]
        stage = Stage([*requests, CALLS], "Done.", tools=[note])
        await stage.run_and_close()
        assert {e.id for e in stage.told if isinstance(e, CallDone)} == {"r:call:1", "r:call:2", "r:call:3"}
        results = [(m.tool_call_id, m.content) for m in stage.loop.produced if m.role == "tool"]
        assert results == [("call_3", "noted 3"), ("call_1", "noted 1"), ("call_2", "noted 2")]

    async def test_many_wait_until_there_is_room(self) -> None:
        running, most, lock = [0], [0], threading.Lock()
        full = threading.Event()

        def work() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                if running[0] == 8:
                    full.set()
            full.wait(10)
            with lock:
                running[0] -= 1

        requests = [CallRequest(f"call_{n}", "work", "{}") for n in range(20)]
        stage = Stage([*requests, CALLS], "Done.", tools=[work])
        await stage.run_and_close()
        assert most == [8]
        assert len([e for e in stage.told if isinstance(e, CallDone)]) == 20

    async def test_not_all_predicates_think_at_once(self) -> None:
        thinking: list[int] = []
        told = threading.Event()

        def asks_for() -> bool:
            thinking.append(1)
            told.wait(4)
            return False

        work = tool(approval=asks_for)(give("done"))
        stage = Stage([*[raw("{}", name="tool")] * 20, CALLS], "Done.", tools=[work], person=Person())
        running = asyncio.create_task(stage.run_and_close())
        await asyncio.to_thread(until, lambda: len(thinking) >= 8, "predicates")
        assert len(thinking) == 8
        told.set()
        await running
        assert len(thinking) == 20

    async def test_who_waits_for_a_person_is_in_nobody_s_way(self) -> None:
        def launch() -> None: ...

        look = tool(read_only=True)(give("seen"))
        requests = [*[raw("{}", name="launch")] * 20, raw("{}", name="tool")]
        stage = Stage([*requests, CALLS], tools=[launch, look], person=Person())
        running = asyncio.create_task(stage.loop.run())
        await asyncio.to_thread(
            until, lambda: any(isinstance(e, CallDone) for e in stage.told), "a call's end"
        )
        assert len(stage.person.asked) == 20
        running.cancel()
        await asyncio.wait({running})
        stage.close("stopped")

    async def test_ids_are_ours_for_servers_use_theirs_again(self) -> None:
        stage = Stage([asks("1 + 1"), CALLS], [asks("2 + 2"), CALLS], "Done.")
        await stage.run_and_close()
        assert [e.id for e in stage.told if isinstance(e, CallStarted)] == ["r:call:1", "r:call:2"]

    async def test_usage_of_all_requests_is_added_up(self) -> None:
        one = Usage(inputTokens=10, outputTokens=2, cachedTokens=1)
        stage = Stage([asks(), Finish("tool_calls", one)], [asks(), CALLS], ["Done.", Finish("stop", one)])
        await stage.run_and_close()
        assert stage.loop.usage == Usage(inputTokens=20, outputTokens=4, cachedTokens=2)
        assert one == Usage(inputTokens=10, outputTokens=2, cachedTokens=1)

    async def test_an_end_for_calls_without_a_call_is_a_plain_end(self) -> None:
        stage = Stage(["Hi", CALLS])
        finish = await stage.run_and_close()
        assert finish.reason == "stop"
        assert stage.loop.produced == [Message("assistant", "Hi")]

    async def test_half_a_call_at_the_length_limit_is_dropped(self) -> None:
        stage = Stage(["Let me", raw('{"expr'), Finish("length")])
        assert (await stage.run_and_close("truncated")).reason == "length"
        assert stage.ends() == [("r:text:1", "truncated", "Let me")]
        assert stage.loop.produced == [Message("assistant", "Let me")]


class TestWhatTheModelIsTold:
    """What goes wrong in a call is an answer to the model, and the run goes on."""

    async def told(self, request: CallRequest, *tools: Callable[..., Any], **options: Any) -> tuple[str, str]:
        stage = Stage([request, CALLS], "I see.", tools=tools or (calculate,), **options)
        await stage.run_and_close()
        status, text = stage.result()
        assert stage.engine.turns[1].messages[-1] == Message("tool", text, tool_call_id="call_0")
        return status, text

    async def test_an_unknown_tool(self) -> None:
        status, text = await self.told(raw("{}", name="launch"))
        assert status == "failed"
        assert "'launch'" in text
        assert "calculate" in text, "those that there are"

    async def test_a_name_without_end_is_cut(self) -> None:
        assert len((await self.told(raw("{}", name="x" * 10_000)))[1]) < 300

    @pytest.mark.parametrize(
        "arguments",
        ["{oops", "[1]", "7", '"text"', "null", '{"expression": 1e999}', "[" * 100_000, '{"a": 1} x'],
    )
    async def test_arguments_that_are_no_object(self, arguments: str) -> None:
        status, text = await self.told(raw(arguments))
        assert status == "failed"
        assert "JSON object" in text

    async def test_arguments_that_do_not_fit(self) -> None:
        status, text = await self.told(raw('{"expresion": "1"}'))
        assert status == "failed"
        assert "expression" in text

    async def test_no_arguments_are_an_empty_object(self) -> None:
        def now() -> str:
            return "noon"

        assert await self.told(raw("", name="now"), now) == ("completed", "noon")

    async def test_what_a_tool_raises_by_type_and_message(self) -> None:
        assert await self.told(asks("1/0")) == ("failed", "ZeroDivisionError: division by zero")

    async def test_what_can_t_even_say_what_it_is(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise self

        def fail() -> None:
            raise Mute

        assert await self.told(raw("{}", name="fail"), fail) == ("failed", "Mute")

    async def test_a_long_message_is_cut(self) -> None:
        def shout() -> str:
            raise ValueError("x\x00" * 100_000)

        status, text = await self.told(raw("{}", name="shout"), shout)
        assert status == "failed"
        assert len(text) <= 2000
        assert "\x00" not in text

    async def test_a_tool_that_takes_too_long(self) -> None:
        async def wait() -> None:
            await asyncio.Event().wait()

        status, text = await self.told(raw("{}", name="wait"), wait, limits=Limits(tool_seconds=0.01))
        assert status == "timed_out"
        assert "0.01 s" in text

    async def test_it_can_know_whose_tool_it_is(self) -> None:
        def beside() -> str:
            return CALLING_RUN.get()

        async def within() -> str:
            return CALLING_RUN.get()

        assert await self.told(raw("{}", name="beside"), beside) == ("completed", "r")
        assert await self.told(raw("{}", name="within"), within) == ("completed", "r")
        assert CALLING_RUN.get() == ""

    async def test_a_thread_that_takes_too_long_is_left_behind(self) -> None:
        leave = threading.Event()

        def wait() -> None:
            leave.wait(10)

        status, _ = await self.told(raw("{}", name="wait"), wait, limits=Limits(tool_seconds=0.01))
        leave.set()
        assert status == "timed_out"

    async def test_a_timeout_of_the_tool_s_own_is_a_failure(self) -> None:
        async def ask_the_weather() -> None:
            raise TimeoutError("the weather did not answer")

        status, text = await self.told(raw("{}", name="ask_the_weather"), ask_the_weather)
        assert (status, text) == ("failed", "TimeoutError: the weather did not answer")

    async def test_a_tool_that_wants_to_end_the_process(self) -> None:
        def leave() -> None:
            raise SystemExit(3)

        assert (await self.told(raw("{}", name="leave"), leave))[0] == "failed"

    async def test_output_over_the_limit_is_cut_and_says_so(self) -> None:
        def much() -> str:
            return "x" * 12_345

        status, text = await self.told(raw("{}", name="much"), much, limits=Limits(output=1000))
        assert status == "completed"
        assert text == "x" * 1000 + "\n… 11,345 characters cut"

    async def test_output_is_cleaned(self) -> None:
        def dirty() -> str:
            return "a\x00\ud800b"

        assert await self.told(raw("{}", name="dirty"), dirty) == ("completed", "a\ufffd\ufffdb")


class TestArgumentsOnTheWire:
    """A row that can't be encoded could never be stored, nor could the conversation be from then on."""

    @staticmethod
    async def shown(arguments: str) -> tuple[Any, list[Any]]:
        """What a person sees of the arguments, and what the tool was given."""
        given: list[Any] = []

        async def take(value: Any) -> str:
            given.append(value)
            return "taken"

        stage = Stage([raw(arguments, name="take"), CALLS], "Done.", tools=[take])
        await stage.run_and_close()
        (started,) = (e for e in stage.told if isinstance(e, CallStarted))
        return started.input, given

    async def test_what_hides_in_escapes_is_cleaned(self) -> None:
        shown, given = await self.shown(r'{"value": {"k\ud800": ["\udfff", "a\u0000b", "\ud83d\ude00"]}}')
        assert shown == {"value": {"k\ufffd": ["\ufffd", "a\ufffdb", "😀"]}}
        assert given == [shown["value"]]

    async def test_an_integer_that_javascript_cannot_hold_is_shown_as_text(self) -> None:
        shown, given = await self.shown(f'{{"value": [{MAX_SEQ}, {MAX_SEQ + 1}, -{10**30}, true, 0.5]}}')
        assert shown == {"value": [MAX_SEQ, str(MAX_SEQ + 1), f"-{10**30}", True, 0.5]}
        assert given == [[MAX_SEQ, MAX_SEQ + 1, -(10**30), True, 0.5]], "the tool is given the number"

    async def test_a_depth_that_no_reader_takes_is_shown_raw(self) -> None:
        deep = '{"value": ' + "[" * 500 + "]" * 500 + "}"
        assert await self.shown(deep) == (deep, [])

    async def test_an_ordinary_depth_is_fine(self) -> None:
        shown, given = await self.shown('{"value": ' + "[" * 20 + "]" * 20 + "}")
        assert isinstance(shown, dict)
        assert len(given) == 1

    async def test_raw_text_and_names_are_cleaned(self) -> None:
        stage = Stage([raw("{\ud800\x00", name="n\ud800"), CALLS], "Done.")
        await stage.run_and_close()
        (started,) = (e for e in stage.told if isinstance(e, CallStarted))
        assert (started.name, started.input) == ("n\ufffd", "{\ufffd\ufffd")


class TestLimits:
    async def test_a_model_that_always_calls_tools_is_stopped_and_told_about(self) -> None:
        stage = Stage(*[[asks(), CALLS]] * 3, limits=Limits(rounds=3))
        error = await stage.fail()
        assert (error.code, error.retryable) == ("tool_limit", False)
        assert "3 times" in error.message
        assert "max_rounds" in error.message
        assert len(stage.engine.turns) == 3
        assert len([e for e in stage.told if isinstance(e, CallDone)]) == 3

    async def test_a_model_that_asks_for_too_much_at_once_is_stopped(self) -> None:
        stage = Stage([*[asks()] * 4, CALLS], limits=Limits(calls=3))
        error = await stage.fail()
        assert (error.code, error.retryable) == ("tool_limit", False)
        assert "more than 3 tool calls" in error.message
        assert not [e for e in stage.told if isinstance(e, CallStarted)]

    async def test_a_model_that_never_stops_talking_is_stopped(self) -> None:
        stage = Stage(["x" * 600] * 1000, limits=Limits(text=1000))
        error = await stage.fail()
        assert (error.code, error.retryable) == ("text_limit", False)
        assert "1,000 characters" in error.message
        assert stage.ends() == [("r:text:1", "error", "x" * 1200)]
        assert stage.loop.produced == [Message("assistant", "x" * 1200)]

    async def test_thoughts_and_all_rounds_count_too(self) -> None:
        stage = Stage(
            [ThinkingChunk("x" * 400), "x" * 400, asks(), CALLS], ["x" * 400], limits=Limits(text=1000)
        )
        assert (await stage.fail()).code == "text_limit"

    async def test_as_much_as_is_allowed_is_allowed(self) -> None:
        stage = Stage(["x" * 1000], limits=Limits(text=1000, rounds=1))
        assert (await stage.run_and_close()).reason == "stop"


class SilentEnd:
    """An engine whose stream ends without Finish."""

    name = "silent"
    model = None

    def __init__(self, *events: EngineEvent) -> None:
        self.events = events
        self.closed = False

    async def stream(self, turn: Turn) -> Any:
        try:
            for event in self.events:
                yield event
        finally:
            self.closed = True

    async def aclose(self) -> None:
        """Nothing to let go of."""


class TestFaults:
    async def test_a_fault_keeps_what_was_said(self) -> None:
        fault = EngineError("Cut.", code="interrupted", retryable=True)
        stage = Stage(["Half", fault])
        assert await stage.fail("interrupted") is fault
        assert stage.ends() == [("r:text:1", "interrupted", "Half")]
        assert stage.loop.produced == [Message("assistant", "Half")]

    async def test_calls_of_an_answer_that_broke_off_are_not_made(self) -> None:
        stage = Stage([asks(), EngineError("Cut.", code="interrupted", retryable=True)])
        await stage.fail("interrupted")
        assert (stage.told, stage.loop.produced) == ([], [])

    async def test_a_stream_that_just_ends_was_interrupted(self) -> None:
        stage = Stage()
        stage.loop._inference._engine = SilentEnd(ThinkingChunk("hm"), asks())
        error = await stage.fail("interrupted")
        assert (error.code, error.retryable) == ("interrupted", True)
        assert stage.ends() == [("r:thinking:1", "interrupted", "hm")]

    async def test_a_fault_in_a_later_round_keeps_the_calls_before_it(self) -> None:
        stage = Stage([asks("6 * 7"), CALLS], ["It is", EngineError("x", code="interrupted", retryable=True)])
        await stage.fail("interrupted")
        assert [m.role for m in stage.loop.produced] == ["assistant", "tool", "assistant"]
        assert stage.loop.produced[-1].content == "It is"

    async def test_the_engine_s_stream_is_closed_at_once_when_the_loop_fails(self) -> None:
        engine = SilentEnd(*[ThinkingChunk("x" * 100)] * 100)
        stage = Stage(limits=Limits(text=50))
        stage.loop._inference._engine = engine
        await stage.fail()
        assert engine.closed

    async def test_a_store_that_refuses_ends_the_run(self) -> None:
        stage = Stage(["Hi"])

        def refuse(*events: RunEvent) -> Awaitable[None]:
            stage.sink.told += events
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(StoreUnavailable("The disk is full."))
            return refused

        stage.sink.emit = refuse
        with pytest.raises(StoreUnavailable):
            await stage.run()
        stage.close("error")
        assert stage.ends() == [("r:text:1", "error", "Hi")]


class TestStop:
    async def test_before_the_first_word(self) -> None:
        never = asyncio.Event()
        stage = Stage([never])
        await stage.stop_when(asyncio.sleep(0))
        assert (stage.told, stage.loop.produced) == ([], [])

    async def test_in_the_middle_of_text(self) -> None:
        stage, never = Stage(), asyncio.Event()
        spoken = asyncio.Event()

        class Speaking(ScriptedEngine):
            async def stream(self, turn: Turn) -> Any:
                async for event in super().stream(turn):
                    yield event
                    spoken.set()  # the loop has taken it, and asks for more

        stage.loop._inference._engine = Speaking(["Half an ", never, "answer"])
        await stage.stop_when(spoken.wait())
        assert stage.ends() == [("r:text:1", "stopped", "Half an ")]
        assert stage.loop.produced == [Message("assistant", "Half an ")]

    async def test_while_the_first_word_is_being_stored(self) -> None:
        stage = Stage(["Hello"])
        stage.sink.hold = TextStarted
        await stage.stop_when(stage.sink.held.wait())
        assert [type(event) for event in stage.told] == [TextStarted, TextDelta, TextEnded]
        assert stage.ends() == [("r:text:1", "stopped", "Hello")], "no message without its text"
        assert stage.loop.produced == [Message("assistant", "Hello")]

    async def test_in_the_middle_of_a_tool(self) -> None:
        entered, cancelled = threading.Event(), threading.Event()

        async def wait() -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        requests = [CallRequest(f"call_{n}", "wait", "{}") for n in range(3)]
        stage = Stage(["Hm.", *requests, CALLS], tools=[wait])
        await stage.stop_when(asyncio.to_thread(entered.wait, 10))
        assert await asyncio.to_thread(cancelled.wait, 10)
        done = [(e.id, e.status) for e in stage.told if isinstance(e, CallDone)]
        assert done == [(f"r:call:{n}", "cancelled") for n in (1, 2, 3)]
        started = [e.id for e in stage.told if isinstance(e, CallStarted)]
        assert started == ["r:call:1", "r:call:2", "r:call:3"], "each result has a call to stand under"
        assert all(e.error == "cancelled" for e in stage.told if isinstance(e, CallResult))
        assert [m.role for m in stage.loop.produced] == ["assistant", "tool", "tool", "tool"]

    async def test_between_two_calls_keeps_the_result_of_the_first(self) -> None:
        entered = threading.Event()

        async def wait() -> None:
            entered.set()
            await asyncio.Event().wait()

        stage = Stage([asks("6 * 7", id="a"), CallRequest("b", "wait", "{}"), CALLS], tools=[calculate, wait])
        await stage.stop_when(asyncio.to_thread(entered.wait))
        results = [(m.tool_call_id, m.content) for m in stage.loop.produced if m.role == "tool"]
        assert results[0] == ("a", "42")
        assert results[1][0] == "b"
        assert [e.status for e in stage.told if isinstance(e, CallDone)] == ["completed", "cancelled"]

    @pytest.mark.parametrize("moment", [TextEnded, CallStarted, CallResult])
    async def test_while_something_is_being_stored(self, moment: Any) -> None:
        stage = Stage(["Hm.", asks(id="a"), asks(id="b"), CALLS], "Done.")
        stage.sink.hold = moment
        await stage.stop_when(stage.sink.held.wait())
        assert [m.role for m in stage.loop.produced] == ["assistant", "tool", "tool"]
        assert [e.id for e in stage.told if isinstance(e, CallDone)] == ["r:call:1", "r:call:2"]
        assert [e.id for e in stage.told if isinstance(e, CallStarted)] == ["r:call:1", "r:call:2"]
        assert stage.ends() == [("r:text:1", "complete", "Hm.")]

    async def test_a_call_that_was_cancelled_has_the_time_that_it_took(self) -> None:
        entered, now = threading.Event(), [100.0]

        async def wait() -> None:
            now[0] = 101.5
            entered.set()
            await asyncio.Event().wait()

        stage = Stage([CallRequest("a", "wait", "{}"), CALLS], tools=[wait], clock=lambda: now[0])
        await stage.stop_when(asyncio.to_thread(entered.wait))
        assert [e.duration_ms for e in stage.told if isinstance(e, CallDone)] == [1500]


class TestApproval:
    """What the loop does with a tool that asks; who answers how is tests/runtime/test_approvals.py."""

    @staticmethod
    def launch(target: str = "moon") -> str:
        return f"launched to {target}"

    async def test_a_yes(self) -> None:
        person = Person(launch=Verdict("once"))
        stage = Stage([raw("{}", name="launch"), CALLS], "Done.", tools=[self.launch], person=person)
        await stage.run_and_close()
        (question,) = person.asked
        assert (question.call_id, question.tool) == ("r:call:1", "launch")
        pending = {"digest": question.digest, "expiresAt": 86_400_000, "state": "pending"}
        assert stage.told[:3] == [
            CallStarted(id="r:call:1", name="launch", input={}),
            CallDelta(id="r:call:1", patch={"status": "asking", "approval": pending}),
            CallDelta(id="r:call:1", patch={"status": "running"}),
        ]
        assert stage.result() == ("completed", "launched to moon")

    @pytest.mark.parametrize(
        ("verdict", "about"),
        [
            (Verdict("denied"), "did not allow"),
            (Verdict("denied", "Too dear."), "Too dear."),
            (Verdict("expired"), "in time"),
        ],
    )
    async def test_a_no(self, verdict: Verdict, about: str) -> None:
        person = Person(launch=verdict)
        stage = Stage([raw("{}", name="launch"), CALLS], "I see.", tools=[self.launch], person=person)
        await stage.run_and_close()
        status, text = stage.result()
        assert status == "denied"
        assert about in text

    async def test_a_tool_that_was_granted_does_not_ask(self) -> None:
        person = Person()
        person.grants.add("launch")
        stage = Stage([raw("{}", name="launch"), CALLS], "Done.", tools=[self.launch], person=person)
        await stage.run_and_close()
        assert person.asked == []
        assert stage.result()[0] == "completed"

    async def test_what_can_t_run_does_not_ask(self) -> None:
        person = Person()
        requests = [raw("{oops", name="launch"), raw("{}", name="land"), raw('{"x": 1}', name="launch")]
        stage = Stage([*requests, CALLS], "I see.", tools=[self.launch], person=person)
        await stage.run_and_close()
        assert person.asked == []

    async def test_a_stop_while_it_asks(self) -> None:
        person = Person()
        requests = [raw("{}", name="launch"), asks()]
        stage = Stage([*requests, CALLS], tools=[self.launch, calculate], person=person)
        await stage.stop_when(person.waiting.wait())
        patches = [e.patch for e in stage.told if isinstance(e, CallDelta)]
        assert patches[-1]["approval"]["state"] == "expired"
        assert [m.role for m in stage.loop.produced] == ["assistant", "tool", "tool"]
        assert person.closed

    async def test_the_digest_is_of_name_and_arguments_whatever_their_order(self) -> None:
        def digests(*calls: tuple[str, str]) -> list[str]:
            return [digest_of(name, parsed(text)) for name, text in calls]  # type: ignore[arg-type]

        same = digests(("f", '{"a": 1, "b": [2]}'), ("f", '{"b":[2],"a":1}'))
        assert same[0] == same[1]
        others = digests(
            ("f", "{}"),
            ("g", "{}"),
            ("f", '{"a": 1}'),
            ("f", '{"a": "1"}'),
            ("f", '{"a": 1.5}'),
            ("f", '{"a": true}'),
            ("f", '{"a": [1]}'),
            ("f", '{"a": "\\u00e9"}'),
        )
        assert len(set(others)) == len(others)

    async def test_a_checkpoint_comes_before_the_calls(self) -> None:
        stage = Stage(["Hm.", asks("6 * 7"), CALLS], "42.")
        await stage.run_and_close()
        (checkpoint,) = stage.sink.checkpoints
        assert (checkpoint.said, checkpoint.calls, checkpoint.rounds) == ("1 + 1?", ("r:call:1",), 1)


class TestWhatATool:
    """… tells, and how it ends."""

    async def test_prints_and_steps(self) -> None:
        def work() -> Any:
            yield 0.25
            print("one")
            yield (1.0, "done")
            return "result"

        stage = Stage([raw("{}", name="work"), CALLS], "Done.", tools=[work])
        await stage.run_and_close()
        printed = "".join(e.text for e in stage.told if isinstance(e, CallOutput))
        steps = [e.patch["progress"] for e in stage.told if isinstance(e, CallDelta)]
        assert printed == "one\n"
        assert steps[-1] == {"value": 1.0, "text": "done"}, "the last one always arrives"
        assert isinstance(stage.told[-1], TextEnded)
        assert stage.result() == ("completed", "one\nresult")

    async def test_gives_a_rich_result(self) -> None:
        class Table:
            def _repr_html_(self) -> str:
                return "<table></table>"

            def __repr__(self) -> str:
                return "a table"

        def table() -> Any:
            return Table()

        stage = Stage([raw("{}", name="table"), CALLS], "Done.", tools=[table])
        await stage.run_and_close()
        (result,) = (e for e in stage.told if isinstance(e, CallResult))
        assert (result.result, result.mime) == ("a table", {"text/html": "<table></table>"})
        assert stage.engine.turns[1].messages[-1].content == "a table"

    async def test_is_interrupted_by_a_person(self) -> None:
        def work() -> None:
            raise KeyboardInterrupt

        stage = Stage([raw("{}", name="work"), CALLS], "I see.", tools=[work])
        await stage.run_and_close()
        assert stage.result()[0] == "cancelled"

    async def test_fails_in_detail_in_the_log_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        def work() -> None:
            raise ValueError("wrong")

        stage = Stage([raw("{}", name="work"), CALLS], "I see.", tools=[work])
        await stage.run_and_close()
        assert stage.result() == ("failed", "ValueError: wrong")
        assert "Traceback" in caplog.text

    async def test_waits_for_the_kernel_without_using_up_its_time(self) -> None:
        class Waiting:
            name = "wait"
            schema = ToolSchema("wait", "", {"type": "object"})
            approval = "never"

            async def asks(self, arguments: Any) -> bool:
                return False

            async def call(self, arguments: Any, report: Any) -> Output:
                report.status("waiting")
                await asyncio.sleep(0.3)
                report.status("running")
                return Output("there")

        stage = Stage([raw("{}", name="wait"), CALLS], "Done.", limits=Limits(tool_seconds=0.2))
        stage.loop._tools = lambda: ToolRegistry([Waiting()])
        await stage.run_and_close()
        assert stage.result() == ("completed", "there")
        assert {"status": "waiting"} in [e.patch for e in stage.told if isinstance(e, CallDelta)]


class TestBadArguments:
    bad = CallRequest("b", "calculate", '{"expresion": "1"}')

    async def test_three_in_a_row_end_the_run(self) -> None:
        broken = CallRequest("b", "calculate", "{oops")
        nan = CallRequest("b", "calculate", '{"expression": NaN}')
        stage = Stage([self.bad, CALLS], [broken, CALLS], [nan, CALLS], "never")
        error = await stage.fail()
        assert error.code == "bad_tool_arguments"
        assert "3 times" in error.message
        assert len(stage.engine.turns) == 3

    async def test_a_good_one_begins_the_count_anew(self) -> None:
        stage = Stage([self.bad, CALLS], [self.bad, asks(), CALLS], [self.bad, self.bad, CALLS], "Done.")
        await stage.run_and_close()
        assert len(stage.engine.turns) == 4


class TestWhatEnginesSay:
    async def test_that_the_model_is_asked_again(self) -> None:
        stage = Stage([Retrying("The server is busy.", 2.5), "Hi"], now_ms=lambda: 1000)
        await stage.run_and_close()
        assert stage.told[0] == LogWritten(
            id="r:log:1", level="warning", message="The server is busy.", fields={"retryAt": 3500}
        )

    async def test_what_the_provider_wants_back(self) -> None:
        item = {"type": "reasoning", "encrypted": "x\x00"}
        stage = Stage([Carried(item), asks(), CALLS], [Carried({"n": 2}), "Done."])
        await stage.run_and_close()
        kept = {"type": "reasoning", "encrypted": "x\ufffd"}
        assert [m.carried for m in stage.loop.produced] == [(kept,), (), ({"n": 2},)]
        assert stage.engine.turns[1].messages[-2].carried == (kept,)

    async def test_of_an_answer_that_broke_off_nothing_is_handed_back(self) -> None:
        stage = Stage([Carried({"n": 1}), "Half", EngineError("x", code="interrupted", retryable=True)])
        await stage.fail("interrupted")
        assert stage.loop.produced == [Message("assistant", "Half")]
