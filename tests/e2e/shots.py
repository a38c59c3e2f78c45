"""Take a picture of every state of the chat, to be looked at: ``python -m tests.e2e.shots FOLDER``.

Not a test. ``--readme`` takes only the picture of JupyterLab that the README shows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.lab import open_lab
from tests.e2e.pages import ChatPage, open_page
from tests.support import chromium
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

README_PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "lab.png"

ANSWER = r"""A table first:

| Body  | Mass (kg)               | Radius (km) |
|:------|------------------------:|------------:|
| Earth | $5.97 \times 10^{24}$   | 6,371       |
| Mars  | $6.42 \times 10^{23}$   | 3,390       |
| Moon  | $7.35 \times 10^{22}$   | 1,737       |

The speed at which one leaves such a body for good is

$$v_e = \sqrt{\frac{2 G M}{r}}$$

and in Python:

```python
from math import sqrt

def escape_velocity(mass: float, radius: float) -> float:
    # mass in kg, radius in km; the result is in km/s
    return sqrt(2 * 6.674e-11 * mass / (radius * 1000)) / 1000

print(f"{escape_velocity(5.97e24, 6371):.1f} km/s")  # 11.2 km/s
```

1. **Earth**: 11.2 km/s
2. **Mars**: 5.0 km/s, see [NASA's fact sheet](https://nssdc.gsfc.nasa.gov/planetary/factsheet/)
3. **Moon**: `2.4` km/s

> A rocket need not be that fast: it may go on burning.
"""
README_ANSWER = r"""About **11.2 km/s**. A body leaves for good when its kinetic energy makes up for gravity:

$$v_e = \sqrt{2 G M / r}$$

| Body  | Mass (kg)             | Radius (km) | Speed (km/s) |
|:------|----------------------:|------------:|-------------:|
| Earth | $5.97 \times 10^{24}$ | 6,371       | 11.2         |
| Mars  | $6.42 \times 10^{23}$ | 3,390       | 5.0          |

```python
def escape_velocity(mass: float, radius: float) -> float:
    return (2 * 6.674e-11 * mass / radius) ** 0.5
```
"""
QUESTION = "How fast must one be to leave the Earth, Mars or the Moon?"
LONG = "Show me a long line of code.\n```\n" + "x = " + " + ".join(f"value_{n}" for n in range(40)) + "\n```"
READY = Reply("Good. Ask away.")

Scene = Callable[[ChatPage, ModelServer], None]


def empty(chat: ChatPage, model: ModelServer) -> None:
    chat.wait_live()


def streaming(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(ANSWER, hold=gate))
    chat.send(QUESTION)
    gate.step(120)
    until(lambda: "def escape_velocity" in chat.assistant_text(), "code that is being written")


def done(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply(ANSWER, usage={"prompt_tokens": 21, "completion_tokens": 240, "total_tokens": 261}))
    chat.ask(QUESTION)
    chat.root.locator("math").first.wait_for()


def top(chat: ChatPage, model: ModelServer) -> None:
    done(chat, model)
    chat.part("timeline").evaluate("element => { element.scrollTop = 0; }")
    chat.part("jump-button").wait_for()


def thinking(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    reasoning = (
        "The person asks for escape velocities. I need the masses and the radii of three bodies, and then "
    )
    model.script(Reply(ANSWER, reasoning=reasoning, hold=gate))
    chat.send(QUESTION)
    gate.step(14)
    until(lambda: "radii" in str(chat.rows(role="thinking")), "a thought")


def thought(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply("About 11.2 km/s.", reasoning="The square root of two G M over r."))
    chat.ask("How fast must one be to leave the Earth?")


def demo(chat: ChatPage, model: ModelServer) -> None:
    """The demo engine: its introduction, a thought, and a tool that really runs."""
    chat.ask("Compute 37 * 42")


def tool_failed(chat: ChatPage, model: ModelServer) -> None:
    call = {"name": "weather", "arguments": {"city": "Paris", "days": 3, "units": ["celsius", "km/h"]}}
    model.script(Reply("Let me look.", tool_calls=[call]), "I can't know what the weather is.")
    chat.ask("What is the weather in Paris?")


def error(chat: ChatPage, model: ModelServer) -> None:
    model.script(READY, Reply(status=401))
    chat.ask("Ready?")
    chat.send(QUESTION)
    chat.page.wait_for_selector("[data-kind=error]")
    chat.wait_idle()


def unreachable(chat: ChatPage, model: ModelServer) -> None:
    model.stop()
    chat.send(QUESTION)
    chat.page.wait_for_selector("[data-kind=error]")
    chat.wait_idle()


def queued(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(ANSWER, hold=gate))
    chat.send(QUESTION)
    gate.step(12)
    until(lambda: chat.assistant_text(), "the beginning of an answer")
    chat.send("And the Sun?")
    chat.send("And a black hole?")
    until(lambda: len(chat.rows(role="user")) == 3, "two prompts in the queue")


def failed_send(chat: ChatPage, model: ModelServer) -> None:
    chat.ask("Ready?")
    chat.page.route("**/webchat/chat", lambda route: route.abort())
    chat.send(QUESTION)
    until(lambda: any(row.status == "failed" for row in chat.rows()), "a failed row")


def interrupted(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply(ANSWER, fault="cut"))
    chat.send(QUESTION)
    until(
        lambda: (row := chat.assistant()) is not None and row.status == "interrupted", "an interrupted answer"
    )
    chat.wait_idle()


def stopped(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply("The first thing to say about it is", hold=gate))
    chat.send(QUESTION)
    gate.step(5)
    until(lambda: chat.assistant_text(), "the beginning of an answer")
    chat.stop()
    chat.wait_idle()


def reconnecting(chat: ChatPage, model: ModelServer) -> None:
    chat.ask("Ready?")
    chat.page.context.set_offline(True)
    until(
        lambda: chat.state in ("reconnecting", "offline"), "the chat notices that it is offline", timeout=60
    )
    label = chat.part("statusbar").locator("span").first
    until(lambda: label.evaluate("span => getComputedStyle(span).opacity") == "1", "the label has faded in")


def wide_content(chat: ChatPage, model: ModelServer) -> None:
    table = "| " + " | ".join(f"column {n}" for n in range(14)) + " |\n|" + "---|" * 14
    row = "| " + " | ".join(f"{n * 1234.5:.1f}" for n in range(14)) + " |"
    model.script(Reply(f"{table}\n{row}\n{row}\n\n{LONG}\n\n" + "w" * 300))
    chat.ask("Something wide, with_a_very_long_word_" + "x" * 120)


SCENES: tuple[Scene, ...] = (
    empty,
    streaming,
    done,
    top,
    thinking,
    thought,
    demo,
    tool_failed,
    error,
    unreachable,
    queued,
    failed_send,
    interrupted,
    stopped,
    wide_content,
)


class Photographer:
    """Opens a fresh chat for each scene, in the same servers."""

    def __init__(
        self, browser: Browser, servers: tuple[Jupyter, Jupyter], model: ModelServer, folder: Path
    ) -> None:
        """*servers*: one with the model, one with the demo engine."""
        self.browser, self.model, self.folder = browser, model, folder
        self.server, self.demo_server = servers

    def server_of(self, scene: Scene) -> Jupyter:
        return self.demo_server if scene is demo else self.server

    @contextmanager
    def page(
        self, *, width: int = 1200, height: int = 800, dark: bool = False, scale: int = 1
    ) -> Iterator[Page]:
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        try:
            yield page
        finally:
            context.close()
            self.model.reset()
            if not self.model.running:
                self.model.start()

    def take(self, name: str, page: Page) -> None:
        page.screenshot(path=self.folder / f"{name}.png")
        print(f"{name}.png", flush=True)

    def on_the_page(self, scene: Scene, *, width: int = 1200, dark: bool = False) -> None:
        with self.page(width=width, dark=dark) as page:
            scene(open_page(page, self.server_of(scene)), self.model)
            size = "narrow-" if width < 500 else ""
            self.take(f"page-{size}{'dark' if dark else 'light'}-{scene.__name__}", page)

    def in_jupyterlab(self, scene: Scene, *, dark: bool = False) -> None:
        name = f"lab-{'dark' if dark else 'light'}-{scene.__name__}"
        with self.page(dark=dark) as page:
            lab = open_lab(page, self.server_of(scene), f"{name}.ipynb")
            if dark:
                lab.command("apputils:change-theme", theme="JupyterLab Dark")
                page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
            scene(lab.chat(), self.model)
            self.take(name, page)
            if dark:
                lab.command("apputils:change-theme", theme="JupyterLab Light")
                page.wait_for_selector("body[data-jp-theme-light=true]", state="attached")

    def for_the_readme(self) -> None:
        README_PICTURE.parent.mkdir(parents=True, exist_ok=True)
        with self.page(width=1180, height=720, scale=2) as page:
            code = "from webchat_widget import ChatWidget\n\nchat = ChatWidget()\nchat"
            lab = open_lab(page, self.server, "hello.ipynb", code)
            lab.command("application:toggle-left-area")
            self.model.script(
                Reply(README_ANSWER, reasoning="The speed at which the kinetic energy suffices.")
            )
            chat = lab.chat()
            chat.ask("How fast must one be to leave the Earth for good?")
            chat.root.locator("math").first.wait_for()
            page.screenshot(path=README_PICTURE)
            print(README_PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/shots"))
    parser.add_argument("--readme", action="store_true", help="only the picture of the README")
    parser.add_argument("--only", nargs="+", help="names of scenes")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    scenes = [
        scene for scene in (*SCENES, reconnecting) if not options.only or scene.__name__ in options.only
    ]
    with tempfile.TemporaryDirectory() as temporary, ModelServer(models=["small-model"]) as model:
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-none", "WEBCHAT_MODEL": "small-model"}
        folders = (Path(temporary) / "model", Path(temporary) / "demo")
        quick = ["--WebChat.demo_delay=0"]
        with (
            Jupyter(folders[0], env=env) as server,
            Jupyter(folders[1], args=quick) as demo_server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGS)
            photographer = Photographer(browser, (server, demo_server), model, options.folder)
            photographer.for_the_readme() if options.readme or not options.only else None
            if not options.readme:
                for scene in scenes:
                    photographer.on_the_page(scene)
                    photographer.on_the_page(scene, dark=True)
                    photographer.on_the_page(scene, width=340)
                    photographer.in_jupyterlab(scene)
                for scene in scenes:
                    photographer.in_jupyterlab(scene, dark=True)
            browser.close()


if __name__ == "__main__":
    main()
