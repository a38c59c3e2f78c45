"""Names of kernels' files: one for each conversation, on every file system."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.timeline.files import conversation_file

conv_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


def name(conv_id: str) -> str:
    return conversation_file(Path("folder"), conv_id).name


@pytest.mark.parametrize(
    ("conv_id", "expected"),
    [
        ("c", "c.sqlite"),
        ("my-project.2_b", "my-project.2_b.sqlite"),
        ("123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000.sqlite"),
        ("Foo", "foo-1cbec737.sqlite"),
        ("foo-1cbec737", "foo-1cbec737-0807dece.sqlite"),
        ("nul", "_nul.sqlite"),
        ("con.2", "_con.2.sqlite"),
        ("console", "console.sqlite"),
        ("ends.", "ends..sqlite"),
    ],
)
def test_it_is_the_conv_id_where_that_is_safe(conv_id: str, expected: str) -> None:
    assert conversation_file(Path("folder"), conv_id) == Path("folder") / expected


@given(conv_ids, conv_ids)
def test_two_conversations_never_share_a_file(one: str, other: str) -> None:
    assert (name(one).lower() == name(other).lower()) == (one == other)


@given(conv_ids)
def test_what_differs_in_case_or_looks_like_another_s_name_does_not_meet(conv_id: str) -> None:
    stem = name(conv_id).removesuffix(".sqlite")
    relatives = {conv_id, conv_id.lower(), conv_id.upper(), conv_id.swapcase()}
    if not stem.startswith("_"):
        relatives.add(stem)
    assert len({name(each) for each in relatives}) == len(relatives)


def test_the_longest_conv_id_makes_a_name_that_file_systems_take() -> None:
    assert len(name("A" * 128)) + len("-journal") < 255
