"""Profiles of a real server: picked by path, query and cookie, and what a caller may choose under each."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_server_webchat.configuration import configured_profiles
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until
from webchat_widget import Profile

PROFILES: list[dict[str, Any]] = [
    {"slug": "default", "system_prompt": "Be kind."},
    {
        "slug": "sql",
        "display_name": "SQL expert",
        "system_prompt": "Answer in SQL.",
        "model": "test-sql",
        "tools": ["calculate"],
        "middlewares": ["loud"],
    },
    {"slug": "locked", "system_prompt": "House rules.", "allow_overrides": False},
    {"slug": "half", "allow_overrides": ["model"]},
    {"slug": "step", "tools": ["calculate"], "middlewares": ["step"]},
]
LOUD = """
from typing import ClassVar
from msgspec.structs import replace
from webchat_widget import Middleware
from webchat_widget.turns import Message

class Loud(Middleware, frozen=True):
    "Shouts."
    name: ClassVar[str] = "loud"
    mark: str = "!"

    def prepare(self, turn, run):
        *before, last = turn.messages
        return replace(turn, messages=(*before, replace(last, content=last.content.upper() + self.mark)))
"""
PLUGIN = (
    LOUD
    + """
from webchat_widget import Profile
PLUGGED = [Profile(slug="plugged", middlewares=[Loud(mark="?!")]), Profile(slug="sql", display_name="Not me")]
BROKEN = Profile(slug="broken", middlewares=["nothing"])
"""
)
POINTS = "[webchat_widget.profiles]\nplugged = plugged:PLUGGED\nbroken = plugged:BROKEN\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Jupyter]:
    """A server with profiles of its configuration and of an installed package."""
    folder: Path = tmp_path_factory.mktemp("profiles")
    (folder / "loud.py").write_text(LOUD)
    (folder / "plugged.py").write_text(PLUGIN)
    info = folder / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    config = folder / "webchat_config.py"
    config.write_text(f"c.WebChat.profiles = {PROFILES!r}\nc.WebChat.middlewares = ['loud:Loud']\n")
    jupyter = Jupyter(
        folder,
        command="webchat",
        base_url="/user/x/",
        env={"OPENAI_BASE_URL": model.url, "PYTHONPATH": str(folder)},
        args=["--WebChat.models=test-*", f"--config={config}"],
    )
    with jupyter:
        yield jupyter


@pytest.fixture(autouse=True)
def _fresh(model: ModelServer) -> None:
    model.reset()


@pytest.fixture
def conv() -> str:
    """A conversation that no other test has."""
    return f"p-{uuid.uuid4()}"


@pytest.fixture
def browser(server: Jupyter) -> Iterator[httpx.Client]:
    """A browser that logged in: it keeps cookies."""
    with httpx.Client(base_url=server.url("webchat/"), timeout=30) as http:
        http.get(server.url("webchat/", login=True), follow_redirects=True).raise_for_status()
        http.headers["X-XSRFToken"] = http.cookies["_xsrf"]
        yield http


def say(http: httpx.Client, conv: str, path: str = "chat", **more: Any) -> dict[str, Any]:
    """Send a prompt, and wait until its run has ended; its row's props."""
    reply = http.post(path, json={"prompt": "hello", "conv_id": conv, **more})
    assert reply.status_code in (200, 202), reply.text
    return ended(http, conv, reply.json()["run_id"])


def ended(http: httpx.Client, conv: str, run_id: str) -> dict[str, Any]:
    """The props of a run, when it has ended."""

    def end() -> dict[str, Any] | None:
        rows = {row["id"]: row for row in http.get("timeline", params={"conv_id": conv}).json()}
        props: dict[str, Any] = rows[run_id]["props"]
        return props if props["status"] not in ("queued", "started") else None

    found = until(end, f"the run ends in {conv}")
    assert found is not None
    return found


def told(model: ModelServer, at: int = -1) -> tuple[str, str, list[str]]:
    """System message, model and tools of a request."""
    body = model.completions[at].body
    first = body["messages"][0]
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    return (first["content"] if first["role"] == "system" else ""), body["model"], tools


def loud(**config: Any) -> dict[str, Any]:
    """How a prompt asks for that middleware."""
    return {"name": "loud", "config": config}


SQL = ("Answer in SQL.", "test-sql", ["calculate"])
KIND = ("Be kind.", "test-model", [])


class TestTheList:
    def test_configured_ones_and_then_those_of_packages(self, client: httpx.Client) -> None:
        listed = client.get("api/chat/profiles").json()
        assert listed[:2] == [
            {"slug": "default", "display_name": "Default"},
            {"slug": "sql", "display_name": "SQL expert"},
        ]
        assert [each["slug"] for each in listed[2:]] == ["locked", "half", "step", "plugged"]

    def test_a_bad_conversation(self, client: httpx.Client) -> None:
        assert client.get("api/chat/profiles?conv_id=..").status_code == 400

    def test_what_packages_have_wrong_is_in_the_log(self, server: Jupyter) -> None:
        log = server.log.read_text()
        assert "broken = plugged:BROKEN (webchat_widget.profiles, of plugged) is left out" in log
        assert "There is no middleware 'nothing'" in log


class TestWhichOne:
    def test_path_before_query_before_cookie(
        self, browser: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        say(browser, conv)
        assert told(model) == KIND
        assert browser.post("api/chat/profile", json={"slug": "sql"}).json() == {"slug": "sql"}
        assert browser.get("api/chat/profile").json() == {"slug": "sql"}
        assert say(browser, conv)["profile"] == "sql"
        assert told(model) == SQL
        assert model.completions[-1].body["messages"][-1]["content"] == "HELLO!"
        assert say(browser, conv, "chat?profile=locked")["profile"] == "locked"
        assert told(model)[0] == "House rules."
        assert say(browser, conv, "chat/half?profile=locked")["profile"] == "half"
        assert "profile" not in say(browser, conv, "chat/default")
        assert told(model) == KIND
        assert browser.get("api/chat/profile?profile=half").json() == {"slug": "half"}

    def test_the_cookie_is_for_the_chat_only(self, server: Jupyter, browser: httpx.Client) -> None:
        reply = browser.post("api/chat/profile", json={"slug": "sql"})
        cookie = reply.headers["Set-Cookie"]
        assert cookie.startswith("chat_profile=sql;")
        parts = {part.strip().lower() for part in cookie.split(";")}
        assert {"httponly", "samesite=strict", "path=/user/x/webchat/"} <= parts
        assert "secure" not in parts, "this server speaks http"

    def test_a_cookie_of_old_is_passed_over(self, server: Jupyter, model: ModelServer, conv: str) -> None:
        headers = {"Authorization": f"token {server.token}", "Cookie": "chat_profile=gone"}
        with httpx.Client(base_url=server.url("webchat/"), headers=headers, timeout=30) as http:
            assert http.get("api/chat/profile").json() == {"slug": "default"}
            assert http.get("").status_code == 200
            say(http, conv)
        assert told(model) == KIND

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "chat/nobody"),
            ("POST", "chat?profile=nobody"),
            ("POST", "chat/nobody?profile=sql"),
            ("GET", "ws?conv_id=a&profile=nobody"),
            ("GET", "api/chat/profile?profile=nobody"),
            ("POST", "api/chat/profile"),
        ],
    )
    def test_one_that_is_named_must_be_there(self, client: httpx.Client, method: str, path: str) -> None:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        body = {"prompt": "hi", "conv_id": "a", "slug": "nobody"} if method == "POST" else None
        reply = client.request(method, path, json=body, headers=upgrade if method == "GET" else {})
        assert (reply.status_code, reply.json()["code"]) == (404, "unknown_profile")
        assert "Profiles: default, sql, locked" in reply.json()["message"]

    def test_a_page_opens_where_the_profile_of_its_address_is_gone(self, client: httpx.Client) -> None:
        assert client.get("?profile=nobody").status_code == 200

    @pytest.mark.parametrize(
        ("query", "cookie", "slug"),
        [
            ("", "", "default"),
            ("", "chat_profile=sql", "sql"),
            ("&profile=half", "chat_profile=sql", "half"),
            ("", "chat_profile=gone", "default"),
        ],
    )
    async def test_of_a_socket(self, server: Jupyter, conv: str, query: str, cookie: str, slug: str) -> None:
        url = server.url(f"webchat/ws?conv_id={conv}{query}").replace("http", "ws", 1)
        headers = {"Authorization": f"token {server.token}", "Cookie": cookie}
        socket = await websocket_connect(HTTPRequest(url, headers=headers))
        hello = json.loads(await socket.read_message() or "")
        assert hello["event"]["data"]["profile"] == slug
        socket.close()


class TestWhileARunGoesOn:
    def test_a_switch_is_for_later_prompts(
        self, browser: httpx.Client, model: ModelServer, conv: str
    ) -> None:
        gate = Gate()
        model.script(Reply(chunks=["half ", "done"], hold=gate), "two", "three")
        ids = []
        for slug in ("default", "sql", "default"):
            browser.post("api/chat/profile", json={"slug": slug}).raise_for_status()
            ids.append(browser.post("chat", json={"prompt": "hello", "conv_id": conv}).json()["run_id"])
        browser.post("api/chat/profile", json={"slug": "locked"}).raise_for_status()
        gate.open()
        props = [ended(browser, conv, run_id) for run_id in ids]
        assert [each.get("profile") for each in props] == [None, "sql", None]
        assert [told(model, at) for at in range(3)] == [KIND, SQL, KIND]


class TestOverrides:
    @pytest.mark.parametrize(
        ("overrides", "seen"),
        [
            ({"system_prompt": "Be brief."}, ("Be brief.", "test-sql", ["calculate"])),
            ({"system_prompt": ""}, ("", "test-sql", ["calculate"])),
            ({"model": "test-other"}, ("Answer in SQL.", "test-other", ["calculate"])),
            ({"tools": []}, ("Answer in SQL.", "test-sql", [])),
            ({"tools": ["calculate"]}, SQL),
            (
                {
                    "middlewares": [
                        {"name": "system_prompt", "config": {"text": "And short.", "where": "after"}}
                    ]
                },
                ("Answer in SQL.\n\nAnd short.", "test-sql", ["calculate"]),
            ),
        ],
    )
    def test_allowed(
        self, client: httpx.Client, model: ModelServer, conv: str, overrides: Any, seen: Any
    ) -> None:
        say(client, conv, "chat/sql", overrides=overrides)
        assert told(model) == seen
        say(client, conv, "chat/sql")
        assert told(model) == SQL, "it held for one prompt"

    @pytest.mark.parametrize(("names", "mark"), [([], ""), (["loud"], "!"), ([loud(mark="?")], "?")])
    def test_middlewares(
        self, client: httpx.Client, model: ModelServer, conv: str, names: Any, mark: str
    ) -> None:
        say(client, conv, "chat/sql", overrides={"middlewares": names})
        sent = model.completions[-1].body["messages"][-1]["content"]
        assert sent == (f"HELLO{mark}" if mark else "hello")

    @pytest.mark.parametrize(
        ("profile", "overrides", "field"),
        [
            *(
                (profile, overrides, f"overrides.{name}")
                for profile, but in (("locked", ""), ("half", "model"))
                for name, overrides in {
                    "system_prompt": {"system_prompt": ""},
                    "model": {"model": "test-model"},
                    "tools": {"tools": []},
                    "middlewares": {"middlewares": []},
                }.items()
                if name != but
            ),
            ("sql", {"model": "gpt-9"}, "overrides.model"),
            ("half", {"model": "gpt-9"}, "overrides.model"),
            ("sql", {"tools": ["calculate", "shell"]}, "overrides.tools"),
            ("default", {"tools": ["calculate"]}, "overrides.tools"),
            ("sql", {"middlewares": ["nothing"]}, "overrides.middlewares[0].name"),
            ("sql", {"middlewares": ["loud", loud(mark=7)]}, "overrides.middlewares[1].config"),
            ("sql", {"middlewares": [loud(volume=7)]}, "overrides.middlewares[0].config"),
            ("sql", {"middlewares": [{"name": "loud", "volume": 7}]}, "overrides.middlewares[0]"),
            ("sql", {"base_url": "http://evil"}, "overrides.base_url"),
            ("sql", {"api_key": "sk-evil"}, "overrides.api_key"),
            ("sql", {"temperature": 2}, "overrides.temperature"),
        ],
    )  # fmt: skip
    def test_refused(
        self, client: httpx.Client, model: ModelServer, profile: str, overrides: Any, field: str
    ) -> None:
        reply = client.post(f"chat/{profile}", json={"prompt": "x", "conv_id": "r", "overrides": overrides})
        assert (reply.status_code, reply.json().get("field")) == (422, field), reply.text
        assert not model.completions

    def test_one_of_a_package_has_its_own(self, client: httpx.Client, model: ModelServer, conv: str) -> None:
        say(client, conv, "chat/plugged")
        assert model.completions[-1].body["messages"][-1]["content"] == "HELLO?!"

    def test_what_half_allows(self, client: httpx.Client, model: ModelServer, conv: str) -> None:
        say(client, conv, "chat/half", overrides={"model": "test-9"})
        assert told(model)[1] == "test-9"

    @pytest.mark.parametrize(
        "overrides",
        ["x", [], {"tools": "calculate"}, {"model": 7}, {"middlewares": [7]}, {"system_prompt": ["x"]}],
    )
    def test_malformed(self, client: httpx.Client, overrides: Any) -> None:
        reply = client.post("chat/sql", json={"prompt": "x", "conv_id": "r", "overrides": overrides})
        assert (reply.status_code, reply.json()["code"]) == (400, "bad_overrides")

    def test_a_replay_is_of_the_same_profile(self, client: httpx.Client, conv: str) -> None:
        body = {"prompt": "hello", "conv_id": conv, "idempotency_key": f"k-{conv}"}
        first = client.post("chat/sql", json=body)
        assert client.post("chat?profile=sql", json=body).json() == first.json()
        assert client.post("chat/default", json=body).status_code == 422


def test_a_pause_goes_on(client: httpx.Client, model: ModelServer, conv: str) -> None:
    model.script(Reply(tool_calls=[{"name": "calculate", "arguments": {"expression": "6*7"}}]), "It is 42.")
    run_id = client.post("chat/step", json={"prompt": "6*7?", "conv_id": conv}).json()["run_id"]
    continued: list[str] = []

    def go_on() -> bool:
        rows = client.get("timeline", params={"conv_id": conv}).json()
        for row in rows:
            if row["kind"] == "debugger_pause" and row["props"]["status"] == "paused":
                reply = client.post(f"conversations/{conv}/pauses/{row['id']}", json={})
                assert (reply.status_code, reply.json()) == (
                    200,
                    {"status": "continued", "pause_id": row["id"]},
                )
                continued.append(row["props"]["phase"])
        return any(row["id"] == run_id and row["props"]["status"] == "finished" for row in rows)

    until(go_on, "the run ends")
    assert list(dict.fromkeys(continued)) == ["after_inference", "after_tools"]
    assert client.post(f"conversations/{conv}/pauses/nothing", json={}).status_code == 404


class TestAConfiguration:
    @staticmethod
    def read(profiles: list[Any], middlewares: tuple[str, ...] = ()) -> dict[str, Profile]:
        default = Profile(slug="default", system_prompt="Be kind.", tools=["calculate"])
        log = logging.getLogger("test")
        found = configured_profiles(default, profiles, middlewares, ["*"], ["calculate"], log)
        return {profile.slug: profile for profile in found}

    def test_one_named_default_is_laid_over_the_other_settings(self) -> None:
        found = self.read([{"slug": "default", "model": "m", "allow_overrides": ["model"]}])
        default = found["default"]
        assert (default.system_prompt, default.model, default.tools) == ("Be kind.", "m", ["calculate"])
        assert (default.allows("model"), default.allows("tools")) == (True, False)
        assert self.read([Profile(slug="default", tools=[])])["default"].tools == []

    @pytest.mark.parametrize(
        ("profiles", "middlewares", "said"),
        [
            ([{"slug": "Bad Slug"}], (), r"c\.WebChat\.profiles\[0\]: .*A profile's slug has"),
            ([{"slug": "a"}, {"slug": "a"}], (), r"c\.WebChat\.profiles\[1\]: Two profiles have the slug a"),
            ([{"slug": "default"}] * 2, (), r"profiles\[1\]: Two profiles have the slug default"),
            ([{"slug": "a", "sistem": "x"}], (), r"profiles\[0\]: .*unknown field `sistem`"),
            (["a"], (), r"profiles\[0\]: A profile is a Profile, or a dict with a slug; 'a' is none"),
            ([{"slug": "a", "tools": ["shell"]}], (), "The profile a has an unknown tool 'shell'"),
            ([{"slug": "a", "middlewares": ["x"]}], (), r"The profile a, middlewares\[0\].name: There is no"),
            (
                [{"slug": "a", "middlewares": [{"name": "system_prompt", "config": {"text": 7}}]}],
                (),
                r"The profile a, middlewares\[0\]\.config: The config of the middleware system_pr",
            ),
            ([], ("nowhere:X",), r"c\.WebChat\.middlewares: 'nowhere:X' can't be used.*No module named"),
            ([], ("json",), r"'json' can't be used, it must be package\.module:Class"),
            ([], ("json:JSONDecoder",), "is no subclass of webchat_widget.Middleware"),
        ],
    )  # fmt: skip
    def test_refused(self, profiles: list[Any], middlewares: tuple[str, ...], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            self.read(profiles, middlewares)

    def test_a_server_of_its_own_does_not_start(self, tmp_path: Path) -> None:
        config = tmp_path / "config.py"
        config.write_text('c.WebChat.profiles = [{"slug": "Bad Slug"}]\n')
        command = [sys.executable, "-m", "jupyter", "webchat", "--allow-root", "--no-browser", "--port=0"]
        folders = dict.fromkeys(
            ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"), str(tmp_path)
        )
        ran = subprocess.run(
            [*command, f"--config={config}"],
            env={**os.environ, **folders},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 1
        assert "webchat: c.WebChat.profiles[0]: The profile 'Bad Slug' is malformed" in ran.stderr
        assert "Traceback" not in ran.stderr
