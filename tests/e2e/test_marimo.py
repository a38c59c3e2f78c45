"""A page with anywidget and without Jupyter: no page configuration, no cookie, no server, the comm alone."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.pages import ChatPage
from tests.support.jupyter import free_port
from tests.support.waiting import until

MARIMO = Path(__file__).resolve().parents[2] / "build" / "marimo"
NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    from webchat_widget import ChatWidget, ScriptedEngine
    chat = ChatWidget(engine=ScriptedEngine(["one ", 0.3, "two ", 0.3, "$E = mc^2$"], "And again."))
    chat
    return (chat,)

@app.cell
def _(chat):
    import marimo
    marimo.md(f"It runs in the {chat.where}.")
    return
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """An application that marimo serves, in which a thread of one process is a visitor's kernel."""
    assert MARIMO.is_dir(), "No marimo here: `make test` installs it."
    (tmp_path / "app.py").write_text(NOTEBOOK)
    port = free_port()
    options = ["--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "PYTHONPATH": str(MARIMO), "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "marimo", "run", *options, str(tmp_path / "app.py")]
        server = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return bool(urllib.request.urlopen(url, timeout=2).status == 200)
        except OSError:
            return False

    try:
        until(answers, "marimo answers", timeout=60)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def test_the_chat_lives_in_the_kernel_and_streams(address: str, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto(address)
    chat = ChatPage(page).wait_live(timeout=60)
    expect(chat.root).to_have_attribute("data-transport", "kernel")
    expect(page.get_by_text("It runs in the kernel.")).to_be_visible()
    chat.watch()
    chat.send("count")
    until(lambda: chat.assistant_text().startswith("one"), "the first word")
    expect(chat.root.locator("math")).to_be_visible(timeout=20_000)
    chat.wait_idle()
    assert chat.setbacks() == []
    assert [row.text for row in chat.rows(role="user")] == ["count"]

    other = new_page()
    other.goto(address)
    stranger = ChatPage(other).wait_live(timeout=60)
    assert stranger.rows() == [], "another visitor has a conversation of their own"
