"""Rows of one's own kind, drawn by a module of one's own, and never by what a model wrote."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.e2e.lab import ChatInLab, LabPage
from tests.e2e.pages import ChatPage, open_page
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

CELL = """
from webchat_widget import ChatWidget, Event

class Weather(Event):
    city: str
    celsius: float = 0.0

chat = ChatWidget(new=True)
chat
"""

# It counts how often it draws and tidies up, and brings a rule of its own for all paragraphs.
MODULE = """
const count = (name) => { window[name] = (window[name] ?? 0) + 1; };
export default {
  render({ entity, el }) {
    count("drawn");
    const style = document.createElement("style");
    style.textContent = "p { color: rgb(1, 2, 3); }";
    const text = document.createElement("p");
    text.className = "forecast";
    text.textContent = `${entity.props.city}: ${entity.props.celsius} degrees`;
    el.append(style, text);
    return () => count("tidied");
  },
};
"""


def weather(chat: ChatInLab) -> Locator:
    """The newest row of the kind."""
    return chat.root.locator("[data-part=turn][data-kind=weather]").last


def emit(desk: LabPage, event: str) -> None:
    """Say an event from Python."""
    desk.run_cell(f"chat.emit(Weather({event}))")


def render(desk: LabPage, module: str) -> None:
    """Give the kind this module."""
    desk.run_cell(f"chat.renderers['weather'] = {module!r}")


def color(element: Locator) -> str:
    """The color of its text."""
    return str(element.evaluate("element => getComputedStyle(element).color"))


def counts(page: Page) -> tuple[int, int]:
    """How often the module has drawn and tidied up."""
    drawn, tidied = page.evaluate("[window.drawn ?? 0, window.tidied ?? 0]")
    return drawn, tidied


def begin(desk: LabPage) -> ChatInLab:
    """A new chat with a drawn row."""
    chat = desk.show(CELL)
    desk.page.evaluate("window.drawn = window.tidied = 0")
    render(desk, MODULE)
    emit(desk, "id='here', city='Paris', celsius=11.5")
    expect(weather(chat).locator(".forecast")).to_have_text("Paris: 11.5 degrees", timeout=20_000)
    return chat


def test_a_module_draws_a_row_as_it_changes(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    assert counts(desk.page) == (1, 0)
    emit(desk, "id='here', city='Paris', celsius=12.5")
    forecast = weather(chat).locator(".forecast")
    expect(forecast).to_have_text("Paris: 12.5 degrees")
    expect(forecast).to_have_count(1)
    assert counts(desk.page) == (2, 1)
    assert len(chat.rows(kind="weather")) == 1
    render(desk, MODULE.replace("degrees", "°C"))
    expect(forecast).to_have_text("Paris: 12.5 °C")
    assert counts(desk.page) == (3, 2)
    emit(desk, "city='Oslo'")
    until(lambda: len(chat.rows(kind="weather")) == 2, "a second row")
    expect(weather(chat).locator(".forecast")).to_have_text("Oslo: 0 °C")
    assert counts(desk.page) == (4, 2), "the other row is left alone"
    desk.run_cell("chat.close()")
    until(lambda: counts(desk.page) == (4, 4), "both rows are tidied up")


def test_styles_stay_where_they_are(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    chat.ask("hello")
    forecast = weather(chat).locator(".forecast")
    desk.page.add_style_tag(content=".forecast { text-decoration: underline }")
    assert color(forecast) == "rgb(1, 2, 3)"
    assert "none" in forecast.evaluate("element => getComputedStyle(element).textDecoration")
    assert color(chat.root.locator("[data-role=assistant] p").last) != "rgb(1, 2, 3)"


def test_a_broken_module_leaves_the_plain_card_and_a_note(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    broken = {
        "export default { render() { throw new Error('no wind') } }": "no wind",
        "export default {": "Unexpected",
        "export const draw = 1": "render",
    }
    for module, note in broken.items():
        render(desk, module)
        expect(weather(chat)).to_contain_text(note, timeout=20_000)
        expect(weather(chat)).to_contain_text("11.5")
        expect(weather(chat).locator("dt").first).to_have_text("city")
    assert counts(desk.page) == (1, 1)
    render(desk, MODULE)
    expect(weather(chat).locator(".forecast")).to_have_text("Paris: 11.5 degrees")
    desk.run_cell("del chat.renderers['weather']")
    expect(weather(chat).locator("dt").first).to_have_text("city")
    assert chat.ask("the chat goes on") == "You said: the chat goes on"


def test_it_is_there_again_after_the_page_was_loaded_again(desk: LabPage, model: ModelServer) -> None:
    chat = begin(desk)
    chat.reload()
    expect(weather(chat).locator(".forecast")).to_have_text("Paris: 11.5 degrees")
    chat.expect_rows_of()


def test_without_its_kernel_a_row_has_the_plain_card(
    notebook: Callable[..., LabPage], new_page: Callable[..., Page], model: ModelServer
) -> None:
    lab = notebook("")
    chat = begin(lab)
    conv_id = chat.conv_id
    whole = open_page(new_page(), lab.server, conv_id)
    expect(whole.root.locator("[data-kind=weather] dt").first).to_have_text("city")
    lab.save_with_widgets()
    assert "forecast" not in json.dumps(json.loads(lab.notebook.read_text())["metadata"])
    lab.shut_kernel_down()
    lab.open()
    revived = ChatPage(lab.page, lab.server).wait_live()
    expect(revived.root.locator("[data-kind=weather] dt").first).to_have_text("city")
    expect(revived.root.locator(".forecast")).to_have_count(0)
    assert counts(lab.page) == (0, 0)


def test_what_a_model_or_an_event_says_never_runs(desk: LabPage, model: ModelServer) -> None:
    """Only what Python has put into `chat.renderers` does."""
    chat = desk.show(CELL)
    desk.page.evaluate("window.canary = ''")
    run = "window.canary += 'x'"
    module = f"export default {{ render() {{ {run} }} }}"
    model.script(
        Reply(
            f"```js\n{module}\n```\n<script type='module'>{run}</script><img src=x onerror=\"{run}\">\n\n"
            + json.dumps({"renderers": {"weather": module}})
        )
    )
    chat.ask("draw the weather")
    emit(desk, f"city={f'<img src=x onerror={run!r}><script>{run}</script>'!r}")
    expect(weather(chat)).to_contain_text("<script>")
    emit(desk, f"city={module!r}")
    expect(weather(chat)).to_contain_text("export default")
    chat.reload()
    expect(weather(chat)).to_contain_text("export default")
    assert desk.page.evaluate("window.canary ?? ''") == ""
    assert desk.page.locator("script", has_text="canary").count() == 0
