"""Take a picture of every state of the chat, to be looked at: ``python -m tests.e2e.shots FOLDER``.

Not a test. ``--readme`` takes only the picture of JupyterLab that the README shows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.event_scenes import EVENT_SCENES
from tests.e2e.kernel_scenes import KERNEL_SCENES, KernelScene
from tests.e2e.lab import LabPage, open_lab
from tests.e2e.pages import open_page
from tests.e2e.scenes import SCENES, Scene, demo, reconnecting
from tests.e2e.tool_scenes import TOOL_SCENES
from tests.support import chromium
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply

README_PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "lab.png"

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


class Photographer:
    """Opens a fresh chat for each scene, in the same servers."""

    def __init__(
        self, browser: Browser, servers: tuple[Jupyter, Jupyter, Jupyter], model: ModelServer, folder: Path
    ) -> None:
        """*servers*: one with the model, one with the demo engine, one without the extension."""
        self.browser, self.model, self.folder = browser, model, folder
        self.server, self.demo_server, self.bare_server = servers

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
        with self.page(dark=dark) as page, themed(dark) as lit:
            lab = lit(open_lab(page, self.server_of(scene), f"{name}.ipynb"))
            scene(lab.chat(), self.model)
            self.take(name, page)

    def in_a_kernel(self, scene: KernelScene, *, width: int = 1200, dark: bool = False) -> None:
        size = "narrow-" if width < 1000 else ""
        name = f"kernel-{size}{'dark' if dark else 'light'}-{scene.__name__}"
        with self.page(width=width, dark=dark) as page, themed(dark) as lit:

            def open_here(*cells: str, **options: Any) -> LabPage:
                return lit(open_lab(page, self.bare_server, f"{name}.ipynb", *cells, **options))

            with scene(open_here, self.model):
                if (chat := page.locator("[data-webchat]").first).count():
                    chat.scroll_into_view_if_needed()
                self.take(name, page)
        self.bare_server.shut_kernels_down()

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


@contextmanager
def themed(dark: bool) -> Iterator[Callable[[LabPage], LabPage]]:
    """Gives what makes JupyterLab dark, where it should be, and makes it light again in the end."""
    made: list[LabPage] = []

    def change(lab: LabPage, theme: str) -> None:
        lab.command("apputils:change-theme", theme=f"JupyterLab {theme}")
        light = str(theme == "Light").lower()
        lab.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")

    def lit(lab: LabPage) -> LabPage:
        if dark:
            change(lab, "Dark")
            made.append(lab)
        return lab

    yield lit
    for lab in made:
        change(lab, "Light")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/shots"))
    parser.add_argument("--readme", action="store_true", help="only the picture of the README")
    parser.add_argument("--only", nargs="+", help="names of scenes")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    def chosen(scene: Scene | KernelScene) -> bool:
        return not options.only or scene.__name__ in options.only

    with tempfile.TemporaryDirectory() as temporary, ModelServer(models=["small-model"]) as model:
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-none", "WEBCHAT_MODEL": "small-model"}
        folders = [Path(temporary) / name for name in ("model", "demo", "bare")]
        quick = ["--WebChat.demo_delay=0"]
        with (
            Jupyter(folders[0], env=env) as server,
            Jupyter(folders[1], args=quick) as demo_server,
            Jupyter(folders[2], extension=False, env=env) as bare_server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGS)
            bare_server.add_ipykernel6()
            servers = (server, demo_server, bare_server)
            photographer = Photographer(browser, servers, model, options.folder)
            photographer.for_the_readme() if options.readme or not options.only else None
            if not options.readme:
                for scene in filter(chosen, (*SCENES, reconnecting)):
                    photographer.on_the_page(scene)
                    photographer.on_the_page(scene, dark=True)
                    photographer.on_the_page(scene, width=340)
                    photographer.in_jupyterlab(scene)
                    photographer.in_jupyterlab(scene, dark=True)
                for kernel_scene in filter(chosen, (*KERNEL_SCENES, *TOOL_SCENES, *EVENT_SCENES)):
                    photographer.in_a_kernel(kernel_scene)
                    photographer.in_a_kernel(kernel_scene, dark=True)
                    photographer.in_a_kernel(kernel_scene, width=720)
            browser.close()


if __name__ == "__main__":
    main()
