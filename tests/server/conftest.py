"""One real Jupyter server for the tests of its routes, and a real model server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer


@pytest.fixture(scope="session")
def model() -> Iterator[ModelServer]:
    """The model's server; a test that scripts it resets it."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Jupyter]:
    """A server with a small queue, so that a test can fill it."""
    folder: Path = tmp_path_factory.mktemp("server")
    jupyter = Jupyter(
        folder,
        command="webchat",
        env={"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-canary"},
        args=["--WebChat.max_queue=3", "--WebChat.max_readers=4", "--WebChat.models=test-*"],
    )
    with jupyter:
        yield jupyter


@pytest.fixture
def client(server: Jupyter) -> Iterator[httpx.Client]:
    """A client that holds the token."""
    headers = {"Authorization": f"token {server.token}"}
    with httpx.Client(base_url=server.url("webchat/"), headers=headers, timeout=30) as http:
        yield http
