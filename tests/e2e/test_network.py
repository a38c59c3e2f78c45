"""Pages in a browser behind a bad network: they end as one, and nothing that was read goes back.

`tests/soak/proxy.py` does the same to many more pages, without a screen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.e2e.lab import LabPage
from tests.e2e.pages import ChatPage
from tests.soak.network import Network, Weather
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply, words
from tests.support.waiting import until

STORY = "Once upon a time there was a line that was cut, and cut again, and led nowhere, and came back."


class Lines:
    """A network that is told what to do from outside its loop."""

    def __init__(self, server: Jupyter) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._network = Network(server.port, seed=1)

    def __enter__(self) -> Lines:
        self._thread.start()
        self._run(self._network.admit())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run(self._network.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, page: Page, conv_id: str) -> ChatPage:
        """The full page of a conversation, at the other end of these lines."""
        path = f"/webchat/?conv_id={conv_id}&token={self.server.token}"
        page.goto(f"http://127.0.0.1:{self._network.port}{path}")
        return ChatPage(page, self.server).wait_live()

    def cut(self, *, hard: bool) -> None:
        self._do(lambda: self._network.cut(hard=hard))

    def refuse(self) -> None:
        self._do(self._network.refuse)

    def admit(self) -> None:
        self._run(self._network.admit())

    def weather(self, weather: Weather) -> None:
        self._network.weather = weather

    def _do(self, act: Callable[[], object]) -> None:
        async def done() -> None:
            act()

        self._run(done())

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@pytest.fixture
def lines(lab_server: Jupyter) -> Iterator[Lines]:
    with Lines(lab_server) as lines:
        yield lines


def test_two_tabs_behind_lines_that_are_cut_end_as_one(
    new_page: Callable[..., Page], lines: Lines, model: ModelServer
) -> None:
    tabs = [lines.open(new_page(), "cut-lines") for _ in range(2)]
    here, there = tabs
    for tab in tabs:
        tab.watch()
    gate = Gate()
    model.script(Reply(chunks=words(STORY), hold=gate))
    here.send("tell us")
    told = words(STORY)
    for number, hard in enumerate((True, False, True), start=1):
        gate.step(3)
        lines.cut(hard=hard)
        gate.step(2)
        for tab in tabs:
            tab.wait_text("".join(told[: 5 * number]).strip())
    lines.refuse()
    lines.cut(hard=True)
    there.send("and then?")
    until(lambda: "Not sent" in there.root.inner_text(), "a prompt that could not be sent says so")
    gate.open()
    lines.weather(Weather(lost=0.2, doubled=0.2, delay=0.02))
    lines.admit()
    there.root.get_by_role("button", name="Retry").last.click()
    for tab in tabs:
        tab.wait_live()
        tab.wait_text("You said: and then?", timeout=60)
        tab.wait_idle()
    assert here.rows() == there.rows()
    assert [row.text for row in here.rows(role="user")] == ["tell us", "and then?"]
    assert [tab.setbacks() for tab in tabs] == [[], []]
    here.expect_rows_of()


def test_a_page_and_a_widget_agree_before_and_after_their_chat_was_in_the_kernel(
    notebook: Callable[..., LabPage], new_page: Callable[..., Page], lines: Lines, model: ModelServer
) -> None:
    """The widget goes along, over its comm; the page has a socket only, and waits."""
    lab = notebook()
    widget = lab.chat()
    page = lines.open(new_page(), widget.conv_id)
    gate = Gate()
    model.script(Reply("cut by the move", hold=gate))
    page.send("go on")
    gate.step()
    for chat in (page, widget):
        chat.wait_text("cut")
    for chat in (page, widget):
        chat.watch()
    lab.run_cell("moved = ChatWidget(engine=ScriptedEngine('in the kernel'))")
    until(lambda: widget.root.get_attribute("data-transport") == "kernel", "the widget has moved")
    until(lambda: "kernel" in page.complaint(), "the page says where its chat is")
    lines.cut(hard=True)
    assert widget.ask("who is there?") == "in the kernel"
    assert page.assistant_text() == "cut"
    lab.run_cell("back = ChatWidget()")
    until(lambda: widget.root.get_attribute("data-transport") == "server", "the widget is back")
    page.part("error-panel").get_by_role("button", name="Retry").click()
    page.wait_live()
    until(lambda: page.rows() == widget.rows(), "both show the same")
    assert page.ask("and now?") == "You said: and now?"
    widget.wait_text("You said: and now?")
    widget.wait_idle()
    assert page.rows() == widget.rows()
    assert [page.setbacks(), widget.setbacks()] == [[], []]
    page.expect_rows_of()
