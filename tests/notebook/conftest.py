"""A kernel without a server, made anew for each test; and real servers for those that want one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ipywidgets import Widget

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from webchat_widget.notebook.home import home_of
from webchat_widget.notebook.host import kernel_host

BelongTo = Callable[[Jupyter], None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Jupyter's data directory of a kernel that no server started and whose environment names no model."""
    for name in ("JPY_PARENT_PID", "JPY_SESSION_NAME", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "WEBCHAT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    forget_the_kernel()
    yield tmp_path / "data"
    Widget.close_all()
    kernel_host().close()
    forget_the_kernel()


def forget_the_kernel() -> None:
    """What lives as long as a kernel begins anew."""
    for kept in (kernel_host, home_of):
        kept.cache_clear()


@pytest.fixture
def belong_to(monkeypatch: pytest.MonkeyPatch) -> BelongTo:
    """Be a kernel that a server started."""

    def belong(server: Jupyter) -> None:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.folder / "runtime"))
        monkeypatch.setenv("JUPYTER_DATA_DIR", str(server.folder / "data"))
        monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
        forget_the_kernel()

    return belong


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The model's server."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def model(model_server: ModelServer) -> ModelServer:
    """The model's server with nothing scripted."""
    model_server.reset()
    return model_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_server: ModelServer) -> Iterator[Jupyter]:
    """A Jupyter server with the extension and a model, below a base_url."""
    folder = tmp_path_factory.mktemp("server")
    env = {"OPENAI_BASE_URL": model_server.url}
    args = ["--WebChat.models=test-*"]
    with Jupyter(folder, command="webchat", base_url="/user/x/", env=env, args=args) as jupyter:
        yield jupyter
