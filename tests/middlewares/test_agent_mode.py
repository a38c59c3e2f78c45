"""An agent changes its mode by a line that nobody sees, and stays in it."""

from __future__ import annotations

import time

import pytest

from tests.middlewares.conftest import Run, answer, tool_of, turn_of
from webchat_widget.errors import NotAllowed
from webchat_widget.events import CallRequest, Finish, TextChunk
from webchat_widget.middlewares.agent_mode import AgentMode, Mode
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.mode_lines import ModeLines

MODES = AgentMode(
    {"writer": "Write well.", "critic": Mode("The critic", "Find what is wrong.", ("look",))}, "writer"
)
TO_CRITIC = '<agent_mode reason="It is written.">critic</agent_mode>'


def changes(run: Run) -> list[tuple[str, dict[str, str]]]:
    return [(row["title"], row["data"]) for row in run.rows("agent_mode")]


async def test_a_conversation_begins_in_the_first_mode_and_nothing_is_said_of_it() -> None:
    run = Run("Hello.")
    assert answer(await run.ask(MODES)) == "Hello."
    assert run.told().startswith("You work in the mode 'writer' now.\n\nWrite well.")
    assert "The modes are: writer, critic." in run.told()
    assert changes(run) == []


async def test_a_line_changes_the_mode_for_what_comes_then() -> None:
    run = Run(f"A poem.\n{TO_CRITIC}\n", "It is bad.")
    assert answer(await run.ask(MODES)) == "A poem.\n"
    change = {"from": "writer", "to": "critic", "reason": "It is written."}
    assert changes(run) == [("The critic", change)]
    assert run.timeline.row("r:agent_mode") is not None
    assert answer(await run.ask(MODES)) == "It is bad."
    assert run.told().startswith("You work in the mode 'critic' now.\n\nFind what is wrong.")


async def test_the_change_is_found_wherever_the_text_is_cut() -> None:
    text = f"A poem.\n{TO_CRITIC}\nNext."
    for at in range(len(text)):
        run = Run([text[:at], text[at:]] if at else [*text])
        assert answer(await run.ask(MODES)) == "A poem.\nNext."
        assert [data["to"] for _, data in changes(run)] == ["critic"]


@pytest.mark.parametrize(
    "line",
    [
        "  <agent_mode>critic</agent_mode> \t",
        '<AGENT_MODE reason="a > b">\n Critic \n</agent_mode >',
        "<agent_mode>\n<agent_mode>critic</agent_mode>",
    ],
)
async def test_what_a_line_may_look_like(line: str) -> None:
    text = f"A poem.\n{line}\nNext."
    for at in range(len(text)):
        run = Run([text[:at], text[at:]] if at else [*text])
        said = answer(await run.ask(MODES))
        assert said.replace("<agent_mode>\n", "") == "A poem.\nNext."
        assert [data["to"] for _, data in changes(run)] == ["critic"]


async def test_a_line_before_the_first_word_takes_the_white_space_with_it() -> None:
    run = Run(f"\n {TO_CRITIC}\n\n Bad.")
    assert answer(await run.ask(MODES)) == "Bad."


def test_a_wish_that_never_ends_costs_what_is_new() -> None:
    def seconds(count: int) -> float:
        lines, begun = ModeLines(), time.process_time()
        for piece in ["<agent_mode ", *["x"] * count]:
            lines.feed(piece)
        return time.process_time() - begun

    seconds(1000)
    assert seconds(40_000) < 20 * seconds(4000)


async def test_a_model_that_only_changes_its_mode_goes_on_in_the_other() -> None:
    run = Run(TO_CRITIC, "It is bad.")
    said = await run.ask(MODES)
    assert answer(said) == "It is bad."
    assert len([each for each in said if isinstance(each, Finish)]) == 1
    assert "Find what is wrong." in run.told(1)


async def test_a_model_that_changes_its_mode_for_ever_is_not_asked_for_ever() -> None:
    to_writer = "<agent_mode>writer</agent_mode>"
    run = Run(TO_CRITIC, to_writer, TO_CRITIC, to_writer, TO_CRITIC)
    assert isinstance((await run.ask(MODES))[-1], Finish)
    assert len(run.model.turns) == 4


async def test_a_model_that_asks_for_a_tool_with_it_is_not_asked_again() -> None:
    run = Run([TO_CRITIC, CallRequest("1", "look", "{}")])
    said = await run.ask(MODES)
    assert [type(each).__name__ for each in said] == ["CallRequest", "AgentModeChanged", "Finish"]


async def test_a_mode_has_the_tools_that_it_names() -> None:
    run, tools = Run(TO_CRITIC, "Bad."), (tool_of("look"), tool_of("write"))
    await run.ask(MODES, turn=turn_of(tools=tools))
    assert [tuple(tool.name for tool in turn.tools) for turn in run.model.turns] == [
        ("look", "write"),
        ("look",),
    ]


async def test_the_mode_that_there_is_changes_nothing() -> None:
    run = Run("Hi\n<agent_mode> Writer </agent_mode>")
    assert answer(await run.ask(MODES)) == "Hi\n"
    assert changes(run) == []


async def test_a_mode_that_there_is_not_is_told_in_the_log() -> None:
    run = Run("Hi\n<agent_mode>poet</agent_mode>")
    assert answer(await run.ask(MODES)) == "Hi\n"
    (row,) = run.rows("log")
    assert row["message"] == "The model asked for the mode 'poet', which there is not. Modes: writer, critic."
    assert changes(run) == []


@pytest.mark.parametrize(
    "text",
    [
        "To change it I write `<agent_mode>critic</agent_mode>`.",
        "<agent_mode>critic",
        "With <agent_mode>critic</agent_mode> I change it.",
        "I write\n<agent_mode>critic</agent_mode> to change it.",
        "I write <agent_mode>critic</agent_mode>\nto change it.",
        "```\n<agent_mode>critic</agent_mode>\n```\n",
        "<agent_mode>\n<agent_mode> critic\n",
        " \n ",
        "<agent_mode>This is how\nit is done</agent_mode>",
        f"<agent_mode>{'x' * 200}</agent_mode>",
    ],
)
async def test_what_is_no_change_is_text(text: str) -> None:
    for script in (text, [*text]):
        run = Run(script)
        assert answer(await run.ask(MODES)) == text
        assert changes(run) == []


async def test_a_mode_that_is_gone_is_the_first_again() -> None:
    run = Run(f"x\n{TO_CRITIC}", "y")
    await run.ask(MODES)
    await run.ask(AgentMode({"poet": "Rhyme."}))
    assert run.told() == "You work in the mode 'poet' now.\n\nRhyme."


async def test_text_of_other_kinds_goes_through() -> None:
    run = Run([TextChunk("a"), Finish("length")])
    assert await run.ask(MODES) == [TextChunk("a"), Finish("length")]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "missing required field `modes`"),
        ({"modes": {}}, "length >= 1"),
        ({"modes": {"a": ""}, "start": "b"}, "`start` is 'b', which is none of the modes"),
        ({"modes": {"<": ""}}, "matching regex"),
        ({"modes": {"a": {"promt": ""}}}, "unknown field `promt`"),
    ],
)
def test_modes_that_do_not_fit_are_refused(config: dict[str, object], why: str) -> None:
    with pytest.raises(NotAllowed, match=why):
        BUILTIN.make([{"name": "agent_mode", "config": config}])
