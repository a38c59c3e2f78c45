"""The routes at work, against a model server behind them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _fresh(model: ModelServer) -> None:
    model.reset()


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"c-{uuid.uuid4()}"


def say(client: httpx.Client, conv: str, prompt: str = "hello", **more: Any) -> httpx.Response:
    """POST a prompt."""
    return client.post("chat", json={"prompt": prompt, "conv_id": conv, **more})


def rows(client: httpx.Client, conv: str, **query: Any) -> list[dict[str, Any]]:
    """GET the timeline."""
    reply = client.get("timeline", params={"conv_id": conv, **query})
    assert reply.status_code == 200, reply.text
    return list(reply.json())


def ended(client: httpx.Client, conv: str, runs: int = 1) -> list[dict[str, Any]]:
    """The timeline once so many runs have ended."""

    def all_ended() -> list[dict[str, Any]]:
        found = rows(client, conv)
        ends = [r for r in found if r["kind"] == "run" and r["props"]["status"] not in ("queued", "started")]
        return found if len(ends) == runs else []

    return until(all_ended, f"{runs} runs end in {conv}")


def texts(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Role and text of the messages, in order."""
    return [(r["props"]["role"], r["props"]["content"]) for r in found if r["kind"] == "message"]


def test_a_prompt_and_its_answer_are_in_the_timeline(
    client: httpx.Client, model: ModelServer, conv: str
) -> None:
    model.script("Hello there.")
    reply = say(client, conv, "hi", idempotency_key="k-" + conv)
    found = ended(client, conv)
    run_id = reply.json()["run_id"]
    assert texts(found) == [("user", "hi"), ("assistant", "Hello there.")]
    by_id = {row["id"]: row for row in found}
    assert by_id[f"{run_id}:user"]["props"]["idempotencyKey"] == "k-" + conv
    answer = by_id[f"{run_id}:text:1"]
    assert answer["props"]["status"] == "complete"
    assert answer["props"]["streaming"] is False
    assert by_id[run_id]["props"]["status"] == "finished"
    for row in found:
        assert row["createdAt"] == row["createdSeq"] // 1000
        assert row["updatedAt"] == row["version"] // 1000
        assert row["version"] <= 2**53 - 1


def test_the_model_remembers_the_conversation(client: httpx.Client, model: ModelServer, conv: str) -> None:
    model.script("Nice to meet you, Ann.", "You are Ann.")
    say(client, conv, "I am Ann")
    ended(client, conv)
    say(client, conv, "Who am I?")
    ended(client, conv, runs=2)
    sent = [(m["role"], m["content"]) for m in model.completions[-1].body["messages"]]
    assert sent == [("user", "I am Ann"), ("assistant", "Nice to meet you, Ann."), ("user", "Who am I?")]


def test_only_a_base_url_takes_the_first_model_of_the_server(
    client: httpx.Client, model: ModelServer, conv: str
) -> None:
    say(client, conv)
    ended(client, conv)
    assert model.completions[-1].body["model"] == "test-model"
    assert client.get("health").json()["model"] == "test-model"


def test_health_says_who_answers(client: httpx.Client) -> None:
    health = client.get("health").json()
    assert health["webchat"] is True
    assert (health["protocol"], health["engine"], health["capabilities"]) == (1, "openai", [])
    assert health["notices"] == []


class TestIdempotency:
    def test_a_replay_gives_the_first_answer(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        first = say(client, conv, idempotency_key="once-" + conv)
        ended(client, conv)
        again = say(client, conv, idempotency_key="once-" + conv)
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert len(model.completions) == 1

    def test_header_and_body_name_the_same_key(self, client: httpx.Client, conv: str) -> None:
        body = {"prompt": "hello", "conv_id": conv}
        first = client.post("chat", json=body, headers={"Idempotency-Key": "h-" + conv})
        again = client.post("chat", json={**body, "idempotency_key": "h-" + conv})
        assert first.json()["run_id"] == again.json()["run_id"]

    def test_another_body_under_the_same_key_is_refused(self, client: httpx.Client, conv: str) -> None:
        say(client, conv, "one", idempotency_key="same-" + conv)
        other = say(client, conv, "two", idempotency_key="same-" + conv)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["field"] == "idempotency_key"

    def test_a_new_conversation_stays_bound_to_its_key(self, client: httpx.Client, conv: str) -> None:
        body = {"prompt": "hello", "idempotency_key": "new-" + conv}
        first, again = client.post("chat", json=body), client.post("chat", json=body)
        assert first.json()["conv_id"] == again.json()["conv_id"]


class TestQueue:
    def test_prompts_wait_their_turn_and_run_in_order(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        gate = Gate()
        model.script(Reply("one", hold=gate), "two", "three")
        assert say(client, conv, "1").status_code == 200
        second, third = say(client, conv, "2"), say(client, conv, "3")
        assert (second.status_code, second.json()["status"]) == (202, "queued")
        assert (second.json()["queue_position"], third.json()["queue_position"]) == (1, 2)
        waiting = [row for row in rows(client, conv) if row["kind"] == "run"]
        assert [row["props"]["status"] for row in waiting] == ["started", "queued", "queued"]
        gate.open()
        found = ended(client, conv, runs=3)
        expected = [("user", "1"), ("assistant", "one"), ("user", "2"), ("assistant", "two")]
        assert texts(found) == [*expected, ("user", "3"), ("assistant", "three")]

    def test_a_full_queue_refuses_the_next(self, client: httpx.Client, model: ModelServer, conv: str) -> None:
        gate = Gate()
        model.script(Reply("one", hold=gate))
        statuses = [say(client, conv, str(n)).status_code for n in range(5)]
        assert statuses == [200, 202, 202, 202, 429]
        assert len([row for row in rows(client, conv) if row["kind"] == "run"]) == 4
        gate.open()
        ended(client, conv, runs=4)

    def test_a_queued_prompt_can_be_removed(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        gate = Gate()
        model.script(Reply("one", hold=gate), "three")
        say(client, conv, "1")
        second, third = say(client, conv, "2").json(), say(client, conv, "3").json()
        client.post(f"conversations/{conv}/stop", json={"run_id": second["run_id"]}).raise_for_status()
        runs = {row["id"]: row["props"] for row in rows(client, conv) if row["kind"] == "run"}
        assert runs[second["run_id"]]["status"] == "stopped"
        assert (runs[third["run_id"]]["status"], runs[third["run_id"]]["queuePosition"]) == ("queued", 1)
        gate.open()
        assert ("user", "2") not in texts(ended(client, conv, runs=3))


class TestStop:
    def test_stop_keeps_the_partial_text_and_closes_the_connection(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        gate = Gate()
        model.script(Reply(chunks=["Once ", "upon ", "a time"], hold=gate), "next")
        say(client, conv, "tell")
        gate.step(2)
        until(lambda: ("assistant", "Once upon ") in texts(rows(client, conv)), "two pieces came")
        assert client.post(f"conversations/{conv}/stop").status_code == 200
        found = rows(client, conv)
        assert texts(found)[-1] == ("assistant", "Once upon ")
        assert [r["props"]["status"] for r in found if r["kind"] == "run"] == ["stopped"]
        assert [r["props"]["status"] for r in found if r["id"].endswith(":text:1")] == ["stopped"]
        model.wait_disconnected()
        say(client, conv, "again")
        assert texts(ended(client, conv, runs=2))[-1] == ("assistant", "next")
        roles = [m["role"] for m in model.completions[-1].body["messages"]]
        assert roles == ["user", "assistant", "user"]

    def test_stop_before_the_first_word_says_so(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        model.script(Reply("never", hold=Gate()))
        say(client, conv)
        model.wait_requests()
        client.post(f"conversations/{conv}/stop").raise_for_status()
        errors = [row["props"] for row in rows(client, conv) if row["kind"] == "error"]
        assert [error["code"] for error in errors] == ["stopped"]

    def test_stop_is_idempotent(self, client: httpx.Client, conv: str) -> None:
        assert client.post(f"conversations/{conv}/stop").status_code == 200
        assert client.post(f"conversations/{conv}/stop", json={"run_id": "unknown"}).status_code == 200


class TestFaults:
    @pytest.mark.parametrize(
        ("reply", "code", "words"),
        [
            (Reply(status=401), "key_rejected", "API key was rejected"),
            (Reply(status=404), "model_unknown", "does not know the model"),
            (Reply(status=400), "context_too_long", "too long for this model"),
            (Reply("half of it", fault="cut"), "interrupted", "cut"),
            (Reply("no end", finish_reason=None), "interrupted", "before it was finished"),
            (Reply("x", fault="html"), "protocol_error", "not the OpenAI protocol"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_fault_of_the_model_becomes_a_sentence(
        self, client: httpx.Client, model: ModelServer, conv: str, reply: Reply, code: str, words: str
    ) -> None:
        model.script(reply)
        say(client, conv)
        found = ended(client, conv)
        (error,) = [row["props"] for row in found if row["kind"] == "error"]
        assert error["code"] == code
        assert words in error["message"]
        (run,) = [row["props"] for row in found if row["kind"] == "run"]
        assert (run["status"], run["error"]) == ("failed", error["message"])
        assert not [row for row in found if row["props"].get("streaming")]
        model.script("fine again")
        say(client, conv, "next")
        assert texts(ended(client, conv, runs=2))[-1] == ("assistant", "fine again")


class TestOverrides:
    def test_an_override_holds_for_its_run_only(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        say(client, conv, overrides={"system_prompt": "Be a pirate", "model": "test-other"})
        ended(client, conv)
        say(client, conv)
        ended(client, conv, runs=2)
        first, second = (request.body for request in model.completions)
        assert first["messages"][0] == {"role": "system", "content": "Be a pirate"}
        assert (first["model"], second["model"]) == ("test-other", "test-model")
        assert second["messages"][0]["role"] == "user"

    def test_a_model_outside_the_configured_patterns_is_refused(
        self, client: httpx.Client, conv: str
    ) -> None:
        reply = say(client, conv, overrides={"model": "gpt-expensive"})
        assert (reply.status_code, reply.json()["field"]) == (422, "overrides.model")

    def test_settings_hold_for_every_run_until_they_are_replaced(
        self, client: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        settings = f"conversations/{conv}/settings"
        client.put(settings, json={"system_prompt": "Be brief"}).raise_for_status()
        say(client, conv)
        ended(client, conv)
        client.put(settings, json={}).raise_for_status()
        say(client, conv)
        ended(client, conv, runs=2)
        first, second = (request.body["messages"] for request in model.completions)
        assert first[0] == {"role": "system", "content": "Be brief"}
        assert second[0]["role"] == "user"

    def test_empty_settings_make_no_conversation(self, client: httpx.Client, conv: str) -> None:
        client.put(f"conversations/{conv}/settings", json={}).raise_for_status()
        assert conv not in [c["conv_id"] for c in client.get("conversations").json()]


class TestTimeline:
    def test_an_unknown_conversation_is_empty_and_stays_unknown(
        self, client: httpx.Client, conv: str
    ) -> None:
        reply = client.get("timeline", params={"conv_id": conv})
        assert (reply.json(), reply.headers["X-Timeline-Version"]) == ([], "0")
        assert reply.headers["X-Timeline-More"] == "false"
        assert reply.headers["X-Timeline-Epoch"]
        assert conv not in [c["conv_id"] for c in client.get("conversations").json()]

    def test_pages_go_back_and_changes_go_on(self, client: httpx.Client, conv: str) -> None:
        say(client, conv, "one")
        ended(client, conv)
        say(client, conv, "two")
        everything = ended(client, conv, runs=2)
        newest = client.get("timeline", params={"conv_id": conv, "limit": 2})
        assert newest.json() == everything[-2:]
        assert newest.headers["X-Timeline-More"] == "true"
        before = rows(client, conv, limit=100, before=everything[-2]["createdSeq"])
        assert before == everything[:-2]
        assert rows(client, conv, since_version=max(row["version"] for row in everything)) == []
        changed = client.get("timeline", params={"conv_id": conv, "since_version": 0, "limit": 1})
        assert changed.json() == [min(everything, key=lambda row: row["version"])]
        assert changed.headers["X-Timeline-Version"] == str(changed.json()[0]["version"])


def test_conversations_are_listed_newest_first_and_can_be_searched(client: httpx.Client, conv: str) -> None:
    say(client, conv + "-a", "the quick brown fox")
    ended(client, conv + "-a")
    say(client, conv + "-b", "jumps over " + "x" * 200)
    ended(client, conv + "-b")
    listed = [c for c in client.get("conversations").json() if c["conv_id"].startswith(conv)]
    assert [c["conv_id"] for c in listed] == [conv + "-b", conv + "-a"]
    assert listed[1]["title"] == "the quick brown fox"
    assert len(listed[0]["title"]) <= 80
    assert next(c["conv_id"] for c in client.get("conversations", params={"q": "QUICK brown"}).json()) == (
        conv + "-a"
    )


def test_the_page_may_run_its_own_files_only(client: httpx.Client) -> None:
    page = client.get("", params={"conv_id": "x"})
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert client.get("", params={"conv_id": "../x"}).status_code == 400


def test_the_key_is_kept_out_of_answers_files_and_logs(
    client: httpx.Client, server: Jupyter, model: ModelServer, conv: str
) -> None:
    model.script(Reply(status=401), Reply(status=500), Reply("x", fault="malformed"))
    for runs in (1, 2, 3):
        say(client, conv)
        found = ended(client, conv, runs=runs)
        assert "sk-canary" not in json.dumps(found)
    assert any("sk-canary" in r.headers.get("authorization", "") for r in model.requests)
    assert "sk-canary" not in client.get("health").text
    assert "sk-canary" not in server.log_text()
    assert not server.stored("sk-canary")
