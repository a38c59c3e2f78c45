"""GET /turns, and the history that a killed server goes on with."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

DOT = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
SCRIPT = (
    Reply("Let me see.", reasoning="A call.", tool_calls=[{"name": "double", "arguments": {"number": 21}}]),
    Reply("I have no such tool. é 😀"),
    Reply("A dot."),
    Reply("As I said."),
)
PROMPTS: tuple[tuple[str, list[dict[str, str]]], ...] = (
    ("Twice 21?", []),
    ("What is this?", [{"name": "dot.png", "mime": "image/png", "data": DOT}]),
    ("And now?", []),
)


def ask(server: Jupyter, prompt: str, conv_id: str, attachments: list[dict[str, str]] | None = None) -> str:
    """Send a prompt, and wait for the end; the run's id."""
    body = {"prompt": prompt, "conv_id": conv_id, "attachments": attachments or []}
    run = str(server.post_json("webchat/chat", body)["run_id"])

    def status() -> Any:
        return [row["props"]["status"] for row in server.timeline(conv_id) if row["id"] == run]

    until(lambda: status() == ["finished"], "the run finished")
    return run


@pytest.fixture(scope="module")
def runs(server: Jupyter, model: ModelServer) -> list[str]:
    """A conversation of two runs, the first with a call."""
    model.reset()
    model.script(*SCRIPT)
    return [ask(server, prompt, "turns") for prompt in ("one", "two")]


class TestRoute:
    def test_it_gives_what_the_model_was_sent_and_gave(
        self, client: httpx.Client, runs: list[str], model: ModelServer
    ) -> None:
        reply = client.get("turns?conv_id=turns")
        assert (reply.status_code, reply.headers["X-Turns-More"]) == (200, "false")
        turns = reply.json()
        assert [(turn["run_id"], turn["n"], turn["phase"]) for turn in turns] == [
            (runs[0], 1, "pre_inference"),
            (runs[0], 1, "post_inference"),
            (runs[0], 1, "post_tools"),
            (runs[0], 2, "pre_inference"),
            (runs[0], 2, "post_inference"),
            (runs[0], 2, "final"),
            (runs[1], 1, "pre_inference"),
            (runs[1], 1, "post_inference"),
            (runs[1], 1, "final"),
        ]
        assert [turn["seq"] for turn in turns] == sorted(turn["seq"] for turn in turns)
        sent = [turn["messages"] for turn in turns if turn["phase"] == "pre_inference"]
        bodies = [[m["content"] or "" for m in request.body["messages"]] for request in model.completions]
        assert [[message.get("content", "") for message in messages] for messages in sent] == bodies
        assert turns[1]["finish"]["reason"] == "tool_calls"
        assert turns[1]["finish"]["usage"]["inputTokens"] == 7

    def test_it_can_be_asked_for_less(self, client: httpx.Client, runs: list[str]) -> None:
        def found(query: str) -> list[tuple[str, int]]:
            turns = client.get(f"turns?conv_id=turns&{query}").raise_for_status().json()
            return [(turn["phase"], turn["n"]) for turn in turns]

        assert found(f"run_id={runs[1]}") == [("pre_inference", 1), ("post_inference", 1), ("final", 1)]
        assert found("phase=post_tools") == [("post_tools", 1)]
        assert found("limit=2") == [("post_inference", 1), ("final", 1)]
        assert found("run_id=none") == []
        assert client.get("turns?conv_id=turns&limit=2").headers["X-Turns-More"] == "true"

    def test_an_unknown_conversation_is_empty(self, client: httpx.Client) -> None:
        assert client.get("turns?conv_id=never").raise_for_status().json() == []

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("", "bad_conv_id"),
            ("conv_id=..", "bad_conv_id"),
            ("conv_id=c&phase=pre", "bad_query"),
            ("conv_id=c&phase=", "bad_query"),
            ("conv_id=c&limit=0", "bad_query"),
            ("conv_id=c&limit=5001", "bad_query"),
            ("conv_id=c&limit=%201", "bad_query"),
            ("conv_id=c&limit=1.0", "bad_query"),
            (f"conv_id=c&run_id={'x' * 201}", "bad_run_id"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, client: httpx.Client, query: str, code: str) -> None:
        reply = client.get(f"turns?{query}")
        assert (reply.status_code, reply.json()["code"]) == (400, code)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_killed_server_goes_on_with_the_history_that_it_had(
    tmp_path: Path, model: ModelServer, api: str
) -> None:
    env = {"OPENAI_BASE_URL": model.url, "WEBCHAT_MODEL": "test-model", "WEBCHAT_API": api}
    with Jupyter(tmp_path, command="webchat", env=env) as server:
        bodies = []
        for conv_id in ("kept", "killed"):
            model.reset()
            model.script(*SCRIPT)
            *before, last = PROMPTS
            for prompt, attachments in before:
                ask(server, prompt, conv_id, attachments)
            if conv_id == "killed":
                server.kill()
                server.start()
            ask(server, last[0], conv_id)
            assert len(model.completions) == 4
            bodies.append(model.completions[-1].body)
        assert bodies[0] == bodies[1]
        for part in ("Twice 21?", "Let me see.", "I have no such tool. é 😀", DOT, "A dot.", "And now?"):
            assert part in str(bodies[0])
        kept, killed = (server.get_json(f"webchat/turns?conv_id={each}") for each in ("kept", "killed"))
        assert [turn["messages"] for turn in kept] == [turn["messages"] for turn in killed]
