"""Who may do what: every route that there is, against every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jupyter_server_webchat.handlers import ROUTES
from tests.support.jupyter import Jupyter

# A route that is added without a row here fails the first test: say what a good request of it looks like.
GOOD: dict[tuple[str, str], tuple[str, dict[str, object] | None]] = {
    (r"webchat", "GET"): ("webchat", None),
    (r"webchat/", "GET"): ("webchat/", None),
    (r"webchat/health", "GET"): ("webchat/health", None),
    (r"webchat/chat", "POST"): ("webchat/chat", {"prompt": "hello", "conv_id": "access"}),
    (r"webchat/chat/([^/]+)", "POST"): ("webchat/chat/default", {"prompt": "hello", "conv_id": "access-2"}),
    (r"webchat/api/chat/profiles", "GET"): ("webchat/api/chat/profiles?conv_id=access", None),
    (r"webchat/api/chat/profile", "GET"): ("webchat/api/chat/profile", None),
    (r"webchat/api/chat/profile", "POST"): ("webchat/api/chat/profile", {"slug": "default"}),
    (r"webchat/timeline", "GET"): ("webchat/timeline?conv_id=access", None),
    (r"webchat/turns", "GET"): ("webchat/turns?conv_id=access", None),
    (r"webchat/ws", "GET"): ("webchat/ws?conv_id=access", None),
    (r"webchat/conversations", "GET"): ("webchat/conversations", None),
    (r"webchat/conversations/([^/]+)/stop", "POST"): ("webchat/conversations/access/stop", {}),
    (r"webchat/conversations/([^/]+)/settings", "PUT"): ("webchat/conversations/access/settings", {}),
    (r"webchat/conversations/([^/]+)/handover", "POST"): ("webchat/conversations/access-3/handover", {}),
    (r"webchat/conversations/([^/]+)/tools", "PUT"): (
        "webchat/conversations/access/tools",
        {"kernel_id": "none"},
    ),
    (r"webchat/conversations/([^/]+)/approvals/([^/]+)", "POST"): (
        "webchat/conversations/access/approvals/none",
        {"decision": "once", "digest": "0" * 64},
    ),
    (r"webchat/conversations/([^/]+)/events", "POST"): (
        "webchat/conversations/access/events",
        {"kind": "weather", "props": {}},
    ),
    (r"webchat/conversations/([^/]+)/pauses/([^/]+)", "POST"): (
        "webchat/conversations/access/pauses/none",
        {},
    ),
}
LET_IN = {
    "webchat": 302,
    "webchat/ws?conv_id=access": 101,
    "webchat/conversations/access/tools": 404,  # no such kernel
    "webchat/conversations/access/approvals/none": 404,  # no such call
    "webchat/conversations/access/pauses/none": 404,  # no such pause
}
"""The status of a request that got through, where it is not 200."""
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CASES = [pytest.param(verb, *good, id=f"{verb} {pattern}") for (pattern, verb), good in GOOD.items()]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_every_route_has_a_row() -> None:
    served = {
        (pattern, verb)
        for pattern, handler, *_ in ROUTES
        for verb in VERBS
        if any(verb.lower() in vars(kind) for kind in handler.__mro__ if "webchat" in kind.__module__)
    }
    assert served == set(GOOD)


@pytest.fixture(scope="module", params=[True, False], ids=["default", "allow_unauthenticated_access=False"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server as it comes, and one that lets nobody in who is not logged in."""
    args = [] if request.param else ["--ServerApp.allow_unauthenticated_access=False"]
    demo = {"WEBCHAT_MODEL": ""}
    folder = tmp_path_factory.mktemp("access")
    with Jupyter(folder, command="webchat", env=demo, args=["--WebChat.demo_delay=0", *args]) as jupyter:
        yield jupyter


@pytest.fixture
def browser(server: Jupyter) -> Iterator[httpx.Client]:
    """A browser that logged in: it has cookies and no token."""
    with httpx.Client(timeout=30) as http:
        http.get(server.url("webchat/", login=True), follow_redirects=True).raise_for_status()
        assert "_xsrf" in http.cookies
        yield http


def ask(
    http: httpx.Client, server: Jupyter, verb: str, path: str, body: object, headers: dict[str, str]
) -> int:
    """The status of a request; a socket's handshake where the route is one."""
    more = UPGRADE if "webchat/ws" in path else {}
    with http.stream(verb, server.url(path), json=body, headers={**more, **headers}) as reply:
        return reply.status_code


@pytest.mark.parametrize(("verb", "path", "body"), CASES)
class TestEveryRoute:
    def test_refuses_nobody(self, server: Jupyter, verb: str, path: str, body: object) -> None:
        with httpx.Client() as http:
            status = ask(http, server, verb, path, body, {})
        # A page sends its visitor to the login; everything else says no.
        assert status == (302 if path in ("webchat", "webchat/") else 403)

    def test_refuses_a_bad_token(self, server: Jupyter, verb: str, path: str, body: object) -> None:
        with httpx.Client() as http:
            status = ask(http, server, verb, path, body, {"Authorization": "token wrong"})
        assert status in (302, 401, 403)

    def test_lets_a_token_in(self, server: Jupyter, verb: str, path: str, body: object) -> None:
        with httpx.Client() as http:
            status = ask(http, server, verb, path, body, {"Authorization": f"token {server.token}"})
        assert status == LET_IN.get(path, 200)

    def test_lets_a_browser_in_where_it_shows_its_xsrf_token(
        self, server: Jupyter, browser: httpx.Client, verb: str, path: str, body: object
    ) -> None:
        status = ask(browser, server, verb, path, body, {"X-XSRFToken": browser.cookies["_xsrf"]})
        assert status == LET_IN.get(path, 200)

    def test_refuses_a_browser_that_changes_something_without_it(
        self, server: Jupyter, browser: httpx.Client, verb: str, path: str, body: object
    ) -> None:
        status = ask(browser, server, verb, path, body, {})
        reads = LET_IN.get(path, 200)
        assert status == (reads if verb == "GET" else 403)

    def test_refuses_another_origin(
        self, server: Jupyter, browser: httpx.Client, verb: str, path: str, body: object
    ) -> None:
        headers = {"X-XSRFToken": browser.cookies["_xsrf"], "Origin": "https://evil.example"}
        status = ask(browser, server, verb, path, body, headers)
        # A page may be linked to from anywhere; what answers with data or acts, may not be asked.
        assert status == {"webchat": 302, "webchat/": 200}.get(path) or status in (403, 404)


def test_an_authorizer_that_denies_is_obeyed(tmp_path: Path) -> None:

    (tmp_path / "deny.py").write_text(
        "from jupyter_server.auth import Authorizer\n"
        "class Deny(Authorizer):\n"
        "    def is_authorized(self, handler, user, action, resource):\n"
        "        return not str(resource).startswith('webchat')\n"
    )
    args = ["--ServerApp.authorizer_class=deny.Deny"]
    with Jupyter(tmp_path, command="webchat", args=args, env={"PYTHONPATH": str(tmp_path)}) as server:
        headers = {"Authorization": f"token {server.token}"}
        with httpx.Client() as http:
            for (pattern, verb), (path, body) in GOOD.items():
                status = ask(http, server, verb, path, body, headers)
                assert status == 403, (pattern, verb)


@pytest.mark.parametrize(("verb", "path", "body"), CASES)
@pytest.mark.parametrize("header", ["Origin", "Referer"])
def test_an_origin_that_is_no_url_is_no_origin(
    server: Jupyter, browser: httpx.Client, verb: str, path: str, body: object, header: str
) -> None:
    headers = {"X-XSRFToken": browser.cookies["_xsrf"], header: "http://["}
    assert ask(browser, server, verb, path, body, headers) < 500
