"""Where a chat runs, and why: every row of the rule, with real servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import Jupyter, free_port
from webchat_widget.errors import NotAllowed, ServerUnavailable
from webchat_widget.notebook.place import choose

from .conftest import BelongTo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server with the extension, in which the demo answers."""
    with Jupyter(tmp_path_factory.mktemp("demo"), command="webchat") as jupyter:
        yield jupyter


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server without the extension."""
    with Jupyter(tmp_path_factory.mktemp("bare"), command="server", extension=False) as jupyter:
        yield jupyter


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server with the extension, which wants a password."""
    with Jupyter(tmp_path_factory.mktemp("locked"), command="webchat", password="open sesame") as jupyter:
        yield jupyter


RULE = [
    # where=, whose kernel, does its environment name a model, what only a kernel can do; where and why
    ("auto", "model", False, (), "server: The Jupyter server runs the webchat extension; its openai engine"),
    ("auto", "model", True, (), "server: The Jupyter server runs the webchat extension; its openai engine"),
    ("auto", "demo", False, (), "server: The Jupyter server runs the webchat extension; its demo engine"),
    ("auto", "demo", True, (), "kernel: Only this kernel's environment names a model; the server has none."),
    ("auto", "bare", False, (), "kernel: The chat runs in this kernel. This Jupyter server runs without"),
    ("auto", "bare", True, (), "kernel: The chat runs in this kernel. This Jupyter server runs without"),
    ("auto", "locked", False, (), "kernel: The chat runs in this kernel. This Jupyter server wants a"),
    (
        "auto",
        "ended",
        False,
        (),
        "kernel: The chat runs in this kernel. The Jupyter server at http://127.0.0",
    ),
    ("auto", "stranger", False, (), "kernel: The chat runs in this kernel. The Jupyter server does not let"),
    ("auto", "none", False, (), "kernel: The chat runs in this kernel. This kernel was not started by"),
    ("auto", "none", True, (), "kernel: The chat runs in this kernel. This kernel was not started by"),
    ("auto", "model", False, ("engine",), "kernel: engine= works in the kernel only."),
    ("auto", "demo", False, ("engine", "store"), "kernel: engine= and store= work in the kernel only."),
    ("auto", "none", False, ("engine",), "kernel: engine= works in the kernel only."),
    ("kernel", "model", False, (), "kernel: where='kernel' was asked for."),
    ("kernel", "none", True, ("engine",), "kernel: where='kernel' was asked for."),
    ("kernel", "bare", False, (), "kernel: where='kernel' was asked for."),
    ("server", "model", False, (), "server: where='server' was asked for; its openai engine answers."),
    ("server", "demo", True, (), "server: where='server' was asked for; its demo engine answers."),
    ("server", "locked", False, (), "server: where='server' was asked for. This Jupyter server wants a"),
]

Be = Callable[[str], None]


@pytest.fixture
def be_kernel_of(
    request: pytest.FixtureRequest, belong_to: BelongTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Be:
    """Be a kernel of one of the servers, by its name here."""

    def be(name: str) -> None:
        if name == "none":
            return
        if name in ("ended", "stranger"):
            port = free_port() if name == "ended" else request.getfixturevalue("server").port
            told = {"url": f"http://127.0.0.1:{port}/user/x/", "token": "canary-token"}
            (tmp_path / "jpserver-4242.json").write_text(json.dumps(told))
            monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
            monkeypatch.setenv("JPY_PARENT_PID", "4242")
        else:
            belong_to(request.getfixturevalue("server" if name == "model" else name))

    return be


@pytest.mark.parametrize(
    ("where", "whose", "named", "kernel_only", "told"), RULE, ids=lambda value: str(value)[:40]
)
def test_the_rule(
    where: str,
    whose: str,
    named: bool,
    kernel_only: tuple[str, ...],
    told: str,
    be_kernel_of: Be,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_kernel_of(whose)
    if named:
        monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    place = choose(where, kernel_only)
    said = f"{place.where}: {place.reason}"
    assert said.startswith(told)
    assert said.endswith((".", "?"))
    assert (place.server is not None) == (whose in ("model", "demo"))
    if place.server is not None:
        assert place.server.health()["webchat"] is True
    assert "canary" not in repr(place)


@pytest.mark.parametrize(
    ("whose", "code"),
    [
        ("none", "no_server"),
        ("bare", "no_extension"),
        ("ended", "unreachable"),
    ],
)
def test_a_server_that_is_wanted_and_not_there(whose: str, code: str, be_kernel_of: Be) -> None:
    be_kernel_of(whose)
    with pytest.raises(ServerUnavailable, match="Without where='server'") as error:
        choose("server")
    assert error.value.code == code
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("whose", ["locked", "stranger"])
def test_a_page_may_have_a_way_in_where_a_kernel_has_none(whose: str, be_kernel_of: Be) -> None:
    be_kernel_of(whose)
    place = choose("server")
    assert (place.where, place.server) == ("server", None)


@pytest.mark.parametrize("whose", ["none", "model"])
@pytest.mark.parametrize("only", ["engine", "store"])
def test_a_server_can_not_take_everything(whose: str, only: str, be_kernel_of: Be) -> None:
    be_kernel_of(whose)
    with pytest.raises(NotAllowed, match=f"{only}= works in the kernel only. Leave out where='") as error:
        choose("server", [only])
    assert (error.value.code, error.value.field) == ("not_supported", only)


@pytest.mark.parametrize(
    ("whose", "told"),
    [
        ("demo", "A Jupyter server takes tools= and profiles= from its own kernels only."),
        ("none", "The chat runs in this kernel. This kernel was not started by"),
    ],
)
def test_what_a_server_takes_from_its_own_kernels(whose: str, told: str, be_kernel_of: Be) -> None:
    be_kernel_of(whose)
    place = choose("auto", own_kernels_only=["tools", "profiles"])
    assert place.where == "kernel"
    assert place.reason.startswith(told)
    with pytest.raises(NotAllowed, match=r"tools= from its own kernels only\. Leave") as error:
        choose("server", own_kernels_only=["tools"])
    assert (error.value.code, error.value.field) == ("not_supported", "tools")


@pytest.mark.parametrize("where", ["cloud", "", "Server", None, 7])
def test_there_are_three_words(where: Any) -> None:
    with pytest.raises(ValueError, match="'auto', 'server' or 'kernel'"):
        choose(where)


@pytest.mark.parametrize(
    "named", [{"WEBCHAT_MODEL": "m"}, {"OPENAI_API_KEY": "  "}, {"OPENAI_BASE_URL": ""}], ids=str
)
def test_what_names_no_model(
    named: dict[str, str], be_kernel_of: Be, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_kernel_of("demo")
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert choose().where == "server"
