"""Thoughts in phases are rows of their own, and no part of the answer."""

from __future__ import annotations

import pytest

from tests.middlewares.conftest import Run, answer
from webchat_widget.errors import NotAllowed
from webchat_widget.events import CallRequest, Finish, ThinkingChunk
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.thinking_mode import ThinkingMode

TEXT = """\
<thinking phase="understand">
A sky.</thinking>
<thinking phase="plan">Say why.</thinking>

Rayleigh."""


def phases(run: Run) -> list[tuple[str, str, str]]:
    rows = run.rows("thinking_mode")
    assert {row["mode"] for row in rows} <= {"careful"}
    return [(row["phase"], row["reasoning"], row["status"]) for row in rows]


async def test_thoughts_are_rows_and_the_rest_is_the_answer_wherever_it_is_cut() -> None:
    for at in range(len(TEXT)):
        run = Run([TEXT[:at], TEXT[at:]] if at else [*TEXT])
        assert answer(await run.ask(ThinkingMode())) == "Rayleigh."
        assert phases(run) == [("understand", "A sky.", "completed"), ("plan", "Say why.", "completed")]


async def test_the_model_is_told_how_to_think() -> None:
    run = Run("Rayleigh.")
    await run.ask(ThinkingMode("slow", ("look", "say"), "Think in French."))
    assert "in the mode 'slow', in these phases and in this order: look, say." in run.told()
    assert '<thinking phase="look">' in run.told()
    assert run.told().endswith("\n\nThink in French.")


async def test_phases_without_a_name_have_that_which_is_next() -> None:
    run = Run("<thinking>a</thinking><thinking>b<thinking>c</thinking><thinking>d</thinking>e")
    assert answer(await run.ask(ThinkingMode())) == "e"
    assert [phase for phase, _, _ in phases(run)] == ["understand", "plan", "check", "check"]
    assert [text for _, text, _ in phases(run)] == ["a", "b", "c", "d"]


async def test_a_phase_that_has_no_end_is_cut_and_is_the_answer_where_nothing_else_is() -> None:
    run = Run('<thinking phase="plan">Rayleigh.')
    said = await run.ask(ThinkingMode())
    assert answer(said) == "Rayleigh."
    assert isinstance(said[-1], Finish)
    (row,) = run.rows("thinking_mode")
    assert (row["status"], row["success"], row["reasoning"]) == ("error", False, "Rayleigh.")
    assert row["error"] == "The model did not end this phase, so the answer has it too."


async def test_a_phase_that_has_no_end_is_no_answer_where_tools_are_asked_for() -> None:
    run = Run(["<thinking>Or is it", CallRequest("1", "look", "{}")])
    assert answer(await run.ask(ThinkingMode())) == ""
    (row,) = run.rows("thinking_mode")
    assert row["error"] == "The model did not end this phase."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Write <thinking> before your text.", "Write <thinking> before your text."),
        (
            "So:\n<thinking phase='plan'>\n Or is it </think",
            "So:\n<thinking phase='plan'>\n Or is it </think",
        ),
        (
            "<thinking>a</thinking>A <thinking> here, <Thinking> there.",
            "A <thinking> here, <Thinking> there.",
        ),
    ],
)
async def test_prose_about_a_tag_is_not_lost_to_the_answer(text: str, said: str) -> None:
    for script in ([text], [*text]):
        run = Run([*script, Finish("stop")])
        assert answer(await run.ask(ThinkingMode())) == said
        row = run.rows("thinking_mode")[-1]
        assert (row["status"], row["error"]) == (
            "error",
            "The model did not end this phase, so the answer has it too.",
        )


async def test_thoughts_that_the_model_has_anyway_go_through() -> None:
    run = Run([ThinkingChunk("hm"), "Rayleigh."])
    assert ThinkingChunk("hm") in await run.ask(ThinkingMode())


@pytest.mark.parametrize("config", [{"phases": []}, {"phases": ['a"b']}, {"phases": [""]}, {"mode": ""}])
def test_a_way_to_think_that_does_not_fit_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(NotAllowed, match="The config of the middleware thinking_mode does not fit"):
        BUILTIN.make([{"name": "thinking_mode", "config": config}])
