"""A history that is too long loses its beginning, never its sense."""

from __future__ import annotations

import random

import pytest

from tests.middlewares.conftest import Run, answer, called, turn_of
from webchat_widget.errors import NotAllowed
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.history_limit import HistoryLimit
from webchat_widget.turns import Message

SYSTEM = Message("system", "Be brief.")


def exchange(number: int) -> list[Message]:
    return [Message("user", f"question {number}"), Message("assistant", f"answer {number}")]


def with_tools(number: int, calls: int) -> list[Message]:
    ids = [f"{number}.{call}" for call in range(calls)]
    results = [Message("tool", "42", tool_call_id=id) for id in ids]
    return [Message("user", f"task {number}"), called(*ids), *results, Message("assistant", "done")]


async def sent(limit: HistoryLimit, *messages: Message) -> tuple[Message, ...]:
    run = Run("ok")
    await run.ask(limit, turn=turn_of(*messages))
    return run.model.turns[0].messages


async def test_nothing_is_said_where_nothing_is_left_out() -> None:
    run, history = Run("ok"), [SYSTEM, *exchange(1), Message("user", "now")]
    said = await run.ask(HistoryLimit(messages=3), turn=turn_of(*history))
    assert run.model.turns[0].messages == tuple(history)
    assert (answer(said), run.rows("log")) == ("ok", [])


async def test_the_newest_go_along_with_the_system_message() -> None:
    run, history = Run("ok"), [SYSTEM, *exchange(1), *exchange(2), Message("user", "now")]
    await run.ask(HistoryLimit(messages=4), turn=turn_of(*history))
    system, *rest = run.model.turns[0].messages
    assert rest == history[3:]
    assert system.content == "Be brief.\n\n2 earlier messages were left out here."
    (row,) = run.rows("log")
    assert row["message"] == "2 earlier messages were not sent to the model."
    assert row["fields"] == {"leftOut": 2}


async def test_later_requests_of_a_run_say_it_in_the_same_row() -> None:
    run, history = Run("ok", "ok"), [*exchange(1), *exchange(2), *with_tools(3, 1)[:3]]
    await run.ask(HistoryLimit(messages=4), turn=turn_of(*history[:5]))
    run.round = 2
    await run.ask(HistoryLimit(messages=4), turn=turn_of(*history))
    assert [row["fields"] for row in run.rows("log")] == [{"leftOut": 4}]


async def test_two_limits_say_each_what_they_left_out() -> None:
    run, history = Run("ok"), [*exchange(1), *exchange(2), Message("user", "now")]
    limits = HistoryLimit(messages=4), HistoryLimit(messages=4, characters=5)
    await run.ask(*limits, turn=turn_of(*history))
    assert [row["fields"] for row in run.rows("log")] == [{"leftOut": 2}, {"leftOut": 2}]


async def test_what_the_person_said_last_and_all_after_it_is_always_sent() -> None:
    history = [*exchange(1), *with_tools(2, 9)]
    for limit in (HistoryLimit(messages=1), HistoryLimit(characters=1)):
        _, *rest = await sent(limit, *history)
        assert rest == history[2:]


async def test_characters_count_with_the_arguments_of_calls() -> None:
    history = [*with_tools(1, 1), Message("user", "now")]
    whole = sum(len(message.content) for message in history) + len("tool_1.0") + len("{}")
    assert len(await sent(HistoryLimit(characters=whole), *history)) == len(history)
    assert (await sent(HistoryLimit(characters=whole - 1), *history))[1:] == (history[-1],)


async def test_any_history_is_cut_before_a_prompt_and_to_the_limit() -> None:
    chance = random.Random(3)
    for _ in range(200):
        parts = [
            exchange(n) if chance.random() < 0.5 else with_tools(n, chance.randint(1, 4)) for n in range(8)
        ]
        history = [message for part in parts for message in part] + [Message("user", "now")]
        most = chance.randint(1, 30)
        rest = [m for m in await sent(HistoryLimit(messages=most), *history) if m.role != "system"]
        assert rest == history[-len(rest) :]
        assert rest[0].role == "user"
        assert len(rest) <= most
        longer = next(n for n in range(len(rest) + 1, 99) if n > len(history) or history[-n].role == "user")
        assert longer > most or len(rest) == len(history)


@pytest.mark.parametrize("config", [{"messages": 0}, {"messages": "40"}, {"characters": -1}, {"size": 3}])
def test_a_limit_that_is_none_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(NotAllowed, match="The config of the middleware history_limit does not fit: "):
        BUILTIN.make([{"name": "history_limit", "config": config}])
