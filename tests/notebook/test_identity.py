"""Which conversation is a notebook's own: known by its path, as whoever started the kernel says."""

from __future__ import annotations

import re
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from tests.support.jupyter import Jupyter
from webchat_widget import ChatWidget
from webchat_widget.notebook.identity import notebook_conversation
from webchat_widget.requests import check_conv_id

from .conftest import BelongTo


@pytest.fixture
def by_vscode(monkeypatch: pytest.MonkeyPatch) -> None:
    """VS Code tells a kernel its notebook in a variable of the notebook."""
    ipython = ModuleType("IPython")
    shell = SimpleNamespace(user_ns={"__vsc_ipynb_file__": "/home/ann/plots.ipynb"})
    monkeypatch.setattr(ipython, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)


def elsewhere() -> str:
    """The conversation of another thread."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(notebook_conversation()))
    thread.start()
    thread.join()
    return found[0]


class TestOfAServer:
    @pytest.fixture(autouse=True)
    def _started(self, server: Jupyter, belong_to: BelongTo, monkeypatch: pytest.MonkeyPatch) -> None:
        belong_to(server)
        monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/plots.ipynb")

    def test_a_path_is_a_conversation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = notebook_conversation()
        assert re.fullmatch(r"nb-[0-9a-f]{32}", mine)
        assert notebook_conversation() == elsewhere() == mine
        monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/other.ipynb")
        assert notebook_conversation() != mine

    def test_another_program_s_word_does_not_count(
        self, by_vscode: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = notebook_conversation()
        monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/other.ipynb")
        assert notebook_conversation() != mine

    @pytest.mark.parametrize(
        "path", ["ü/Übung 1.ipynb", "a" * 5000, "../../etc/passwd", "C:\\x\\y.ipynb", "\udcff.ipynb"]
    )
    def test_any_path_makes_an_id(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JPY_SESSION_NAME", path)
        assert check_conv_id(notebook_conversation()).startswith("nb-")

    @pytest.mark.parametrize("name", ["", None])
    def test_a_kernel_without_a_notebook(self, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """A console has none."""
        if name is None:
            monkeypatch.delenv("JPY_SESSION_NAME")
        else:
            monkeypatch.setenv("JPY_SESSION_NAME", name)
        assert not notebook_conversation().startswith("nb-")
        assert notebook_conversation() == notebook_conversation()

    def test_the_widgets_of_a_notebook_meet(self) -> None:
        assert ChatWidget().conv_id == ChatWidget().conv_id == notebook_conversation()
        assert ChatWidget(new=True).conv_id != ChatWidget(new=True).conv_id != ChatWidget().conv_id


class TestOfAnotherProgram:
    """nbconvert, run in a notebook, hands on the environment of that notebook's kernel."""

    @pytest.fixture(autouse=True)
    def _inherited(self, server: Jupyter, belong_to: BelongTo, monkeypatch: pytest.MonkeyPatch) -> None:
        belong_to(server)
        monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/plots.ipynb")
        monkeypatch.setenv("JPY_PARENT_PID", "4242")

    def test_an_inherited_name_is_not_its_own(self) -> None:
        assert not notebook_conversation().startswith("nb-")

    def test_vscode_knows_its_notebook(self, by_vscode: None) -> None:
        assert notebook_conversation().startswith("nb-")
        assert notebook_conversation() == elsewhere()

    def test_without_a_path_each_thread_has_its_own(self) -> None:
        """marimo serves several people from one process, each from a thread."""
        mine = notebook_conversation()
        assert notebook_conversation() == mine
        assert elsewhere() != mine
        assert ChatWidget().conv_id == mine
        assert ChatWidget(new=True).conv_id != mine
