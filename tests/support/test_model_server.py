"""The model server does to its clients what the tests rely on."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.model_server import Gate, ModelServer, Reply


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


class Client:
    """One HTTP connection, closed with the test."""

    def __init__(self, model: ModelServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", model.port, timeout=10)

    def post(self, prompt: str = "hi", **body: Any) -> http.client.HTTPResponse:
        message = {"role": "user", "content": prompt}
        payload = {"model": "test-model", "messages": [message], "stream": True, **body}
        headers = {"Authorization": "Bearer sk-test"}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(payload), headers)
        return self.connection.getresponse()

    def get(self, path: str) -> http.client.HTTPResponse:
        self.connection.request("GET", path)
        return self.connection.getresponse()


@pytest.fixture
def connect() -> Iterator[Callable[[ModelServer], Client]]:
    clients: list[Client] = []

    def factory(model: ModelServer) -> Client:
        clients.append(Client(model))
        return clients[-1]

    yield factory
    for client in clients:
        client.connection.close()


@pytest.fixture
def client(model: ModelServer, connect: Callable[[ModelServer], Client]) -> Client:
    return connect(model)


def events(response: http.client.HTTPResponse) -> list[Any]:
    lines = [line[6:].decode() for line in response.read().split(b"\n") if line.startswith(b"data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(stream: list[Any]) -> str:
    deltas = [event["choices"][0]["delta"] for event in stream if event != "[DONE]" and event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_an_empty_script_echoes_the_prompt_and_ends_in_good_order(model: ModelServer, client: Client) -> None:
    stream = events(client.post("two words"))
    assert text_of(stream) == "You said: two words"
    assert stream[-2]["choices"][0]["finish_reason"] == "stop"
    assert stream[-1] == "[DONE]"
    assert model.requests[0].headers["authorization"] == "Bearer sk-test"
    assert model.requests[0].prompt == "two words"


def test_scripted_replies_come_in_order(model: ModelServer, client: Client) -> None:
    model.script("first", Reply(chunks=["sec", "ond"], reasoning="let me see"))
    assert text_of(events(client.post())) == "first"
    second = events(client.post())
    assert text_of(second) == "second"
    assert "".join(e["choices"][0]["delta"].get("reasoning_content", "") for e in second[:-1]) == "let me see"


def test_one_connection_carries_several_requests(model: ModelServer, client: Client) -> None:
    for _ in range(3):
        assert client.post().read().endswith(b"data: [DONE]\n\n")
    assert len(model.requests) == 3


def test_the_list_of_models_and_a_plain_completion(model: ModelServer, client: Client) -> None:
    listed = json.loads(client.get("/v1/models").read())
    assert [entry["id"] for entry in listed["data"]] == ["test-model"]
    body = json.loads(client.post("hello", stream=False).read())
    assert body["choices"][0]["message"]["content"] == "You said: hello"


def test_a_tool_call_is_streamed_in_pieces(model: ModelServer, client: Client) -> None:
    model.script(Reply(tool_calls=[{"name": "calculate", "arguments": {"expression": "37 * 42"}}]))
    stream = events(client.post())
    pieces = [p for e in stream[:-1] for c in e["choices"] for p in c["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "calculate"
    assert json.loads("".join(p["function"]["arguments"] for p in pieces)) == {"expression": "37 * 42"}
    assert stream[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_usage_comes_when_asked_for(model: ModelServer, client: Client) -> None:
    assert "usage" not in events(client.post())[-2]
    assert events(client.post(stream_options={"include_usage": True}))[-2]["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_errors_have_the_provider_s_form(model: ModelServer, client: Client, status: int) -> None:
    model.script(Reply(status=status, headers={"Retry-After": "1"}))
    response = client.post()
    assert response.status == status
    assert response.headers["Retry-After"] == "1"
    assert json.loads(response.read())["error"]["message"]


def test_a_wrong_key_is_refused_and_echoed_as_providers_do(
    connect: Callable[[ModelServer], Client],
) -> None:
    with ModelServer(api_key="right") as model:
        response = connect(model).post()
        assert response.status == 401
        assert "sk-test" in json.loads(response.read())["error"]["message"]


def test_a_cut_breaks_the_connection_in_mid_stream(model: ModelServer, client: Client) -> None:
    model.script(Reply("one two three four", fault="cut", after=2))
    response = client.post()
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        response.read()
    assert not model.disconnected, "the client did not hang up, the server did"


def test_html_and_malformed_and_error_events(model: ModelServer, client: Client) -> None:
    model.script(Reply(fault="html"), Reply("a b", fault="malformed"), Reply("a b c d", fault="error_event"))
    page = client.post()
    assert page.headers["Content-Type"] == "text/html"
    assert page.read().startswith(b"<!doctype html>")
    with pytest.raises(json.JSONDecodeError):
        events(client.post())
    stream = events(client.post())
    assert "error" in stream[-1]
    assert text_of(stream[:-1]) == "a b "


def test_the_responses_api_is_spoken_too(model: ModelServer, client: Client) -> None:
    call = {"name": "double", "arguments": {"n": 21}}
    model.script(Reply("Two words", reasoning="hm", tool_calls=[call]))
    body = {"input": [{"role": "user", "content": "hi"}], "stream": True}
    client.connection.request("POST", "/v1/responses", json.dumps(body))
    stream = events(client.connection.getresponse())
    said = [event["delta"] for event in stream if event["type"] == "response.output_text.delta"]
    assert said == ["Two ", "words"]
    done = stream[-1]
    assert done["type"] == "response.completed"
    assert [item["type"] for item in done["response"]["output"]] == ["reasoning", "message", "function_call"]
    assert model.completions[0].prompt == "hi"


def test_dropped_is_no_answer_at_all(model: ModelServer, client: Client) -> None:
    model.script(Reply(fault="dropped"))
    with pytest.raises(ConnectionError):
        client.post()


def test_a_stream_of_one_s_own(model: ModelServer, client: Client) -> None:
    model.script(Reply(raw=b"data: [DONE]\r\n\r\n"))
    assert client.post().read() == b"data: [DONE]\r\n\r\n"


def test_an_end_without_a_finish_reason(model: ModelServer, client: Client) -> None:
    model.script(Reply("a b", finish_reason=None))
    stream = events(client.post())
    assert text_of(stream) == "a b"
    assert all(choice["finish_reason"] is None for event in stream for choice in event["choices"])


def test_keep_alives_do_not_disturb_the_text(model: ModelServer, client: Client) -> None:
    model.script(Reply("a b c", fault="keepalive"))
    raw = client.post().read()
    assert raw.count(b": keep-alive\n\n") == 3
    assert raw.endswith(b"data: [DONE]\n\n")


def test_a_gate_releases_the_stream_step_by_step(model: ModelServer, client: Client) -> None:
    gate = Gate()
    model.script(Reply(chunks=["a", "b", "c"], hold=gate))
    got: list[str] = []
    response = client.post()

    def next_text() -> None:
        while True:
            line = response.readline()
            if line.startswith(b"data: {"):
                got.append(text_of([json.loads(line[6:])]))
                if got[-1]:
                    return

    gate.wait_held()
    gate.step()
    next_text()
    gate.wait_held()
    assert "".join(got) == "a"
    gate.open()
    assert b"[DONE]" in response.read()


def test_a_stall_lasts_until_the_client_hangs_up_and_is_told(model: ModelServer, client: Client) -> None:
    model.script(Reply("one two three four", fault="stall", after=3))
    response = client.post()
    while b"three" not in response.readline():
        pass
    assert not model.disconnected
    response.close()
    client.connection.close()
    (gone,) = model.wait_disconnected()
    assert gone.request.prompt == "hi"
    assert gone.chunks_sent == 3


def test_a_client_that_leaves_at_the_gate_is_noticed(model: ModelServer, client: Client) -> None:
    gate = Gate()
    model.script(Reply("a b", hold=gate))
    response = client.post()
    gate.wait_held()
    response.close()
    client.connection.close()
    assert model.wait_disconnected()[0].chunks_sent == 0


def test_stop_refuses_and_drops_and_start_keeps_the_port(model: ModelServer, client: Client) -> None:
    model.script(Reply("a b c d", fault="stall", after=1))
    port, response = model.port, client.post()
    model.stop()
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        response.read()
    client.connection.close()
    with pytest.raises(ConnectionError):
        client.post()
    client.connection.close()
    model.start()
    assert model.port == port
    assert text_of(events(client.post("again"))) == "You said: again"


def test_two_thousand_tokens_are_quick(model: ModelServer, client: Client) -> None:
    model.script(Reply(chunks=[f"w{index} " for index in range(2000)]))
    start = time.perf_counter()
    raw = client.post().read()
    assert time.perf_counter() - start < 2
    assert raw.count(b"data: ") == 2003


def test_many_clients_at_once(model: ModelServer, connect: Callable[[ModelServer], Client]) -> None:
    results: list[str] = []

    def ask(client: Client, prompt: str) -> None:
        results.append(text_of(events(client.post(prompt))))

    threads = [threading.Thread(target=ask, args=(connect(model), f"p{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(results) == sorted(f"You said: p{n}" for n in range(20))
