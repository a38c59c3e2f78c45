"""Tags in a stream: found wherever it is cut, and left alone where they are examples."""

from __future__ import annotations

import random
import time

import pytest

from webchat_widget.middlewares.tags import Closed, Inside, Opened, Outside, Tags

FENCE = "```"


def parsed(*pieces: str) -> list[tuple[str, str]]:
    """What the pieces are, with neighbours of one kind joined."""
    tags, found = Tags("mark"), list[tuple[str, str]]()
    for part in [part for piece in pieces for part in tags.feed(piece)] + list(tags.end()):
        match part:
            case Outside(text) | Inside(text):
                kind = "out" if isinstance(part, Outside) else "in"
                assert text
                if found and found[-1][0] == kind:
                    text = found.pop()[1] + text
                found.append((kind, text))
            case Opened():
                found.append(("open", ",".join(f"{k}={v}" for k, v in part.attributes.items())))
            case Closed():
                found.append(("close", ""))
    return found


OPEN, CLOSE = ("open", ""), ("close", "")
TEXTS = {
    "just text, 1 < 2 and <b>bold</b>": [("out", "just text, 1 < 2 and <b>bold</b>")],
    "<mark>a</mark>b": [OPEN, ("in", "a"), CLOSE, ("out", "b")],
    "\n <mark>a</mark>\n\nb\n": [OPEN, ("in", "a"), CLOSE, ("out", "b\n")],
    "\n b": [("out", "\n b")],
    " \n": [("out", " \n")],
    'x <MARK kind="a > b" n=3>in\nside</mark > y': [
        ("out", "x "),
        ("open", "kind=a > b,n=3"),
        ("in", "in\nside"),
        CLOSE,
        ("out", " y"),
    ],
    "one\n<mark>a</mark>  \ntwo\n\n<mark>b</mark>\n\nthree": [
        ("out", "one\n"),
        OPEN,
        ("in", "a"),
        CLOSE,
        ("out", "two\n\n"),
        OPEN,
        ("in", "b"),
        CLOSE,
        ("out", "\nthree"),
    ],
    "<mark>a<mark kind='2'>b</mark></mark>c": [
        OPEN,
        ("in", "a"),
        CLOSE,
        ("open", "kind=2"),
        ("in", "b"),
        CLOSE,
        ("out", "c"),
    ],
    "<mark>a < b </mar": [OPEN, ("in", "a < b </mar")],
    "x <marker>y</marker> <mark\n": [("out", "x <marker>y</marker> <mark\n")],
    "write `<mark>a</mark>` so": [("out", "write `<mark>a</mark>` so")],
    "a ` here\n<mark>b</mark>": [("out", "a ` here\n"), OPEN, ("in", "b"), CLOSE],
    f"so:\n{FENCE}html\n<mark>a</mark>\n{FENCE}\n<mark>b</mark>": [
        ("out", f"so:\n{FENCE}html\n<mark>a</mark>\n{FENCE}\n"),
        OPEN,
        ("in", "b"),
        CLOSE,
    ],
    f"~~~\n{FENCE}\n<mark>a</mark>\n~~~\n<mark>b</mark>": [
        ("out", f"~~~\n{FENCE}\n<mark>a</mark>\n~~~\n"),
        OPEN,
        ("in", "b"),
        CLOSE,
    ],
    f"<mark>{FENCE}</mark>\n<mark>b</mark>": [OPEN, ("in", FENCE), CLOSE, OPEN, ("in", "b"), CLOSE],
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_means_the_same_wherever_it_is_cut(text: str) -> None:
    assert parsed(text) == TEXTS[text]
    assert parsed(*text) == TEXTS[text]
    for at in range(len(text)):
        for to in range(at, len(text)):
            assert parsed(text[:at], text[at:to], text[to:]) == TEXTS[text]


def test_nothing_is_lost_of_a_text_without_tags() -> None:
    chance = random.Random(7)
    for _ in range(300):
        text = "".join(chance.choices("<>/mark `~\n\"'ab", k=40)).replace("<mark", "").replace("</mark", "")
        cuts = sorted(chance.choices(range(len(text) + 1), k=5))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert "".join(part for _, part in parsed(*pieces)) == text


def test_what_can_be_no_tag_any_more_is_let_go_at_once() -> None:
    tags = Tags("mark")
    assert list(tags.feed("a <ma")) == [Outside("a ")]
    assert list(tags.feed("p")) == [Outside("<map")]
    assert list(tags.feed("<mark ")) == []
    assert list(tags.feed("x" * 600)) == [Outside("<mark " + "x" * 600)]


def test_a_long_thought_costs_what_is_new() -> None:
    def seconds(count: int) -> float:
        tags, begun = Tags("mark"), time.process_time()
        for piece in ["<mark>", *["< x"] * count]:
            list(tags.feed(piece))
        return time.process_time() - begun

    seconds(1000)
    assert seconds(40_000) < 20 * seconds(4000)
