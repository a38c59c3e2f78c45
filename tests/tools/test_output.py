"""What a tool gives: any value, as text and as what a card can show."""

from __future__ import annotations

import base64
import enum
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest

from webchat_widget.notebook.rich import Shown as Pieces
from webchat_widget.sem.frames import MAX_SEQ
from webchat_widget.tools.output import MAX_MIME, Output, bounded, cut, output_of, own_bundle

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Shown:
    """An object with forms of its own."""

    def __init__(self, **forms: Any) -> None:
        for name, form in forms.items():
            setattr(self, f"_repr_{name}_", lambda form=form: form)

    def __repr__(self) -> str:
        return "<shown>"


class Colour(enum.Enum):
    RED = "red"


def cycle() -> list[Any]:
    found: list[Any] = [1]
    found.append(found)
    return found


class Rude:
    def __repr__(self) -> str:
        raise ValueError("no")


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("text", "text"),
            ("", ""),
            (None, "done"),
            (7, "7"),
            (True, "true"),
            (0.5, "0.5"),
            (10**40, str(10**40)),
            (float("nan"), "NaN"),
            (float("-inf"), "-Infinity"),
            ({"a": [1, None]}, '{"a":[1,null]}'),
            ({"a": float("nan"), "b": float("inf")}, '{"a":"NaN","b":"Infinity"}'),
            ((1, 2), "[1,2]"),
            ({3}, "[3]"),
            ({(1, 2): "x"}, '{"(1, 2)":"x"}'),
            ({"é": "ü"}, '{"é":"ü"}'),
            ({"when": date(2026, 1, 2)}, '{"when":"2026-01-02"}'),
            ([Colour.RED], '["red"]'),
            (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02 03:04:00+00:00"),
            (Decimal("1.50"), "1.50"),
            (PurePosixPath("/a/b"), "/a/b"),
            (cycle(), "[1, [...]]"),
            (Shown(), "<shown>"),
            (b"\x00\x01", "b'\\x00\\x01'"),
        ],
        ids=repr,
    )
    def test_of_any_value(self, value: Any, text: str) -> None:
        assert output_of(value) == Output(text)

    def test_what_can_t_even_be_shown_says_so(self) -> None:
        assert "Rude" in output_of(Rude()).text
        assert "Rude" in output_of([Rude()]).text

    def test_a_depth_without_end(self) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        assert output_of(deep).text

    def test_an_output_is_what_it_is(self) -> None:
        output = Output("for the model", {"text/html": "<b>for you</b>"})
        assert output_of(output) is output

    def test_the_plain_form_goes_before_a_repr(self) -> None:
        made = output_of(object(), lambda value: {"text/plain": "an object"})
        assert made == Output("an object"), "and needs no bundle, for the text says it"

    def test_a_cut_says_how_much_is_missing(self) -> None:
        assert cut("x" * 100, 100) == "x" * 100
        assert cut("x" * 1100, 100) == "x" * 100 + "\n… 1,000 characters cut"

    def test_what_is_sent_is_clean(self) -> None:
        dirty = Output("a\x00\ud800", {"text/html": "b\x00", "application/json": {"k\ud800": "v\x00"}})
        clean = bounded(dirty, 1000)
        assert clean.text == "a\ufffd\ufffd"
        assert clean.mime == {"text/html": "b\ufffd", "application/json": {"k\ufffd": "v\ufffd"}}


class TestForms:
    def test_an_object_s_own(self) -> None:
        shown = Shown(html="<b>x</b>", png=PNG, svg="<svg/>", markdown="*x*", json={"a": 1})
        made = output_of(shown)
        assert made.text == "<shown>"
        assert made.mime == {
            "image/png": base64.b64encode(PNG).decode(),
            "image/svg+xml": "<svg/>",
            "text/html": "<b>x</b>",
            "text/markdown": "*x*",
            "application/json": {"a": 1},
        }
        assert next(iter(made.mime)) == "image/png", "the richest first"

    def test_a_bundle_goes_before_single_forms_and_metadata_is_left_out(self) -> None:
        class Bundled(Shown):
            def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
                return {"text/html": "<i>bundle</i>", "text/plain": "in words"}, {"text/html": {}}

        assert own_bundle(Bundled(html="<b>x</b>"))["text/html"] == "<i>bundle</i>"
        assert output_of(Bundled(html="<b>x</b>")).text == "in words"

    @pytest.mark.parametrize("fault", [ValueError, RecursionError, KeyError])
    def test_a_form_that_fails_is_one_that_is_not_there(self, fault: type[Exception]) -> None:
        class Failing(Shown):
            def _repr_html_(self) -> str:
                raise fault

        assert output_of(Failing(markdown="*x*")).mime == {"text/markdown": "*x*"}

        def bundle(value: Any) -> Any:
            raise fault

        assert output_of(object, bundle).mime is None

    def test_a_class_is_not_its_instances(self) -> None:
        assert output_of(Shown).mime is None

    def test_what_no_card_shows_is_left_out(self) -> None:
        offered = {
            "text/html": "<b>x</b>",
            "application/javascript": "alert(1)",
            "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
            "text/latex": "$x$",
            "image/bmp": "Qk0=",
        }
        assert output_of(object(), lambda value: offered).mime == {"text/html": "<b>x</b>"}
        assert bounded(Output("x", offered), 10).mime == {"text/html": "<b>x</b>"}

    @pytest.mark.parametrize("form", ["no base64!", "=", None, 7, "a"])
    def test_a_picture_that_is_none(self, form: Any) -> None:
        assert bounded(Output("x", {"image/png": form}), 10).mime is None

    def test_base64_in_lines(self) -> None:
        text = base64.encodebytes(PNG * 10).decode()
        assert bounded(Output("x", {"image/png": text}), 10).mime == {
            "image/png": base64.b64encode(PNG * 10).decode()
        }

    def test_a_text_in_lines(self) -> None:
        assert bounded(Output("x", {"text/html": ["<b>", "x</b>"]}), 10).mime == {"text/html": "<b>x</b>"}

    def test_json_that_no_reader_takes_becomes_some(self) -> None:
        value = {"big": MAX_SEQ + 1, "nan": float("nan"), "when": date(2026, 1, 2), 1: [{2}]}
        made = bounded(Output("x", {"application/json": value}), 10)
        assert made.mime == {
            "application/json": {"big": str(MAX_SEQ + 1), "nan": "NaN", "when": "2026-01-02", "1": [[2]]}
        }
        json.dumps(made.mime, allow_nan=False)
        assert bounded(Output("x", {"application/json": cycle()}), 10).mime is None

    def test_a_form_that_is_too_large_is_dropped_and_the_text_says_so(self) -> None:
        made = bounded(Output("x", {"text/html": "y" * (MAX_MIME + 1), "text/markdown": "*x*"}), 10)
        assert made.mime == {"text/markdown": "*x*"}
        assert made.text.startswith("x\n[text/html of 2,000,001 characters was left out")
        assert bounded(Output("x", {"text/html": "y" * MAX_MIME}), 10).mime is not None

    def test_all_forms_together_have_a_limit_too(self) -> None:
        kinds = ("image/svg+xml", "text/html", "text/markdown")
        made = bounded(Output("x", dict.fromkeys(kinds, "y" * MAX_MIME)), 10)
        assert made.mime is not None
        assert list(made.mime) == ["image/svg+xml", "text/html"]

    def test_bounding_twice_changes_nothing(self) -> None:
        once = bounded(output_of(Shown(html="<b>x</b>", png=PNG)), 1000)
        assert bounded(once, 1000) == once


@pytest.mark.parametrize(
    ("value", "displayed", "told"),
    [(None, "", "one"), (None, "<table>", "one\n<table>"), (42, "", "one\n42"), (42, "<table>", "one\n42")],
)
def test_what_was_printed_comes_first(value: Any, displayed: str, told: str) -> None:
    output = output_of(value)
    pieces = Pieces()
    if displayed:
        pieces.add({"text/plain": displayed})
    printed = Output(output.text, output.mime, "one\n")
    assert bounded(pieces.within(printed), 1000) == Output(told)
    assert bounded(printed, 2).text.startswith("on\n… ")
