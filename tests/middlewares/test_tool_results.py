"""Tool results stand behind the calls that they answer, whatever was done to a history."""

from __future__ import annotations

from tests.middlewares.conftest import Run, called, turn_of
from webchat_widget.middlewares.tool_results import ToolResults
from webchat_widget.turns import Message


def result(id: str, text: str) -> Message:
    return Message("tool", text, tool_call_id=id)


ASKED, GO_ON, DONE = Message("user", "go"), Message("user", "go on"), Message("assistant", "done")


def ordered(*messages: Message) -> tuple[Message, ...]:
    return ToolResults().prepare(turn_of(*messages), Run()).messages


def test_a_healthy_history_stays_as_it_is() -> None:
    history = (ASKED, called("1", "2"), result("1", "a"), result("2", "b"), DONE)
    assert ordered(*history) == history


def test_results_follow_in_the_order_of_their_calls() -> None:
    shuffled = ordered(ASKED, called("1", "2"), result("2", "b"), GO_ON, result("1", "a"))
    assert shuffled == (ASKED, called("1", "2"), result("1", "a"), result("2", "b"), GO_ON)


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    assert ordered(ASKED, called("1"), GO_ON) == (ASKED, called("1"), result("1", "(no result)"), GO_ON)


def test_a_result_that_nobody_asked_for_is_left_out() -> None:
    assert ordered(ASKED, result("9", "x"), called("1"), result("1", "a"), result("1", "again")) == (
        ASKED,
        called("1"),
        result("1", "a"),
    )


def test_ids_that_a_server_uses_again_are_told_apart_by_their_place() -> None:
    history = (ASKED, called("0", "0"), result("0", "a"), result("0", "b"), called("0"), result("0", "c"))
    assert ordered(*history) == history
    assert ordered(ASKED, called("0"), called("0"), result("0", "c")) == (
        ASKED,
        called("0"),
        result("0", "(no result)"),
        called("0"),
        result("0", "c"),
    )
