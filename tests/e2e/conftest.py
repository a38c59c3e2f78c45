"""Real parts: Chromium, Jupyter servers, kernels, SQLite files. Only the model behind the API is a double."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.e2e.lab import LabPage, open_lab
from tests.e2e.pages import ChatPage, open_page
from tests.support import chromium
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer

CANARY = "sk-canary-5f2c81d09be74a63"
RESULTS = Path(__file__).resolve().parents[2] / "test-results"


# A package's fixtures end with its last test, so that Playwright's loop is gone before other tests want one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    assert path, "No Chromium found: run `make test` once, or set CHROMIUM=/path/to/one."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium.ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def model(model_server: ModelServer) -> Iterator[ModelServer]:
    """The model server with an empty script; started again if a test stopped it."""
    model_server.reset()
    yield model_server
    if not model_server.running:
        model_server.start()


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Jupyter]]:
    """Starts servers; what is still alive in the end is stopped."""
    servers: list[Jupyter] = []

    def factory(**options: Any) -> Jupyter:
        servers.append(Jupyter(tmp_path_factory.mktemp("jupyter"), **options))
        return servers[-1].start()

    yield factory
    for server in servers:
        server.stop()


@pytest.fixture(scope="package")
def lab_server(jupyter: Callable[..., Jupyter], model_server: ModelServer) -> Jupyter:
    """JupyterLab with a model behind it, shared by the tests that leave it running."""
    return jupyter(env=_connected(model_server), args=["--ServerApp.log_level=DEBUG"])


@pytest.fixture(scope="package")
def restart_server(jupyter: Callable[..., Jupyter], model_server: ModelServer) -> Jupyter:
    """One to terminate and kill; it comes back with another token, as it does for most people."""
    return jupyter(env=_connected(model_server), new_tokens=True)


@pytest.fixture(scope="package")
def demo_server(jupyter: Callable[..., Jupyter]) -> Jupyter:
    """No model is named here, and it lives below a prefix, as on a hub."""
    return jupyter(base_url="/user/x/", args=["--WebChat.demo_delay=0"])


@pytest.fixture(scope="package")
def bare_server(jupyter: Callable[..., Jupyter], model_server: ModelServer) -> Jupyter:
    """Without our extension: chats run in kernels, which inherit the model and its key."""
    server = jupyter(extension=False, env=_connected(model_server), args=["--ServerApp.log_level=DEBUG"])
    server.add_ipykernel6()
    return server


@pytest.fixture(scope="package")
def password_server(jupyter: Callable[..., Jupyter], model_server: ModelServer) -> Jupyter:
    """``jupyter webchat`` with a login form."""
    return jupyter(command="webchat", password="open sesame", env=_connected(model_server))


def _connected(model: ModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": CANARY, "WEBCHAT_MODEL": "test-model"}


class Console:
    """What the pages of a test wrote to the console, and which addresses they asked for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.requests: list[str] = []

    def attach(self, context: BrowserContext) -> None:
        context.on("console", self._line)
        context.on("weberror", lambda error: self.lines.append(f"uncaught: {error.error}"))
        context.on("request", self._request)

    def _line(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.lines.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def new_page(
    browser: Browser, console: Console, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Opens a page in a browser profile of its own; takes a picture of each if the test fails."""
    contexts: list[BrowserContext] = []

    def factory(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        console.attach(context)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())  # JupyterLab asks whether one really wants to leave
        return page

    yield factory
    failed = getattr(request.node, "failed", False)
    for number, context in enumerate(contexts):
        if failed and context.pages:
            _picture(context.pages[0], request, number)
        context.close()


def _picture(page: Page, request: pytest.FixtureRequest, number: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    page.screenshot(path=RESULTS / f"{name}-{number}.png")


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def notebook(page: Page, request: pytest.FixtureRequest, lab_server: Jupyter) -> Callable[..., LabPage]:
    """Opens a new notebook with a chat in the shared JupyterLab."""

    def factory(*cells: str) -> LabPage:
        return open_lab(page, lab_server, _file_name(request), *cells)

    return factory


def _file_name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name) + ".ipynb"


@pytest.fixture
def kernel_notebook(
    page: Page, request: pytest.FixtureRequest, bare_server: Jupyter
) -> Iterator[Callable[..., LabPage]]:
    """Opens a new notebook with a chat that runs in its kernel; the kernels end with the test."""

    def factory(*cells: str, **options: Any) -> LabPage:
        return open_lab(page, bare_server, _file_name(request), *cells, **options)

    yield factory
    bare_server.shut_kernels_down()


@pytest.fixture(scope="module", params=["server", "kernel"])
def open_desk(request: pytest.FixtureRequest, browser: Browser) -> Iterator[LabPage]:
    """The notebook of `desk`."""
    server = request.getfixturevalue("lab_server" if request.param == "server" else "bare_server")
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    lab = open_lab(page, server, f"{request.module.__name__.rpartition('.')[2]}-{request.param}.ipynb", "")
    yield lab
    lab.shut_kernel_down()
    context.close()


@pytest.fixture
def desk(open_desk: LabPage, console: Console, request: pytest.FixtureRequest) -> Iterator[LabPage]:
    """A notebook that stays open for the tests of a module: once for chats on the server, and once for those
    in its kernel. Each test begins with `show`."""
    console.attach(open_desk.page.context)
    yield open_desk
    if getattr(request.node, "failed", False):
        _picture(open_desk.page, request, 0)


@pytest.fixture(params=["lab", "page", "kernel"])
def chat(request: pytest.FixtureRequest) -> ChatPage:
    """A fresh chat: in a cell of JupyterLab, as a page of its own, and in Notebook 7 by way of its kernel."""
    if request.param == "page":
        return open_page(request.getfixturevalue("page"), request.getfixturevalue("lab_server"))
    if request.param == "lab":
        return cast(LabPage, request.getfixturevalue("notebook")()).chat()
    return cast(LabPage, request.getfixturevalue("kernel_notebook")(app="notebook")).chat()


LOGGED = pytest.StashKey[dict[int, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[LOGGED] = {server.port: len(server.log_text()) for server in Jupyter.live}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.failed = True  # read by new_page, which takes the pictures
        for server in Jupyter.live:
            written = server.log_text()[item.stash.get(LOGGED, {}).get(server.port, 0) :].splitlines()
            tail = "\n".join(line for line in written if not line.startswith("[D"))[-6000:]
            if tail:
                report.sections.append((f"log of jupyter {server.command} on port {server.port}", tail))
        console = getattr(item, "funcargs", {}).get("console")
        if console is not None and console.lines:
            report.sections.append(("browser console", "\n".join(console.lines[-40:])))
    return report
