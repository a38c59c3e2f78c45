"""Text is counted as JavaScript counts it, and cut text joins again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.sem.text import Rope, clean, utf16_len, utf16_prefix

# Much of it beyond U+FFFF, where the two ways to count differ.
texts = st.text(
    st.one_of(st.sampled_from("ab é\n"), st.sampled_from("😀𝔸👩"), st.characters(exclude_categories=["Cs"]))
)


def js_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a\x00b", "a\ufffdb"),
        ("é\x00", "é\ufffd"),
        ("\ud83d", "\ufffd"),
        ("a\udc00b\ud800", "a\ufffdb\ufffd"),
        ("whole 😀 stays", "whole 😀 stays"),
        ("tab\tand\nline\x1b[0m", "tab\tand\nline\x1b[0m"),
    ],
)
def test_what_no_reader_can_take_becomes_a_replacement_character(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text(st.characters(), max_size=50))
def test_clean_text_can_always_be_sent(raw: str) -> None:
    cleaned = clean(raw)
    assert cleaned.encode("utf-8").decode() == cleaned
    assert "\x00" not in cleaned
    assert len(cleaned) == len(raw)
    assert clean(cleaned) == cleaned


@given(texts)
def test_lengths_are_those_of_javascript(text: str) -> None:
    assert utf16_len(text) == js_length(text)


@given(texts, st.integers(0, 60))
def test_a_prefix_is_as_long_as_asked_for_and_never_halves_a_pair(text: str, units: int) -> None:
    prefix = utf16_prefix(text, units)
    assert text.startswith(prefix)
    asked = min(units, js_length(text))
    assert asked - js_length(prefix) in (0, 1)
    if js_length(prefix) < asked:
        assert text[len(prefix)] > "\uffff", "only a pair may be left out"


class TestRope:
    def test_text_at_the_end_is_appended(self) -> None:
        rope = Rope("a😀")
        assert rope.splice(3, "b")
        assert (rope.text(), rope.units) == ("a😀b", 4)

    def test_text_beyond_the_end_is_a_gap_and_changes_nothing(self) -> None:
        rope = Rope("abc")
        assert not rope.splice(4, "x")
        assert (rope.text(), rope.units) == ("abc", 3)

    def test_an_overlap_adds_only_what_is_new(self) -> None:
        rope = Rope("hello")
        assert rope.splice(3, "lo world")
        assert (rope.text(), rope.units) == ("hello world", 11)

    def test_what_is_there_is_never_made_shorter(self) -> None:
        rope = Rope("hello")
        assert rope.splice(0, "hel")
        assert (rope.text(), rope.units) == ("hello", 5)

    def test_an_empty_rope_has_no_text(self) -> None:
        assert (Rope().text(), Rope().units) == ("", 0)

    def test_replaced_text_counts_anew(self) -> None:
        rope = Rope("hello")
        rope.replace("😀")
        assert (rope.text(), rope.units) == ("😀", 2)

    @given(texts, st.data())
    def test_any_cut_of_a_text_joins_to_the_text(self, text: str, data: st.DataObject) -> None:
        """Pieces in order, each reaching back as far as it likes, some of them twice."""
        rope, end = Rope(), 0
        while end < len(text):
            stop = data.draw(st.integers(end + 1, len(text)), "stop")
            start = data.draw(st.integers(0, end), "start")
            for _ in range(data.draw(st.integers(1, 2), "times")):
                assert rope.splice(js_length(text[:start]), text[start:stop])
            if data.draw(st.booleans(), "read"):
                assert rope.text() == text[:stop]
            end = stop
        assert rope.text() == text
        assert rope.units == js_length(text)

    @given(texts, texts, st.data())
    def test_a_late_piece_changes_nothing(self, text: str, more: str, data: st.DataObject) -> None:
        rope = Rope(text)
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, len(text)))
        rope.splice(js_length(text[:start]), text[start:stop])
        assert (rope.text(), rope.units) == (text, js_length(text))
        rope.append(more)
        assert (rope.text(), rope.units) == (text + more, js_length(text + more))
