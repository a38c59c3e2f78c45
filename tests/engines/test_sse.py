"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.engines.sse import EventReader


def read(*chunks: bytes) -> list[bytes]:
    reader = EventReader()
    found = [data for chunk in chunks for data in reader.feed(chunk)]
    return [*found, *reader.finish()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_any_of_the_three_line_ends(end: bytes) -> None:
    assert read(end.join([b"data: one", b"", b"data: two", b"", b""])) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: one\n\n", [b"one"]),
        (b"data:one\n\n", [b"one"]),
        (b"data:  one\n\n", [b" one"]),
        (b"data: first\ndata: second\n\n", [b"first\nsecond"]),
        (b"data: first\ndata:\ndata: third\n\n", [b"first\n\nthird"]),
        (b"data:\n\n", [b""]),
        (b": keep-alive\n\n", []),
        (b": keep-alive\n\ndata: one\n\n: again\n\n", [b"one"]),
        (b"data: first\n: in between\ndata: second\n\n", [b"first\nsecond"]),
        (b"event: message\nid: 7\nretry: 10\ndata: one\n\n", [b"one"]),
        (b"event: ping\n\n", []),
        (b"database: no\n\n", []),
        ("data: é 😀 \u2028 \x85\n\n".encode(), ["é 😀 \u2028 \x85".encode()]),
    ],
)
def test_what_a_stream_holds(stream: bytes, events: list[bytes]) -> None:
    assert read(stream) == events


@pytest.mark.parametrize("cut", range(6))
def test_a_byte_order_mark_is_no_text(cut: int) -> None:
    stream = b"\xef\xbb\xbfdata: one\n\n"
    assert read(stream[:cut], stream[cut:]) == [b"one"]
    assert read(b"data: \xef\xbb\xbf\n\n") == [b"\xef\xbb\xbf"], "elsewhere it is"


def test_an_event_is_given_when_its_blank_line_comes_and_not_later() -> None:
    reader = EventReader()
    assert list(reader.feed(b"data: one\n")) == []
    assert list(reader.feed(b"\ndata: tw")) == [b"one"]
    assert list(reader.feed(b"o\n\n")) == [b"two"]


def test_the_end_of_the_stream_ends_an_event_that_has_no_blank_line() -> None:
    assert read(b"data: one\n\ndata: two") == [b"one", b"two"]
    assert read(b"data: one\r") == [b"one"]


_LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data:", b"data: \xc3\xa9", b": comment", b"", b"", b"event: x", b"nonsense"]
)
_STREAMS = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])))


@given(_STREAMS, st.sets(st.integers(0, 200)))
def test_any_cut_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: set[int]) -> None:
    stream = b"".join(line + end for line, end in lines)
    points = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert read(*(stream[start:stop] for start, stop in pairwise(points))) == read(stream)


@given(_STREAMS)
def test_byte_by_byte_is_as_good_as_at_once(lines: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(line + end for line, end in lines)
    assert read(*(stream[n : n + 1] for n in range(len(stream)))) == read(stream)


@given(st.lists(st.lists(st.binary().filter(lambda line: not {10, 13} & set(line)), min_size=1)))
def test_what_was_written_is_read(events: list[list[bytes]]) -> None:
    stream = b"".join(b"".join(b"data: " + line + b"\n" for line in event) + b"\n" for event in events)
    assert read(stream) == [b"\n".join(event) for event in events]


def test_a_long_line_is_joined_once() -> None:
    """Work that grew with the square of its length would take minutes."""
    piece = b"x" * 1000
    since = time.process_time()
    assert read(b"data: ", *[piece] * 20_000, b"\r", b"\n\r\n") == [piece * 20_000]
    assert time.process_time() - since < 3
