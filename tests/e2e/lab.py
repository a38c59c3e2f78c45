"""JupyterLab or Notebook 7 with a notebook open, and the chats in it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from playwright.sync_api import Page, expect

from tests.e2e.pages import ChatPage
from tests.support.jupyter import Jupyter
from tests.support.waiting import until

__all__ = ["BUSY", "ChatInLab", "LabPage", "RunningCell", "chat_cell", "open_lab", "write_notebook"]

App = Literal["lab", "notebook"]

LIVE = "[data-webchat][data-state=live]"

_ADDRESSES: dict[App, str] = {"lab": "lab/tree/{}?reset", "notebook": "notebooks/{}"}

# Adds a cell and begins to run it; `window.running` knows what is still under way.
_RUN = """source => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const cells = notebook.model.sharedModel;
  cells.addCell({cell_type: 'code', source});
  const place = notebook.activeCellIndex = cells.cells.length - 1;
  const { id } = cells.cells[place];
  window.running ??= {};
  window.running[id] = window.jupyterapp.commands.execute('notebook:run-cell')
    .finally(() => { delete window.running[id]; });
  return id;
}"""
_ALONE = """source => {
  const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
  cells.deleteCellRange(1, cells.cells.length);
  cells.getCell(0).setSource(source);
}"""
_OUTPUTS = """id => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  return cells.find(cell => cell.id === id).outputs.toJSON();
}"""

# What keeps a kernel busy until a file appears: a call that waits, Python that computes, a cell that awaits.
# It computes for much longer than the 5 ms after which Python lets another thread run: a look at the file
# lets go of the interpreter for a moment, and for those that this wakes up in vain the 5 ms begin anew.
BUSY = {
    "sleeps": "time.sleep(0.02)",
    "computes": "for _ in range(2_000_000): pass",
    "awaits": "await asyncio.sleep(0.02)",
}
_UNTIL = """import asyncio, pathlib, time
print('begun', flush=True)
while not pathlib.Path({!r}).exists():
    {}"""


def chat_cell(arguments: str = "") -> str:
    """The code that displays a chat and calls it ``chat``."""
    return f"from webchat_widget import ChatWidget, ScriptedEngine\nchat = ChatWidget({arguments})\nchat"


def write_notebook(
    server: Jupyter,
    name: str,
    cells: Sequence[str],
    *,
    kernel: str = "python3",
) -> Path:
    """A new notebook in the server's folder; each of *cells* is the code of one."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    kernelspec = {"display_name": kernel, "language": "python", "name": kernel}
    content = {
        "cells": [{**cell, "id": f"cell-{number}", "source": code} for number, code in enumerate(cells)],
        "metadata": {"kernelspec": kernelspec, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = server.work / name
    path.write_text(json.dumps(content))
    return path


class LabPage:
    """A page with one notebook open; the ``window.jupyterapp`` that it exposes does the clicking."""

    def __init__(self, page: Page, server: Jupyter, notebook: Path, app: App = "lab") -> None:
        self.page, self.server, self.notebook, self.app = page, server, notebook, app
        # That a server or a kernel is gone is said in a dialog, which would take the next key.
        last = page.locator(".jp-Dialog .jp-Dialog-footer button").last
        page.add_locator_handler(last, lambda button: button.click())

    def open(self) -> Self:
        self.page.goto(self.server.url(_ADDRESSES[self.app].format(self.notebook.name), login=True))
        return self.wait_ready()

    def wait_ready(self) -> Self:
        self.page.wait_for_function(
            "name => window.jupyterapp?.shell?.currentWidget?.context?.path === name",
            arg=self.notebook.name,
            timeout=60_000,
        )
        self.page.evaluate(
            """async () => {
              const panel = window.jupyterapp.shell.currentWidget;
              await panel.context.ready;
              await panel.sessionContext.ready;
            }"""
        )
        self.page.wait_for_function(
            """() => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
              return ['idle', 'busy'].includes(kernel?.status);
            }""",
            timeout=60_000,
        )
        return self

    def second_tab(self) -> LabPage:
        """The same notebook in another tab of the browser; what is not saved is not in it."""
        page = self.page.context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        return LabPage(page, self.server, self.notebook, self.app).open()

    def command(self, name: str, **arguments: Any) -> None:
        """Run one of JupyterLab's commands to its end."""
        self.page.wait_for_function("name => window.jupyterapp.commands.hasCommand(name)", arg=name)
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    # -- cells --------------------------------------------------------------------------------------------

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def run_first(self) -> None:
        """Run the first cell again."""
        self.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
        self.command("notebook:run-cell")

    def show(self, code: str) -> ChatInLab:
        """Begin afresh with one cell, which runs *code*; returns the chat that it displays."""
        self.page.evaluate(_ALONE, code)
        self.run_first()
        return self.chat()

    def start_cell(self, code: str) -> RunningCell:
        """Add a cell and begin to run it."""
        return RunningCell(self, self.page.evaluate(_RUN, code))

    def run_cell(self, code: str) -> str:
        """Add a cell, run it to its end, and return what it printed; an exception in it is raised here."""
        return self.start_cell(code).wait()

    def entities(self, name: str = "chat") -> list[dict[str, Any]]:
        """What Python has as the rows of the chat called *name*."""
        return list(json.loads(self.run_cell(f"import json; print(json.dumps({name}.entities))")))

    @contextmanager
    def busy(self, how: str = "sleeps") -> Iterator[RunningCell]:
        """Keep the kernel busy with a cell, in one of the ways of ``BUSY``; it ends with the block."""
        flag = self.notebook.with_name(f".{self.notebook.stem}-{how}")
        flag.unlink(missing_ok=True)
        cell = self.start_cell(_UNTIL.format(str(flag), BUSY[how]))
        until(lambda: "begun" in cell.text, "the cell runs")
        try:
            yield cell
        finally:
            flag.touch()
        cell.wait()

    def save(self) -> None:
        self.command("docmanager:save")

    def save_with_widgets(self) -> None:
        """Save it with the state of its widgets, as one may choose in JupyterLab's settings."""
        for _ in range(2):  # on, and off again
            self.save()
            self.command("@jupyter-widgets/jupyterlab-manager:saveWidgetState")

    # -- the kernel ---------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
        )

    def restart_kernel(self) -> None:
        """What the button does after its question, and wait until the kernel is there again."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        self.wait_ready()

    def kernel_pid(self) -> int:
        return int(self.run_cell("import os; print(os.getpid())"))

    def kill_kernel(self, pid: int) -> None:
        """End its process, and wait until Jupyter has said so and started another."""
        os.kill(pid, signal.SIGKILL)
        self.page.wait_for_function("() => document.querySelector('.jp-Dialog') !== null")
        # JupyterLab sometimes misses that the new one is ready, and asks only when it connects again.
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        self.page.evaluate(f"() => {kernel}.reconnect()")
        self.page.wait_for_function(f"() => {kernel}.status === 'idle'")

    def shut_kernel_down(self) -> None:
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    # -- chats --------------------------------------------------------------------------------------------

    def chats(self) -> list[ChatPage]:
        roots = self.page.locator("[data-webchat]")
        return [ChatPage(self.page, self.server, roots.nth(number)) for number in range(roots.count())]

    def chat(self) -> ChatInLab:
        """The first chat of the notebook, live."""
        expect(self.page.locator(LIVE).first).to_be_visible(timeout=60_000)
        return ChatInLab(self)


class RunningCell:
    """A cell that was begun."""

    def __init__(self, lab: LabPage, cell_id: str) -> None:
        self._lab, self._id = lab, cell_id

    @property
    def running(self) -> bool:
        return bool(self._lab.page.evaluate("id => id in window.running", self._id))

    @property
    def text(self) -> str:
        """What it printed so far; an exception in it is raised here."""
        outputs = self._lab.page.evaluate(_OUTPUTS, self._id)
        failures = [output for output in outputs if output["output_type"] == "error"]
        assert not failures, f"{failures[0]['ename']}: {failures[0]['evalue']}"
        texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
        return "".join("".join(text) for text in texts).strip()

    def wait(self) -> str:
        """Wait for its end, and return what it printed."""
        self._lab.page.evaluate("id => window.running[id]", self._id)
        return self.text


class ChatInLab(ChatPage):
    """The first chat of a notebook; in Python it is called ``chat``."""

    def __init__(self, lab: LabPage) -> None:
        super().__init__(lab.page, lab.server)
        self.lab = lab

    @property
    def conv_id(self) -> str:
        return self.lab.run_cell("print(chat.conv_id)")

    def timeline(self) -> list[dict[str, Any]]:
        return self.lab.entities()

    def reload(self) -> None:
        self.lab.save()  # the output that shows the chat is part of the notebook
        self.page.reload()
        self.lab.wait_ready()
        self.wait_live(timeout=60)


def open_lab(
    page: Page, server: Jupyter, name: str, *cells: str, kernel: str = "python3", app: App = "lab"
) -> LabPage:
    """Open a new notebook, with a chat in its first cell unless *cells* say otherwise, and run its cells."""
    notebook = write_notebook(server, name, cells or (chat_cell(),), kernel=kernel)
    lab = LabPage(page, server, notebook, app).open()
    lab.run_all()
    return lab
