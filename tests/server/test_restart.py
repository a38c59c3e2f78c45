"""The server goes and comes back: nothing that was acknowledged is lost, nothing streams for ever."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until


def run_status(rows: list[dict[str, Any]], run_id: str) -> str:
    """The status of a run."""
    (status,) = [row["props"]["status"] for row in rows if row["id"] == run_id]
    return str(status)


def post(server: Jupyter, body: dict[str, Any]) -> httpx.Response:
    """A prompt, and whatever the answer is."""
    headers = {"Authorization": f"token {server.token}"}
    return httpx.post(server.url("webchat/chat"), json=body, headers=headers)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_a_restart_closes_the_cut_run_and_goes_on_with_the_queue(
    tmp_path: Path, model: ModelServer, how: signal.Signals
) -> None:
    model.reset()
    gate = Gate()
    model.script(Reply(chunks=["first ", "words ", "never sent"], hold=gate), "second answer")
    with Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url}) as server:
        cut = server.post_json("webchat/chat", {"prompt": "one", "conv_id": "c", "idempotency_key": "k1"})
        waits = server.post_json("webchat/chat", {"prompt": "two", "conv_id": "c"})
        assert waits["status"] == "queued"
        gate.step(2)
        until(lambda: server.stored("first words"), "the text is on disk")
        server.terminate() if how == signal.SIGTERM else server.kill()
        gate.open()
        server.start()
        rows = until(
            lambda: (
                found
                if run_status(found := server.timeline("c"), waits["run_id"]) not in ("queued", "started")
                else None
            ),
            "the queued prompt ran",
            timeout=20,
        )
        assert run_status(rows, cut["run_id"]) == "failed"
        assert run_status(rows, waits["run_id"]) == "finished"
        messages = [
            (row["props"]["role"], row["props"]["content"], row["props"].get("status"))
            for row in rows
            if row["kind"] == "message"
        ]
        assert messages == [
            ("user", "one", None),
            ("assistant", "first words ", "interrupted"),
            ("user", "two", None),
            ("assistant", "second answer", "complete"),
        ]
        assert not [row for row in rows if row["props"].get("streaming")]
        # The model remembers what was said before the cut.
        sent = [(m["role"], m["content"]) for m in model.completions[-1].body["messages"]]
        assert sent == [("user", "one"), ("assistant", "first words "), ("user", "two")]
        # And the key still names the first run.
        again = server.post_json("webchat/chat", {"prompt": "one", "conv_id": "c", "idempotency_key": "k1"})
        assert again["run_id"] == cut["run_id"]


def test_a_cut_before_the_first_word_leaves_an_error(tmp_path: Path, model: ModelServer) -> None:
    model.reset()
    model.script(Reply("never", hold=Gate()))
    with Jupyter(tmp_path, command="webchat", env={"OPENAI_BASE_URL": model.url}) as server:
        server.post_json("webchat/chat", {"prompt": "one", "conv_id": "c"})
        model.wait_requests()
        server.kill()
        server.start()
        rows = until(lambda: [r for r in server.timeline("c") if r["kind"] == "error"], "an error row")
        assert [(row["props"]["code"], row["props"]["retryable"]) for row in rows] == [("interrupted", True)]


def test_two_servers_on_one_file_do_not_fight(tmp_path: Path, model: ModelServer) -> None:
    model.reset()
    env = {"OPENAI_BASE_URL": model.url}
    with Jupyter(tmp_path / "a", command="webchat", env=env) as first:
        first.post_json("webchat/chat", {"prompt": "one", "conv_id": "c"})
        second = Jupyter(tmp_path / "b", command="webchat", env=env)
        second.timeline_db = first.timeline_db
        with second:
            refused = post(second, {"prompt": "two", "conv_id": "c"})
            assert refused.status_code == 503
            assert refused.json()["code"] == "store_in_use"
            assert "--WebChat.timeline_db" in refused.json()["message"]
            assert f"a Jupyter server, process {first.pid} on " in refused.json()["message"]
            first.terminate()
            taken = post(second, {"prompt": "two", "conv_id": "c"})
            assert taken.status_code == 200
