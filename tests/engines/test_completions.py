"""The protocol of chat completions, with no wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from webchat_widget.engines.completions import Answer, request
from webchat_widget.engines.wire import check_content_type
from webchat_widget.errors import EngineError
from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Image, Message, ToolCall, ToolSchema, Turn
from webchat_widget.typing import Usage


def says(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def piece(arguments: str | None = None, **more: Any) -> dict[str, Any]:
    function = {key: more.pop(key) for key in ("name",) if key in more}
    return says({"tool_calls": [{**more, "function": {**function, "arguments": arguments}}]})


STOP = says({}, "stop")


def events(*chunks: dict[str, Any] | bytes) -> list[EngineEvent]:
    """All that the answer gives, its end included."""
    answer = Answer("asked-for")
    found: list[EngineEvent] = []
    for chunk in chunks:
        found += answer.read(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    return [*found, *answer.end()]


def end(*chunks: dict[str, Any] | bytes) -> Finish:
    finish = events(*chunks)[-1]
    assert isinstance(finish, Finish)
    return finish


def error(*chunks: dict[str, Any] | bytes) -> EngineError:
    with pytest.raises(EngineError) as raised:
        events(*chunks)
    return raised.value


class TestText:
    def test_a_literal_tag_that_nothing_closes_is_text_after_all(self) -> None:
        chunks = [says({"content": "<think> is"}), says({"content": " a tag"})]
        thought = [ThinkingChunk(" is"), ThinkingChunk(" a tag")]
        assert events(*chunks, STOP)[:-1] == [*thought, TextChunk("<think> is a tag")]
        assert events(*chunks, says({}, "length"))[:-1] == thought, "it may have been a thought"
        assert events(*chunks, says({"content": "</think>"}), STOP)[:-1] == thought
        called = events(*chunks, piece("{}", index=0, id="a", name="t"), STOP)
        assert [type(event) for event in called[2:]] == [CallRequest, Finish]

    def test_each_piece_as_it_comes(self) -> None:
        assert events(
            says({"role": "assistant", "content": ""}),
            says({"content": "Hi "}),
            says({"content": "😀"}),
            STOP,
        ) == [
            TextChunk("Hi "),
            TextChunk("😀"),
            Finish("stop", None, "asked-for"),
        ]

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_reasoning_goes_before_what_is_said(self, name: str) -> None:
        found = events(says({name: "hm", "content": "Hi"}), STOP)
        assert found[:-1] == [ThinkingChunk("hm"), TextChunk("Hi")]

    def test_thoughts_in_the_text(self) -> None:
        found = events(says({"content": "<think>hm"}), says({"content": "</think>\n\nHi"}), STOP)
        assert found[:-1] == [ThinkingChunk("hm"), TextChunk("Hi")]

    def test_a_tag_in_the_text_of_a_model_that_thinks_elsewhere_is_text(self) -> None:
        found = events(says({"reasoning": "hm"}), says({"content": "<think> is a tag"}), STOP)
        assert found[:-1] == [ThinkingChunk("hm"), TextChunk("<think> is a tag")]

    def test_what_is_held_back_comes_before_the_end_and_before_a_refusal(self) -> None:
        assert events(says({"content": "<thi"}), STOP)[0] == TextChunk("<thi")
        found = events(says({"content": "<thi"}), says({"refusal": "No."}), STOP)
        assert found[:-1] == [TextChunk("<thi"), TextChunk("No.")]

    def test_only_what_holds_something_is_a_sign_of_life(self) -> None:
        answer = Answer("m")
        for chunk in ({}, {"choices": []}, says({}), says({"content": ""}), says({"role": "assistant"})):
            assert list(answer.read(json.dumps(chunk).encode())) == []
        assert answer.heard == 0
        for chunk in (says({"content": "a"}), says({"reasoning": "a"}), piece("{", index=0, name="t"), STOP):
            list(answer.read(json.dumps(chunk).encode()))
        assert answer.heard == 4

    def test_a_refusal_is_text_and_the_end_says_what_it_is(self) -> None:
        found = events(says({"refusal": "I can't "}), says({"refusal": "help."}), STOP)
        assert found[:-1] == [TextChunk("I can't "), TextChunk("help.")]
        assert end(says({"refusal": "No."}), STOP).refused
        assert not end(says({"content": "Yes."}), STOP).refused

    @pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
    def test_the_reason_of_the_end(self, reason: str) -> None:
        assert end(says({"content": "Hi"}), says({}, reason)).reason == reason

    @pytest.mark.parametrize(
        "chunk",
        [
            {},
            {"choices": []},
            {"choices": None},
            says(None),
            says({}),
            says({"content": None, "tool_calls": None, "refusal": None, "reasoning": None}),
            says({"content": ""}),
            {"choices": [{"index": 0}]},
            {"object": "new", "choices": [{"delta": {"unheard": [1]}}], "of": {}},
        ],
        ids=json.dumps,
    )
    def test_what_says_nothing_is_ignored(self, chunk: dict[str, Any]) -> None:
        assert events(says({"content": "a"}), chunk, says({"content": "b"}), STOP)[:-1] == [
            TextChunk("a"),
            TextChunk("b"),
        ]

    def test_a_lone_surrogate_is_no_fault_of_the_protocol(self) -> None:
        """Servers that cut text in UTF-16 halve pairs; the loop replaces what no reader can take."""
        halves = events(rb'{"choices":[{"delta":{"content":"a\ud83d"}}]}', STOP)
        assert halves[0] == TextChunk("a\ud83d")


class TestEnd:
    def test_usage_comes_in_a_chunk_of_its_own(self) -> None:
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
        assert end(STOP, {"choices": [], "usage": usage}).usage == Usage(
            inputTokens=7, outputTokens=2, cachedTokens=5
        )

    @pytest.mark.parametrize(
        "usage",
        [{}, {"prompt_tokens": None}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {}}],
        ids=json.dumps,
    )
    def test_what_usage_does_not_tell_counts_as_0(self, usage: dict[str, Any]) -> None:
        assert end(STOP, {"usage": usage}).usage == Usage(inputTokens=0, outputTokens=0, cachedTokens=0)

    def test_usage_that_never_came_is_unknown(self) -> None:
        assert end(STOP, says({}, usage=None)).usage is None

    def test_the_model_is_the_one_that_answered(self) -> None:
        assert (
            end(says({}, model="gpt-5-mini-2025-08-07"), says({}, "stop", model="")).model
            == "gpt-5-mini-2025-08-07"
        )

    @pytest.mark.parametrize(
        ("word", "means"),
        [("max_tokens", "length"), ("eos", "stop"), ("end_turn", "stop"), ("tool_use", "tool_calls")],
    )
    def test_servers_have_words_of_their_own(self, word: str, means: str) -> None:
        assert end(says({"content": "Hi"}), says({}, word)).reason == means

    @pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource"])
    def test_an_end_that_is_none(self, word: str) -> None:
        assert error(says({"content": "Half"}), says({}, word)).code == "interrupted"

    def test_what_trails_the_end_changes_nothing_in_it(self) -> None:
        assert end(STOP, says({"content": ""}), says({}), says(None)).reason == "stop"

    def test_without_a_reason_it_was_interrupted(self) -> None:
        fault = error(says({"content": "Half"}))
        assert (fault.code, fault.retryable) == ("interrupted", True)
        assert error().code == "interrupted", "nothing at all"

    def test_done_is_not_an_end_without_a_reason(self) -> None:
        assert error(says({"content": "Half"}), b"[DONE]").code == "interrupted"

    def test_done_says_that_nothing_follows(self) -> None:
        answer = Answer("m")
        assert list(answer.read(b"{}")) == []
        assert not answer.done
        assert list(answer.read(b"[DONE]")) == []
        assert answer.done


class TestCalls:
    def test_one_in_pieces(self) -> None:
        found = events(
            piece("", index=0, id="call_9", name="calculate"),
            piece('{"expr', index=0),
            piece('ession": "1+1"}', index=0),
            says({}, "tool_calls"),
        )
        assert found == [
            CallRequest("call_9", "calculate", '{"expression": "1+1"}'),
            Finish("tool_calls", None, "asked-for"),
        ]

    def test_two_whose_pieces_are_mixed_come_by_index(self) -> None:
        found = events(
            piece("", index=1, id="b", name="second"),
            piece("", index=0, id="a", name="first"),
            piece("[2]", index=1),
            piece("[1]", index=0),
            says({}, "tool_calls"),
        )
        assert found[:-1] == [CallRequest("a", "first", "[1]"), CallRequest("b", "second", "[2]")]

    def test_a_server_that_sends_no_index_sends_whole_calls(self) -> None:
        found = events(piece("{}", id="a", name="t"), piece("[]", id="b", name="t"), says({}, "tool_calls"))
        assert found[:-1] == [CallRequest("a", "t", "{}"), CallRequest("b", "t", "[]")]

    def test_one_without_an_id_is_given_one(self) -> None:
        found = events(piece("{}", index=3, name="t"), says({}, "tool_calls"))
        assert found[0] == CallRequest("call_3", "t", "{}")

    def test_the_first_id_and_name_stand(self) -> None:
        """Some servers repeat them in every piece."""
        found = events(
            piece("{", index=0, id="a", name="t"),
            piece("}", index=0, id="a", name="t"),
            says({}, "tool_calls"),
        )
        assert found[0] == CallRequest("a", "t", "{}")

    @pytest.mark.parametrize(
        "pieces",
        [
            [piece("{}", index=0, id="a", name="t"), piece("{}", index=0, id="b", name="u")],
            [piece(None, index=0, id="a", name="t"), piece(None, index=0, id="b", name="u")],
            [piece("{}", name="t"), piece("{}", name="u")],
            [piece(None, name="t"), piece(None, name="u")],
            [piece("{}", index=0, name="t"), piece("{}", index=0, name="u")],
            [piece("{}", index=0, id="same", name="t"), piece("{}", index=0, id="same", name="u")],
            [piece("{}", id="same", name="t"), piece("{}", id="same", name="u")],
        ],
        ids=[
            "always 0",
            "always 0, no arguments",
            "no index",
            "bare names",
            "0 and no id",
            "one id",
            "only an id",
        ],
    )
    def test_calls_are_told_apart_whatever_their_numbers(self, pieces: list[dict[str, Any]]) -> None:
        calls = [event for event in events(*pieces, says({}, "tool_calls")) if isinstance(event, CallRequest)]
        assert [call.name for call in calls] == ["t", "u"]
        assert len({call.call_id for call in calls}) == 2
        assert {call.arguments for call in calls} <= {"", "{}"}

    @pytest.mark.parametrize(
        "pieces",
        [
            [piece('{"n"', id="a", name="t"), piece(": 1}")],
            [piece('{"n"', id="a", name="t"), piece(": 1}", id="a", name="t")],
            [piece('{"n"', index=0, id="a", name="t"), piece(": 1}", index=0, id="b")],
            [piece('{"n"', index=0, id="a", name="t"), piece(": 1}", index=0, id="b", name="t")],
            [piece('{"n": 1}', index=0, id="a", name="t"), piece("", index=0, id="a", name="t")],
        ],
        ids=["no index", "all but an index", "a new id each", "a new id and the name each", "an empty end"],
    )
    def test_pieces_find_their_call(self, pieces: list[dict[str, Any]]) -> None:
        assert events(*pieces, says({}, "stop"))[0] == CallRequest("a", "t", '{"n": 1}')

    def test_arguments_as_an_object(self) -> None:
        call = {"id": "a", "function": {"name": "t", "arguments": {"n": [1, "é"]}}}
        found = events(says({"tool_calls": [call]}), STOP)[0]
        assert isinstance(found, CallRequest)
        assert json.loads(found.arguments) == {"n": [1, "é"]}

    def test_null_arguments_are_empty_ones(self) -> None:
        assert events(piece(None, index=0, id="a", name="t"), says({}, "tool_calls"))[0] == CallRequest(
            "a", "t", ""
        )

    @pytest.mark.parametrize("reason", ["stop", "function_call"])
    def test_a_server_may_call_the_end_of_a_call_a_stop(self, reason: str) -> None:
        found = events(piece("{}", index=0, id="a", name="t"), says({}, reason))
        assert found == [CallRequest("a", "t", "{}"), Finish("tool_calls", None, "asked-for")]

    @pytest.mark.parametrize("reason", ["length", "content_filter"])
    def test_half_a_call_is_dropped(self, reason: str) -> None:
        assert events(piece('{"exp', index=0, id="a", name="t"), says({}, reason)) == [
            Finish(reason, None, "asked-for")
        ]

    def test_text_may_come_before_a_call(self) -> None:
        found = events(
            says({"content": "Let me see."}), piece("{}", index=0, id="a", name="t"), says({}, "tool_calls")
        )
        assert found[0] == TextChunk("Let me see.")
        assert isinstance(found[1], CallRequest)


class TestFaults:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"<html>",
            b'{"choices": [{"delta": {"content": "half',
            b'{"choices": {}}',
            b'{"choices": [{"delta": {"content": 7}}]}',
            b'{"choices": [{"delta": {"content": "\xff"}}]}',
            b'{"a": ' * 5000,
        ],
        ids=lambda data: repr(data)[:40],
    )
    def test_what_is_not_the_protocol_is_said_without_its_words(self, data: bytes) -> None:
        fault = error(says({"content": "a"}), data)
        assert (fault.code, fault.retryable) == ("protocol_error", True)
        assert "OPENAI_BASE_URL" in fault.message
        assert "half" not in fault.message

    def test_an_error_in_the_stream_is_said_without_its_words(self) -> None:
        fault = error(says({"content": "a"}), {"error": {"message": "key sk-secret is bad", "code": 500}})
        assert (fault.code, fault.retryable) == ("model_server_error", True)
        assert "sk-secret" not in fault.message

    @pytest.mark.parametrize(
        "chunk",
        [
            {"error": "key sk-secret is bad"},
            {"error": {"code": 502, "message": "key sk-secret is bad"}},
            {"object": "error", "message": "key sk-secret is bad", "code": 500},
        ],
        ids=json.dumps,
    )
    def test_an_error_has_many_forms(self, chunk: dict[str, Any]) -> None:
        fault = error(says({"content": "a"}), chunk)
        assert fault.code == "model_server_error"
        assert "sk-secret" not in fault.message

    @pytest.mark.parametrize(
        "content_type", ["text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml"]
    )
    def test_a_page_is_no_answer(self, content_type: str) -> None:
        with pytest.raises(EngineError) as raised:
            check_content_type(content_type)
        assert raised.value.code == "protocol_error"

    @pytest.mark.parametrize("content_type", ["text/event-stream", "", "application/json", "text/plain"])
    def test_servers_are_free_in_naming_a_stream(self, content_type: str) -> None:
        check_content_type(content_type)


class TestRequest:
    def test_a_turn_of_text(self) -> None:
        turn = Turn((Message("system", "Be brief."), Message("user", "hi")))
        assert request(turn, "gpt") == {
            "model": "gpt",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_tools_and_their_results(self) -> None:
        call = ToolCall("call_0", "calculate", '{"expression": "1+1"}')
        parameters = {"type": "object", "properties": {"expression": {"type": "string"}}}
        turn = Turn(
            (
                Message("user", "1+1?"),
                Message("assistant", "", (call,)),
                Message("tool", "2", tool_call_id="call_0"),
            ),
            (ToolSchema("calculate", "Evaluate.", parameters),),
        )
        body = request(turn, "gpt")
        function = {"name": "calculate", "arguments": '{"expression": "1+1"}'}
        assert body["messages"][1:] == [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "2", "tool_call_id": "call_0"},
        ]
        described = {"name": "calculate", "description": "Evaluate.", "parameters": parameters}
        assert body["tools"] == [{"type": "function", "function": described}]

    def test_pictures(self) -> None:
        turn = Turn((Message("user", "What?", images=(Image("image/png", "aGk="),)),))
        assert request(turn, "gpt")["messages"][0]["content"] == [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        ]

    def test_without_what_the_server_refused(self) -> None:
        assert "stream_options" not in request(Turn((Message("user", "hi"),)), "gpt", {"stream_options"})

    def test_no_tools_are_not_named(self) -> None:
        """Servers refuse an empty list."""
        assert "tools" not in request(Turn((Message("user", "hi"),)), "gpt")


def test_arguments_without_end_are_stopped() -> None:
    begun = [piece("", index=n, id=str(n), name="t") for n in (0, 1)]
    assert error(*begun, *(piece("x" * 300_000, index=n % 2) for n in range(4))).code == "text_limit"


def test_arguments_in_many_pieces_cost_what_they_are() -> None:
    """Not their square: each piece was a copy of all before it."""
    answer = Answer("m")
    for chunk in (piece("{", index=0, id="a", name="t"), *[piece("x" * 10, index=0, name="t")] * 2):
        list(answer.read(json.dumps(chunk).encode()))
    assert answer._calls[0].pieces == ["{", "x" * 10, "x" * 10]
