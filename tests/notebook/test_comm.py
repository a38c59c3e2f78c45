"""A widget's comm as a transport: what a page may ask, what it may send by mistake, and what it is sent."""

from __future__ import annotations

import json
import threading
import urllib.parse
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.support.ids import without_address
from tests.support.waiting import until
from webchat_widget.engines.scripted import ScriptedEngine
from webchat_widget.errors import StoreUnavailable
from webchat_widget.notebook.host import kernel_host

from .line import Line

GOLDEN = json.loads((Path(__file__).parents[1] / "contract" / "http.json").read_text(encoding="utf-8"))


class TestOps:
    def test_health(self) -> None:
        reply = Line(ScriptedEngine()).ask("health")
        assert (reply["status"], reply["headers"]) == (200, {})
        assert reply["body"]["webchat"] is True
        assert (reply["body"]["protocol"], reply["body"]["engine"]) == (1, "scripted")

    def test_chat_and_its_frames(self) -> None:
        line = Line(ScriptedEngine(["Hel", "lo."]))
        opened = line.ask("open", conv_id="c", profile="default")["body"]
        assert opened["n"] == 1
        assert set(opened["hello"]) == {"protocol", "convId", "profile", "epoch", "version", "serverTime"}
        reply = line.ask("chat", conv_id="c", prompt="hi", idempotency_key="k")
        assert (reply["status"], reply["headers"]) == (200, {})
        run = reply["body"]["run_id"]
        assert reply["body"] == {
            "status": "started",
            "run_id": run,
            "conv_id": "c",
            "turn_id": f"{run}:turn",
            "idempotency_key": "k",
        }
        line.until_type("run.finished")
        assert [frame["n"] for frame in line.frames] == list(range(2, len(line.frames) + 2))
        assert all(set(frame) == {"sem", "n", "event"} and frame["sem"] is True for frame in line.frames)
        assert line.types()[:3] == ["run.started", "timeline.upsert", "llm.start"]
        assert line.types()[-2:] == ["llm.final", "run.finished"]
        assert "ws.hello" not in line.types()

    def test_a_prompt_that_waits(self) -> None:
        line = Line(ScriptedEngine([threading.Event()]))
        line.say()
        reply = line.ask("chat", conv_id="c", prompt="two")
        assert (reply["status"], reply["body"]["status"], reply["body"]["queue_position"]) == (
            202,
            "queued",
            1,
        )

    def test_the_same_prompt_twice(self) -> None:
        line = Line(ScriptedEngine("one"))
        asked = {"conv_id": "c", "prompt": "hi", "idempotency_key": "k"}
        first, second = line.ask("chat", **asked), line.ask("chat", **asked)
        assert first["body"] == second["body"]
        assert second["headers"] == {"Idempotency-Replayed": "true"}
        other = line.ask("chat", **{**asked, "prompt": "another"})
        assert (other["status"], other["body"]["code"]) == (422, "idempotency_key_reused")

    def test_the_timeline(self) -> None:
        line = Line(ScriptedEngine("Hello."))
        empty = line.ask("timeline", conv_id="c")
        assert (empty["status"], empty["body"], empty["headers"]["X-Timeline-Version"]) == (200, [], "0")
        line.open()
        run = line.say()
        line.until_type("run.finished")
        reply = line.ask("timeline", conv_id="c")
        assert [row["kind"] for row in reply["body"]] == ["run", "message", "message"]
        assert reply["headers"]["X-Timeline-More"] == "false"
        version = int(reply["headers"]["X-Timeline-Version"])
        assert version == max(row["version"] for row in reply["body"])
        hello = line.ask("open", conv_id="c")["body"]["hello"]
        assert reply["headers"]["X-Timeline-Epoch"] == hello["epoch"]
        assert line.ask("timeline", conv_id="c", since_version=version)["body"] == []
        newest = line.ask("timeline", conv_id="c", limit=1)
        assert newest["headers"]["X-Timeline-More"] == "true"
        assert [row["id"] for row in newest["body"]] == [f"{run}:text:1"]
        assert line.ask("timeline", conv_id="c", unfinished=True)["body"] == []
        earlier = line.ask("timeline", conv_id="c", before=newest["body"][0]["createdSeq"], limit=9)
        assert [row["id"] for row in earlier["body"]] == [run, f"{run}:user"]
        both = line.ask("timeline", conv_id="c", before=1, since_version=1)
        assert (both["status"], both["body"]["code"]) == (400, "bad_query")

    def test_stop(self) -> None:
        line = Line(ScriptedEngine(["half", threading.Event()]))
        assert line.ask("stop", conv_id="c")["body"] == {"status": "stopped", "conv_id": "c"}
        line.open()
        run = line.say()
        waiting = line.say("two")
        line.until_type("llm.delta")
        assert line.ask("stop", conv_id="c", run_id=waiting)["status"] == 200
        assert line.ask("stop", conv_id="c", run_id=run)["status"] == 200
        rows = {row["id"]: row["props"] for row in line.ask("timeline", conv_id="c")["body"]}
        assert (rows[run]["status"], rows[waiting]["status"]) == ("stopped", "stopped")
        assert rows[f"{run}:text:1"]["content"] == "half"

    def test_math(self) -> None:
        reply = Line().ask("math")
        built = files("webchat_widget") / "static" / "math.js"
        assert (reply["status"], reply["body"]) == (200, built.read_text(encoding="utf-8"))

    def test_ping(self) -> None:
        line = Line(ScriptedEngine("Hello."))
        stream = line.open()
        assert line.ask("ping", stream=stream)["body"] == {"version": 0, "notices": []}
        line.say()
        line.until_type("run.finished")
        version = line.ask("ping", stream=stream)["body"]["version"]
        assert str(version) == line.ask("timeline", conv_id="c")["headers"]["X-Timeline-Version"]

    def test_a_ping_of_no_stream(self) -> None:
        reply = Line().ask("ping", stream="nobody's")
        assert reply["status"] == 410
        assert set(reply["body"]) == {"message", "reason", "code"}

    def test_a_conversation_that_another_kernel_has(self) -> None:
        holder, line = Line(), Line()
        holder.ask("timeline", conv_id="c")
        asked = [
            line.tell(op, conv_id="c", prompt="hi") for op in ("health", "open", "timeline", "chat", "stop")
        ]
        for reply in map(line.reply, asked):
            assert (reply["status"], reply["body"]["code"]) == (409, "conversation_held")
            assert "Another kernel" in reply["body"]["message"]
        kernel_host().call(holder.hosted.close())
        assert line.ask("health")["status"] == 200

    def test_a_disk_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = Line()

        async def ready() -> None:
            raise StoreUnavailable("The disk is full.")

        monkeypatch.setattr(line.hosted, "ready", ready)
        reply = line.ask("timeline", conv_id="c")
        assert (reply["status"], reply["body"]) == (
            503,
            {"message": "The disk is full.", "reason": "Service Unavailable", "code": "store_unavailable"},
        )

    def test_a_fault_of_ours_is_a_sentence_and_a_line_in_the_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        line = Line()

        async def ready() -> None:
            raise LookupError("canary")

        monkeypatch.setattr(line.hosted, "ready", ready)
        reply = line.ask("health")
        assert (reply["status"], reply["body"]["code"]) == (500, "internal_error")
        assert "canary" not in str(reply)
        assert "canary" in caplog.text


class TestWordsOfTheSystemThatAreNoUnicode:
    """The name of a file, or a variable of the environment, may be any bytes."""

    def test_in_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = Line()

        async def ready() -> None:
            raise StoreUnavailable("/home/m\udcfcller is full.")

        monkeypatch.setattr(line.hosted, "ready", ready)
        assert line.ask("health")["body"]["message"] == "/home/m\ufffdller is full."

    def test_in_an_answer(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        monkeypatch.setenv("WEBCHAT_MODEL", "m\udcfcller")
        line = Line()
        assert line.ask("health")["status"] == 500
        assert line.ask("timeline", conv_id="c")["status"] == 200
        assert "health failed" in caplog.text


def over_the_comm(case: dict[str, Any]) -> tuple[str, Any] | None:
    """The op and body that a case of HTTP is here; None for what no comm can carry."""
    path, _, query = case["path"].partition("?")
    if "headers" in case or "contentType" in case or path.endswith("/settings") or path.startswith("api/"):
        return None
    if path == "timeline":
        body = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        return "timeline", {**body, "conv_id": body.get("conv_id")}
    try:
        sent = json.loads(case["raw"]) if "raw" in case else case["body"]
    except ValueError:
        return None
    if not isinstance(sent, dict):
        return "chat", sent
    first, *rest = path.split("/")
    if "pauses" in rest:
        return "resume", {**sent, "conv_id": rest[0], "pause_id": rest[-1]}
    if first == "conversations":
        return "stop", {**sent, "conv_id": rest[0]}
    return "chat", {"conv_id": "a", **sent, **({"profile": rest[0]} if rest else {})}


class TestHostileContent:
    @pytest.mark.parametrize(
        "case", [c for c in GOLDEN["refused"] if over_the_comm(c)], ids=lambda case: case["name"]
    )
    def test_a_body_is_refused_as_it_is_over_http(self, case: dict[str, Any]) -> None:
        line = Line(conv_id="a")
        asked = over_the_comm(case)
        assert asked is not None
        op, body = asked
        line.port.receive({"op": op, "rid": "r", "body": body})
        reply = line.reply("r")
        assert (reply["status"], reply["body"]["code"]) == (case["status"], case["code"])
        assert set(reply["body"]) <= {"message", "reason", "code", "field"}

    @pytest.mark.parametrize(
        "content",
        [
            None,
            "text",
            7,
            [],
            [{"op": "health", "rid": "r"}],
            {},
            {"op": "health"},
            {"op": "health", "rid": None},
            {"op": "health", "rid": 7},
            {"op": "health", "rid": ["r"]},
            {"op": "health", "rid": {"r": "r"}},
            {"op": "health", "rid": "r" * 1_000_000},
            {"op": "health", "rid": "\ud800"},
            {"id": "1", "kind": "anywidget-command", "name": "x", "msg": {}},
        ],
        ids=lambda content: str(content)[:40],
    )
    def test_without_a_name_to_answer_to_there_is_silence(self, content: Any) -> None:
        line = Line()
        line.port.receive(content)
        line.ask("health")
        assert len(line.messages) == 1

    @pytest.mark.parametrize(
        "op",
        [
            None,
            "",
            "nothing",
            "__init__",
            "Health",
            7,
            ["health"],
            {"op": "health"},
            "\ud800",
            "x\x00",
            "x" * 10**6,
        ],
        ids=lambda op: str(op)[:20].encode("ascii", "replace").decode(),
    )
    def test_an_unknown_operation(self, op: Any, caplog: pytest.LogCaptureFixture) -> None:
        line = Line()
        line.port.receive({"op": op, "rid": "r", "body": {}})
        reply = line.reply("r")
        assert (reply["status"], reply["body"]["code"]) == (404, "unknown_op")
        assert len(reply["body"]["message"]) < 200
        assert not caplog.records

    def test_an_operation_that_is_a_labyrinth(self, caplog: pytest.LogCaptureFixture) -> None:
        line = Line()
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        line.port.receive({"op": deep, "rid": "op", "body": {}})
        line.port.receive({"op": "health", "rid": "body", "body": {"x": deep}})
        line.port.receive({"op": "health", "rid": "list", "body": deep})
        assert line.reply("op")["status"] == 404
        assert [line.reply(rid)["status"] for rid in ("body", "list")] == [400, 400]
        assert not caplog.records

    @pytest.mark.parametrize("body", [None, [], "text", 7, [["conv_id", "c"]]], ids=str)
    @pytest.mark.parametrize("op", ["health", "open", "close", "ping", "timeline", "chat", "stop", "math"])
    def test_a_body_that_is_no_object(self, op: str, body: Any) -> None:
        line = Line()
        line.port.receive({"op": op, "rid": "r", "body": body})
        assert (line.reply("r")["status"], line.reply("r")["body"]["code"]) == (400, "bad_json")

    @pytest.mark.parametrize(
        "body", [{"x": {1, 2}}, {"x": b"bytes"}, {b"x": 1}, {"x": object()}], ids=without_address
    )
    def test_what_no_json_can_be(self, body: Any) -> None:
        line = Line()
        line.port.receive({"op": "chat", "rid": "r", "body": {"conv_id": "c", "prompt": "hi", **body}})
        assert line.reply("r")["status"] in (200, 400)

    def test_a_large_body(self) -> None:
        line = Line()
        reply = line.ask("chat", conv_id="c", prompt="hi", more="x" * 2**20)
        assert (reply["status"], reply["body"]["code"]) == (413, "body_too_large")
        reply = line.ask("chat", conv_id="c", prompt="x" * (256 * 1024 + 1))
        assert (reply["status"], reply["body"]["code"]) == (413, "too_large")

    @pytest.mark.parametrize("op", ["open", "timeline", "chat", "stop"])
    def test_another_conversation_is_none_of_the_widgets(self, op: str) -> None:
        line = Line()
        reply = line.ask(op, conv_id="another", prompt="hi")
        assert (reply["status"], reply["body"]["code"]) == (404, "other_conversation")

    @pytest.mark.parametrize("op", ["open", "timeline", "chat", "stop"])
    @pytest.mark.parametrize(
        "conv_id", [None, "", "../c", "c\x00", ["c"], 7, "c" * 10**6], ids=lambda c: str(c)[:9]
    )
    def test_a_conversation_that_can_be_none(self, op: str, conv_id: Any) -> None:
        reply = Line().ask(op, conv_id=conv_id, prompt="hi")
        assert reply["status"] == 400
        assert reply["body"]["code"] in ("bad_conv_id", "bad_json")

    @pytest.mark.parametrize(
        "profile", ["nobody", ["default"], {"a": "b"}, 7, "x" * 10**5], ids=lambda p: str(p)[:9]
    )
    @pytest.mark.parametrize("op", ["open", "chat"])
    def test_an_unknown_profile(self, op: str, profile: Any) -> None:
        reply = Line().ask(op, conv_id="c", prompt="hi", profile=profile)
        assert (reply["status"], reply["body"]["code"]) == (404, "unknown_profile")
        assert len(reply["body"]["message"]) < 300

    @pytest.mark.parametrize("stream", [None, 7, ["s"], {"s": "s"}, "x" * 10**5], ids=lambda s: str(s)[:9])
    def test_a_stream_that_is_none(self, stream: Any) -> None:
        line = Line()
        assert line.ask("close", stream=stream)["status"] == 200
        assert line.ask("ping", stream=stream)["status"] == 410

    @pytest.mark.parametrize("name", ["since_version", "limit", "before"])
    @pytest.mark.parametrize("value", [-1, 1.5, True, [], {}, "x", 2**53, 2**70, 1e300])
    def test_a_number_that_is_none(self, name: str, value: Any) -> None:
        reply = Line().ask("timeline", conv_id="c", **{name: value})
        assert (reply["status"], reply["body"]["code"]) == (400, "bad_query")

    def test_questions_from_many_threads_all_get_their_answers(self) -> None:
        line = Line()
        rids: list[str] = []

        def ask() -> None:
            rids.extend(line.tell("timeline", conv_id="c") for _ in range(50))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rids) == 400
        until(lambda: {m.get("rid") for m in line.messages} == set(rids), "all answers")
        assert len(line.messages) == 400

    def test_no_message_has_an_id_of_its_own(self) -> None:
        """The kernel would keep something for each."""
        line = Line(ScriptedEngine(["Hello."], ["x" * 600_000]))
        line.open()
        line.port.receive({"op": "health", "rid": "r", "body": {"id": "x"}, "id": "y"})
        line.say()
        line.say("a long one")
        line.ask("nothing")
        line.until_type("run.finished", 2)
        assert {"piece", "frames", "rid"} <= {key for message in line.raw for key in message}
        assert not [message for message in line.raw if "id" in message]
