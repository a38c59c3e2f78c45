"""The small parts that both styles share: thoughts in the text, messages fit to send, waits."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.engines.history import sendable
from webchat_widget.engines.retries import LONGEST, PAUSES, Retries, asked_wait
from webchat_widget.engines.thoughts import Thoughts
from webchat_widget.events import TextChunk, ThinkingChunk
from webchat_widget.turns import Image, Message, ToolCall


def test_a_thought_without_an_end_is_kept_whole() -> None:
    thoughts = Thoughts()
    pieces = [" <th", "ink>", "\nis a tag </th"]
    assert [*thoughts.feed(pieces[0])] == [*thoughts.feed(pieces[1])] == []
    assert [*thoughts.feed(pieces[2])] == [ThinkingChunk("\nis a tag ")]
    assert thoughts.unclosed == "".join(pieces)
    assert [*thoughts.feed("ink>")] == []
    assert thoughts.unclosed == ""


def parted(*pieces: str) -> tuple[str, str]:
    """The thought and the text of pieces."""
    thoughts = Thoughts()
    chunks = [chunk for piece in pieces for chunk in thoughts.feed(piece)] + [*thoughts.end()]
    assert all(chunk.text for chunk in chunks)
    thought = "".join(chunk.text for chunk in chunks if not isinstance(chunk, TextChunk))
    return thought, "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk))


CASES = {
    "<think>\nhm\n</think>\n\nHi": ("hm", "Hi"),
    "\n <think>hm</think>Hi <think>x</think>": ("hm", "Hi <think>x</think>"),
    "<think></think>Hi": ("", "Hi"),
    "<think>a < b </thin </think>c": ("a < b </thin ", "c"),
    "<think>never ends": ("never ends", ""),
    "<think>cut off </th": ("cut off </th", ""),
    "<thinking>Hi": ("", "<thinking>Hi"),
    "  Hi": ("", "  Hi"),
    "Say <think>": ("", "Say <think>"),
    "<thi": ("", "<thi"),
    " \n": ("", " \n"),
    "": ("", ""),
}


@pytest.mark.parametrize("whole", CASES)
def test_thoughts_are_parted_from_text(whole: str) -> None:
    assert parted(whole) == CASES[whole]


@given(st.sampled_from(sorted(CASES)), st.sets(st.integers(1, 40)))
def test_however_it_is_cut(whole: str, cuts: set[int]) -> None:
    """But for the line ends about a thought: those that have gone out stay."""
    points = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    thought, text = parted(*(whole[start:stop] for start, stop in pairwise(points)))
    assert (thought.strip("\n"), text.lstrip("\n") if thought else text) == CASES[whole]


def calls(*ids: str, arguments: str = "{}") -> Message:
    return Message("assistant", "", tuple(ToolCall(name, "t", arguments) for name in ids))


def results(*ids: str) -> list[Message]:
    return [Message("tool", str(number), tool_call_id=name) for number, name in enumerate(ids)]


def test_ids_are_distinct_and_results_stay_with_their_calls() -> None:
    history = [calls("a", "a"), *results("a", "a"), calls("a"), *results("a")]
    sent = [*sendable(history)]
    asked = [call.id for message in sent for call in message.tool_calls]
    assert asked == ["a", "a_2", "a_3"]
    assert [message.tool_call_id for message in sent if message.role == "tool"] == asked


def test_between_a_result_and_a_prompt_is_an_answer() -> None:
    prompt = Message("user", "And now?")
    roles = [message.role for message in sendable([calls("a", "b"), *results("a", "b"), prompt, prompt])]
    assert roles == ["assistant", "tool", "tool", "assistant", "user", "user"]


@pytest.mark.parametrize("arguments", ["", "{", "[]", "7", '{"a": NaN}', '{"a": 1e999}', '{"a": ' * 5000])
def test_arguments_that_no_template_takes_are_replaced(arguments: str) -> None:
    (message,) = sendable([calls("a", arguments=arguments)])
    assert message.tool_calls[0].arguments == "{}"


def test_all_else_stays() -> None:
    history = [
        Message("user", "hi", images=(Image("image/png", "aGk="),)),
        Message("assistant", "x", (ToolCall("a", "t", '{"n":1}'),), carried=({"item": {}},)),
        Message("tool", "1", tool_call_id="a"),
        Message("tool", "1", tool_call_id="of nobody"),
    ]
    assert [*sendable(history)] == history


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "12"}, 0.25),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2),
    ],
    ids=str,
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_a_date_beyond_all_calendars_says_nothing() -> None:
    assert asked_wait({"retry-after": f"Fri, 31 Dec {10**20} 23:59:59 GMT"}) is None


def test_a_date_to_wait_for() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    wait = asked_wait({"retry-after": date})
    assert wait is not None
    assert 25 < wait <= 30


def test_two_retries_with_pauses_of_their_own() -> None:
    random.seed(7)
    retries = Retries()
    waits = [retries.wait(None) for _ in range(3)]
    assert waits[2] is None
    for wait, pause in zip(waits, PAUSES, strict=False):
        assert wait is not None
        assert 0.75 * pause <= wait <= 1.25 * pause


def test_waits_have_a_limit_in_all() -> None:
    retries = Retries()
    assert retries.wait(LONGEST - 1) == LONGEST - 1
    assert retries.wait(2.0) is None
    assert Retries().wait(LONGEST + 1) is None
