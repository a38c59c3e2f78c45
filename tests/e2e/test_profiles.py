"""Profiles: picked in the page and in Python, by cookie, path and query; a prompt keeps its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.lab import LabPage
from tests.e2e.pages import ChatPage, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

PIRATE = {"slug": "pirate", "display_name": "Pirate", "system_prompt": "Say arr.", "model": "parrot"}
CELL = f"""
from webchat_widget import ChatWidget, Profile
pirate = Profile(**{PIRATE!r})
chat = ChatWidget(new=True, profiles=[pirate])
chat
"""

# As the documentation has it.
POST = """
async ([path, body]) => {
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)[1];
  const answer = await fetch(path, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf },
    body: JSON.stringify(body),
  });
  return [answer.status, await answer.json()];
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_server: ModelServer) -> Iterator[Jupyter]:
    """One whose administrator offers a second profile."""
    env = {"OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": "sk-none", "WEBCHAT_MODEL": "test-model"}
    config = {"WebChat": {"profiles": [PIRATE]}}
    with Jupyter(tmp_path_factory.mktemp("jupyter"), env=env).configure(config) as server:
        yield server


def picker(chat: ChatPage) -> Locator:
    """Where one picks a profile."""
    return chat.part("profile-select")


def heard(model: ModelServer) -> dict[str, tuple[str, str]]:
    """For each prompt, what the model was told before it, and which model it was."""
    return {
        request.prompt: (
            "".join(str(m["content"]) for m in request.body["messages"] if m["role"] == "system"),
            str(request.body["model"]),
        )
        for request in model.completions
    }


DEFAULT = ("", "test-model")
ARR = ("Say arr.", "parrot")


def test_a_profile_that_is_picked_holds_from_the_next_prompt_on(desk: LabPage, model: ModelServer) -> None:
    chat = desk.show(CELL)
    expect(picker(chat)).to_have_value("default")
    assert picker(chat).locator("option").all_inner_texts()[-1] == "Pirate"
    gate = Gate()
    model.script(Reply("one two", hold=gate))
    chat.send("first")
    gate.step()
    chat.wait_text("one")
    chat.send("waits in the queue")
    picker(chat).select_option("pirate")
    chat.send("second")
    gate.open()
    until(lambda: len(model.completions) == 3, "all were asked")
    chat.wait_idle()
    assert heard(model) == {"first": DEFAULT, "waits in the queue": DEFAULT, "second": ARR}
    runs = [row["props"].get("profile") for row in chat.timeline() if row["kind"] == "run"]
    assert runs == [None, None, "pirate"]
    chat.expect_the_same_after_a_reload()
    expect(picker(chat)).to_have_value("pirate")


def test_the_page_and_python_pick_the_same_profile(desk: LabPage, model: ModelServer) -> None:
    chat = desk.show(CELL)
    picker(chat).select_option("pirate")
    until(lambda: desk.run_cell("print(chat.profile)") == "pirate", "Python knows")
    desk.run_cell("chat.send('by Python').wait(30)")
    desk.run_cell("chat.profile = 'default'")
    expect(picker(chat)).to_have_value("default")
    chat.ask("by hand")
    assert heard(model) == {"by Python": ARR, "by hand": DEFAULT}
    assert desk.run_cell("print([p['slug'] for p in chat.profiles])") == "['default', 'pirate']"


def test_who_has_one_profile_picks_none(desk: LabPage, model: ModelServer) -> None:
    chat = desk.show("from webchat_widget import ChatWidget\nchat = ChatWidget(new=True)\nchat")
    chat.ask("hello")
    expect(picker(chat)).to_have_count(0)


def test_a_profile_that_is_gone_locks_nobody_out(desk: LabPage, model: ModelServer) -> None:
    chat = desk.show(CELL.replace("new=True", "new=True, profile='pirate'"))
    chat.ask("before")
    desk.run_cell("ChatWidget(chat.conv_id)")
    chat.reload()
    assert [row.text for row in chat.rows()] == ["before", "You said: before"]
    assert chat.ask("and now?") == "You said: and now?"
    assert desk.run_cell("print(chat.profile)") == "default"
    assert heard(model) == {"before": ARR, "and now?": DEFAULT}


def refused(chat: ChatPage, slug: str) -> None:
    """The last prompt was not taken, and its row says why."""
    until(lambda: chat.rows()[-1].status == "failed", "the prompt was refused")
    expect(chat.part("turn").last).to_contain_text(f"no profile '{slug}'")


def test_the_page_remembers_by_a_cookie(page: Page, server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, server)
    picker(chat).select_option("pirate")
    until(lambda: "chat_profile" in {cookie["name"] for cookie in page.context.cookies()}, "a cookie")
    chat.ask("first")
    chat.reload()
    expect(picker(chat)).to_have_value("pirate")
    chat.ask("second")
    other = open_page(page, server)
    expect(picker(other)).to_have_value("pirate")
    picker(other).select_option("default")
    other.ask("third")
    assert heard(model) == {"first": ARR, "second": ARR, "third": DEFAULT}


def test_the_address_may_name_it(page: Page, server: Jupyter, model: ModelServer) -> None:
    page.goto(server.url("webchat/?profile=pirate", login=True))
    chat = ChatPage(page, server).wait_live()
    expect(picker(chat)).to_have_value("pirate")
    chat.ask("first")
    assert "profile=pirate" in page.url
    picker(chat).select_option("default")
    until(lambda: "profile=default" in page.url, "the address follows")
    chat.ask("second")
    chat.reload()
    expect(picker(chat)).to_have_value("default")
    assert heard(model) == {"first": ARR, "second": DEFAULT}


def test_path_before_query_before_cookie(page: Page, server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, server)

    def post(path: str, prompt: str) -> Any:
        status, answer = page.evaluate(POST, [server.url(f"webchat/{path}"), {"prompt": prompt}])
        return answer.get("code", status)

    assert post("chat", "nothing") == 200
    assert post("chat/pirate?profile=default", "path") == 200
    assert post("chat?profile=pirate", "query") == 200
    assert post("chat/nobody", "path") == post("chat?profile=nobody", "query") == "unknown_profile"
    picker(chat).select_option("pirate")
    until(lambda: "chat_profile" in {cookie["name"] for cookie in page.context.cookies()}, "a cookie")
    assert post("chat", "cookie") == 200
    assert post("chat/default", "path before cookie") == 200
    until(lambda: len(model.completions) == 5, "all were asked")
    assert heard(model) == {
        "nothing": DEFAULT,
        "path": ARR,
        "query": ARR,
        "cookie": ARR,
        "path before cookie": DEFAULT,
    }


def test_a_bookmark_outlives_its_profile(page: Page, server: Jupyter, model: ModelServer) -> None:
    chat = open_page(page, server)
    chat.ask("before")
    rows, conv_id = chat.rows(), chat.conv_id
    page.goto(server.url(f"webchat/?conv_id={conv_id}&profile=gone"))
    chat.wait_live()
    until(lambda: chat.rows() == rows, "what was said")
    chat.send("and now?")
    refused(chat, "gone")
    picker(chat).select_option("default")
    chat.ask("as before")
    page.context.add_cookies(
        [{"name": "chat_profile", "value": "gone", "url": server.url("webchat/"), "httpOnly": True}]
    )
    other = open_page(page, server)
    expect(picker(other)).to_have_value("default")
    other.ask("afresh")
    assert heard(model) == {"before": DEFAULT, "as before": DEFAULT, "afresh": DEFAULT}
