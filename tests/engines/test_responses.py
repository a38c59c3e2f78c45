"""The protocol of the Responses API, with no wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from webchat_widget.engines.responses import OPTIONAL, Answer, request
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, Carried, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Image, Message, ToolCall, ToolSchema, Turn
from webchat_widget.typing import Usage

DONE = {"type": "response.completed", "response": {"status": "completed"}}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "secret"}


def text(delta: Any, index: int | None = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "delta": delta}


def thought(delta: str, kind: str = "reasoning_summary_text", index: int = 0) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": delta}


def added(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def finished(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def call(call_id: str, arguments: Any = "", name: str = "t") -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def events(*data: dict[str, Any] | bytes) -> list[EngineEvent]:
    """All that the answer gives, its end included."""
    answer = Answer("asked-for")
    found: list[EngineEvent] = []
    for each in data:
        found += answer.read(each if isinstance(each, bytes) else json.dumps(each).encode())
    return [*found, *answer.end()]


def error(*data: dict[str, Any] | bytes) -> EngineError:
    with pytest.raises(EngineError) as raised:
        events(*data)
    return raised.value


class TestText:
    def test_each_piece_as_it_comes(self) -> None:
        assert events(text("Hi "), text("😀"), DONE) == [
            TextChunk("Hi "),
            TextChunk("😀"),
            Finish("stop", None, "asked-for"),
        ]

    @pytest.mark.parametrize("kind", ["reasoning_summary_text", "reasoning_text"])
    def test_thoughts(self, kind: str) -> None:
        assert events(thought("hm", kind), text("Hi", 1), DONE)[:-1] == [ThinkingChunk("hm"), TextChunk("Hi")]

    def test_the_parts_of_a_summary_are_paragraphs(self) -> None:
        part = {"type": "response.reasoning_summary_part.added", "output_index": 0}
        found = events(part, thought("one"), part, thought("two "), thought("more"), DONE)
        assert found[:-1] == [ThinkingChunk("one"), ThinkingChunk("\n\ntwo "), ThinkingChunk("more")]

    def test_a_server_that_sends_whole_items(self) -> None:
        message = {
            "type": "message",
            "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": " No."}],
        }
        reasoning = {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]}
        found = events(finished(reasoning), finished(message, 1), DONE)
        assert found[:-1] == [
            ThinkingChunk("a"),
            ThinkingChunk("\n\nb"),
            TextChunk("Hi"),
            TextChunk(" No."),
        ]
        assert isinstance(found[-1], Finish)
        assert found[-1].refused

    def test_what_came_in_pieces_is_not_said_again(self) -> None:
        message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
        assert events(text("Hi"), finished(message), DONE)[:-1] == [TextChunk("Hi")]

    def test_a_server_that_sends_the_answer_as_one(self) -> None:
        message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
        whole = {"type": "response.completed", "response": {"output": [message, call("a", "{}")]}}
        assert events(whole)[:-1] == [TextChunk("Hi"), CallRequest("a", "t", "{}")]

    @pytest.mark.parametrize(
        "data",
        [{}, {"type": "response.new", "delta": [1], "item": None}, text(None), text(""), {"type": "ping"}],
        ids=json.dumps,
    )
    def test_what_says_nothing_is_ignored_and_no_sign_of_life(self, data: dict[str, Any]) -> None:
        answer = Answer("m")
        assert list(answer.read(json.dumps(data).encode())) == []
        assert answer.heard == 0
        assert events(text("a"), data, text("b"), DONE)[:-1] == [TextChunk("a"), TextChunk("b")]


class TestCalls:
    def test_two_whose_pieces_are_mixed_come_by_their_place(self) -> None:
        def piece(index: int, delta: str) -> dict[str, Any]:
            kind = "response.function_call_arguments.delta"
            return {"type": kind, "output_index": index, "delta": delta}

        found = events(
            added(call("a"), 1),
            added(call("b"), 2),
            piece(2, '{"n"'),
            piece(1, '{"n": 1}'),
            piece(2, ": 2}"),
            DONE,
        )
        assert found[:-1] == [CallRequest("a", "t", '{"n": 1}'), CallRequest("b", "t", '{"n": 2}')]
        assert found[-1] == Finish("tool_calls", None, "asked-for")

    @pytest.mark.parametrize("index", [0, None])
    def test_arguments_may_come_whole_and_as_an_object(self, index: int | None) -> None:
        found = events(added(call("a"), index), finished(call("a", {"n": 1}), index), DONE)
        assert found[:-1] == [CallRequest("a", "t", '{"n": 1}')]
        done = {"type": "response.function_call_arguments.done", "output_index": index, "arguments": "{}"}
        assert events(added(call("a"), index), done, DONE)[:-1] == [CallRequest("a", "t", "{}")]

    def test_an_id_is_there_once(self) -> None:
        found = events(finished(call("a", "{}"), 0), finished(call("a", "{}"), 1), DONE)
        assert found[:-1] == [CallRequest("a", "t", "{}"), CallRequest("a_2", "t", "{}")]

    @pytest.mark.parametrize(
        ("reason", "means"),
        [("max_output_tokens", "length"), ("content_filter", "content_filter"), (None, "length")],
    )
    def test_half_a_call_is_dropped(self, reason: str | None, means: str) -> None:
        cut = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}}
        assert events(added(call("a")), cut) == [Finish(means, None, "asked-for")]


class TestThoughtsThatAreHandedBack:
    def test_each_to_its_place(self) -> None:
        first, second = ({**REASONING, "id": name} for name in ("rs_1", "rs_2"))
        found = events(
            finished(first, 0), text("Hi", 1), finished(second, 2), finished(call("a", "{}"), 3), DONE
        )
        carried = tuple(event.item for event in found if isinstance(event, Carried))
        message = Message("assistant", "Hi", (ToolCall("a", "t", "{}"),), carried=carried)
        sent = request(Turn((message, Message("tool", "2", tool_call_id="a"))), "m")["input"]
        assert sent == [
            first,
            {"role": "assistant", "content": "Hi"},
            second,
            {"type": "function_call", "call_id": "a", "name": "t", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "2"},
        ]

    def test_between_calls(self) -> None:
        found = events(
            finished(call("a", "{}"), 0), finished(REASONING, 1), finished(call("b", "{}"), 2), DONE
        )
        carried = tuple(event.item for event in found if isinstance(event, Carried))
        calls = (ToolCall("a", "t", "{}"), ToolCall("b", "t", "{}"))
        sent = request(Turn((Message("assistant", "", calls, carried=carried),)), "m")["input"]
        assert [item["type"] for item in sent] == ["function_call", "reasoning", "function_call"]

    def test_what_nothing_followed_is_not_sent(self) -> None:
        """A run that was stopped while the model thought."""
        (carried,) = (event.item for event in events(finished(REASONING), DONE)[:-1])  # type: ignore[union-attr]
        assert request(Turn((Message("assistant", carried=(carried,)),)), "m")["input"] == []

    def test_a_summary_alone_is_of_no_use_to_the_server(self) -> None:
        summary = {"type": "reasoning", "summary": [{"text": "a"}], "encrypted_content": None}
        assert events(finished(summary), DONE)[:-1] == [ThinkingChunk("a")]

    def test_empty_fields_are_left_out(self) -> None:
        (carried, _) = events(finished({**REASONING, "status": None}), DONE)
        assert carried == Carried({"before": 0, "item": REASONING})


class TestEnd:
    def test_usage_and_the_model(self) -> None:
        usage = {"input_tokens": 7, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 5}}
        done = {"type": "response.completed", "response": {"model": "m-2", "usage": usage}}
        assert events(done) == [Finish("stop", Usage(inputTokens=7, outputTokens=2, cachedTokens=5), "m-2")]

    @pytest.mark.parametrize("data", [[], [b"[DONE]"], [{"type": "response.in_progress", "response": {}}]])
    def test_without_an_end_it_was_interrupted(self, data: list[Any]) -> None:
        assert error(text("Half"), *data).code == "interrupted"

    @pytest.mark.parametrize(
        "data",
        [
            {"type": "error", "code": "server_error", "message": "key sk-secret"},
            {"type": "error", "error": {"code": "server_error", "message": "key sk-secret"}},
            {"error": {"message": "key sk-secret"}},
            {"type": "response.failed", "response": {"error": {"code": "x", "message": "key sk-secret"}}},
            {"type": "response.failed", "response": {"error": None}},
        ],
        ids=json.dumps,
    )
    def test_a_failure_is_said_without_its_words(self, data: dict[str, Any]) -> None:
        fault = error(text("a"), data)
        assert (fault.code, fault.retryable) == ("model_server_error", True)
        assert "sk-secret" not in fault.message

    @pytest.mark.parametrize("data", [b"{", b"[]", b'{"type": 7}', b'{"item": 7}', text(7), text("\udfff")])
    def test_what_is_not_the_protocol(self, data: Any) -> None:
        if data == text("\udfff"):
            assert events(data, DONE)[0] == TextChunk("\udfff"), "the loop replaces it"
        else:
            assert error(data).code == "protocol_error"


class TestRequest:
    def test_a_turn(self) -> None:
        turn = Turn(
            (
                Message("system", "Be brief."),
                Message("user", "What?", images=(Image("image/png", "aGk="),)),
                Message("assistant", "That."),
            ),
            (ToolSchema("t", "Does.", {"type": "object"}),),
        )
        picture = {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}
        assert request(turn, "gpt") == {
            "model": "gpt",
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "What?"}, picture]},
                {"role": "assistant", "content": "That."},
            ],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "reasoning": {"summary": "auto"},
            "tools": [
                {
                    "type": "function",
                    "name": "t",
                    "description": "Does.",
                    "parameters": {"type": "object"},
                    "strict": False,
                }
            ],
        }

    def test_without_what_the_server_refused(self) -> None:
        message = Message("assistant", "Hi", carried=({"before": 0, "item": REASONING},))
        body = request(Turn((message,)), "gpt", OPTIONAL)
        assert body == {
            "model": "gpt",
            "input": [{"role": "assistant", "content": "Hi"}],
            "stream": True,
            "store": False,
        }

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            ("input[2].encrypted_content", "carried"),
            ("code invalid_encrypted_content", "carried"),
            ("include", "include"),
            ("Encrypted content is not supported with this model.", "include"),
            ("reasoning.summary", "reasoning"),
            ("Unsupported parameter: 'reasoning.effort'", "reasoning"),
            ("must be verified to generate reasoning summaries", "reasoning"),
            ("input[0].content", None),
            ("tools[0].name", None),
        ],
    )
    def test_which_part_a_server_refuses(self, words: str, part: str | None) -> None:
        assert next((name for name, looks in OPTIONAL.items() if looks.search(words)), None) == part


def test_arguments_without_end_are_stopped() -> None:
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "x" * 400_000}
    with pytest.raises(EngineError) as raised:
        events(added(call("a")), delta, delta, delta)
    assert raised.value.code == "text_limit"


def test_arguments_that_are_said_again_count_once() -> None:
    text = '{"a": "' + "x" * 600_000 + '"}'
    done = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": text}
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": text}
    found = events(added(call("a")), delta, done, finished(call("a", text)), DONE)
    assert found[0] == CallRequest("a", "t", text)


def test_a_literal_tag_that_nothing_closes_is_text_after_all() -> None:
    found = events(text("<think> is a tag"), DONE)
    assert found[:-1] == [ThinkingChunk(" is a tag"), TextChunk("<think> is a tag")]
