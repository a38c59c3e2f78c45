"""What a person sees and does, in words of the domain: a chat on the screen, and JupyterLab around it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.support.jupyter import Jupyter
from tests.support.waiting import until

__all__ = ["ChatInLab", "ChatPage", "LabPage", "Row", "open_lab", "open_page", "write_notebook"]

LIVE = "[data-webchat][data-state=live]"

_MARKUP = re.compile(r"[*_`|$#<>\[\]]")

_ROWS = """
root => [...root.querySelectorAll('[data-part=turn]')].map(turn => {
  const content = turn.querySelector('[data-part=content]');
  return {
    id: turn.dataset.id, kind: turn.dataset.kind, role: turn.dataset.role, status: turn.dataset.status ?? '',
    streaming: turn.dataset.streaming === 'true', text: (content ?? turn).innerText.trim(),
  };
})
"""

# Watches the rows as they change, and writes down each time something that was there goes back: a row that
# vanishes, changes its place or loses text (a pending row may be renamed, so ids are compared by place).
_WATCH = """
() => {
  window.setbacks = [];
  let seen = [];
  const look = () => {
    const rows = [...document.querySelectorAll('[data-webchat] [data-part=turn]')].map(turn => ({
      kind: turn.dataset.kind, role: turn.dataset.role,
      text: turn.querySelector('[data-part=content]')?.textContent.trim() ?? '',
    }));
    seen.forEach((was, place) => {
      const now = rows[place];
      if (!now) window.setbacks.push(`row ${place} vanished: ${was.text.slice(0, 60)}`);
      else if (now.kind !== was.kind || now.role !== was.role) {
        window.setbacks.push(`row ${place} was ${was.kind} ${was.role}, is ${now.kind} ${now.role}`);
      } else if (!now.text.startsWith(was.text)) {
        window.setbacks.push(`row ${place} lost text: ${JSON.stringify([was.text, now.text])}`);
      }
    });
    seen = rows;
  };
  look();
  new MutationObserver(look).observe(document.body,
    {subtree: true, childList: true, characterData: true, attributes: true});
}
"""


@dataclass(frozen=True)
class Row:
    id: str
    kind: str
    role: str
    status: str
    streaming: bool
    text: str


class ChatPage:
    """One chat on the screen, in a cell or on a page of its own."""

    def __init__(self, page: Page, root: Locator | None = None) -> None:
        self.page = page
        self.root = page.locator("[data-webchat]").first if root is None else root

    def part(self, name: str) -> Locator:
        return self.root.locator(f"[data-part={name}]")

    @property
    def composer(self) -> Locator:
        return self.part("composer-input")

    # -- what a person does -------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Enter")
        expect(self.composer).to_have_value("")

    def stop(self) -> None:
        self.part("stop-button").click()

    def reload(self) -> None:
        """Load the page again, and wait until the chat is back."""
        self.page.reload()
        self.wait_live()

    # -- what a person sees -------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        return self.root.get_attribute("data-state") or ""

    @property
    def conv_id(self) -> str:
        """The conversation on the screen; ``""`` before a page of its own has one."""
        return parse_qs(urlsplit(self.page.url).query).get("conv_id", [""])[0]

    def rows(self, *, kind: str | None = None, role: str | None = None) -> list[Row]:
        rows = [Row(**row) for row in self.root.evaluate(_ROWS)]
        return [row for row in rows if kind in (None, row.kind) and role in (None, row.role)]

    def assistant(self) -> Row | None:
        """The newest message of the assistant."""
        rows = self.rows(kind="message", role="assistant")
        return rows[-1] if rows else None

    def assistant_text(self) -> str:
        row = self.assistant()
        return row.text if row is not None else ""

    # -- what a person waits for --------------------------------------------------------------------------

    def wait_live(self, timeout: float = 30) -> Self:
        expect(self.root).to_have_attribute("data-state", "live", timeout=timeout * 1000)
        return self

    def wait_text(self, text: str, timeout: float = 20) -> None:
        """Wait until the newest answer reads *text*, no more and no less."""
        until(lambda: self.assistant_text() == text, f"the answer reads {text!r}", timeout)

    def wait_idle(self, timeout: float = 30) -> None:
        """Wait until nothing streams, nothing is pending, and one could send again."""

        def idle() -> bool:
            busy = any(row.streaming or row.status in ("pending", "queued") for row in self.rows())
            return not busy and not self.part("stop-button").is_visible()

        until(idle, "the chat is idle", timeout)

    def ask(self, prompt: str, timeout: float = 30) -> str:
        """Send *prompt*, and return the answer when it is complete."""
        before = len(self.rows(kind="message", role="assistant"))
        self.send(prompt)
        until(
            lambda: len(self.rows(kind="message", role="assistant")) > before,
            f"an answer to {prompt!r}",
            timeout,
        )
        self.wait_idle(timeout)
        return self.assistant_text()

    def watch(self) -> None:
        """From here on, write down whatever goes back on this page."""
        self.page.evaluate(_WATCH)

    def setbacks(self) -> list[str]:
        return list(self.page.evaluate("window.setbacks"))

    # -- what must hold -----------------------------------------------------------------------------------

    def expect_rows_of(self, timeline: Sequence[dict[str, Any]]) -> None:
        """The rows are the entities that ``GET /timeline`` gives, in its order (a run has no row).

        The text is compared where it has no markup, which the page does not show.
        """
        entities = [entity for entity in timeline if entity["kind"] != "run"]
        rows = self.rows()
        assert [(row.id, row.kind) for row in rows] == [(entity["id"], entity["kind"]) for entity in entities]
        for row, entity in zip(rows, entities, strict=True):
            props = entity["props"]
            if entity["kind"] == "message":
                assert row.role == props["role"]
                assert row.status == props.get("status", row.status)
                assert row.streaming is bool(props.get("streaming"))
                if props["role"] != "thinking" and not _MARKUP.search(props["content"]):
                    assert _plain(row.text) == _plain(props["content"])


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def open_page(page: Page, server: Jupyter, conv_id: str | None = None, *, login: bool = True) -> ChatPage:
    """Open the full page, at a conversation or afresh."""
    path = "webchat/" + (f"?conv_id={conv_id}" if conv_id else "")
    page.goto(server.url(path, login=login))
    return ChatPage(page).wait_live()


def write_notebook(server: Jupyter, name: str, cells: Sequence[str]) -> Path:
    """A new notebook in the server's folder; each of *cells* is the code of one."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    content = {
        "cells": [{**cell, "id": f"cell-{number}", "source": code} for number, code in enumerate(cells)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = server.work / name
    path.write_text(json.dumps(content))
    return path


class LabPage:
    """JupyterLab with one notebook open; the ``window.jupyterapp`` that it exposes does the clicking."""

    def __init__(self, page: Page, server: Jupyter, notebook: Path) -> None:
        self.page, self.server, self.notebook = page, server, notebook

    def open(self) -> Self:
        self.page.goto(self.server.url(f"lab/tree/{self.notebook.name}?reset", login=True))
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
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        return self

    def command(self, name: str, **arguments: Any) -> None:
        """Run one of JupyterLab's commands to its end."""
        self.page.wait_for_function("name => window.jupyterapp.commands.hasCommand(name)", arg=name)
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def run_cell(self, code: str) -> str:
        """Add a cell, run it to its end, and return what it printed; an exception in it is raised here."""
        outputs = self.page.evaluate(
            """async source => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              const cells = notebook.model.sharedModel;
              cells.addCell({cell_type: 'code', source});
              notebook.activeCellIndex = cells.cells.length - 1;
              await window.jupyterapp.commands.execute('notebook:run-cell');
              return notebook.model.cells.get(notebook.activeCellIndex).outputs.toJSON();
            }""",
            code,
        )
        failures = [output for output in outputs if output["output_type"] == "error"]
        assert not failures, f"{failures[0]['ename']}: {failures[0]['evalue']}"
        texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
        return "".join("".join(text) for text in texts).strip()

    def save(self) -> None:
        self.command("docmanager:save")

    def chats(self) -> list[ChatPage]:
        roots = self.page.locator("[data-webchat]")
        return [ChatPage(self.page, roots.nth(number)) for number in range(roots.count())]

    def chat(self) -> ChatInLab:
        """The first chat of the notebook, live."""
        expect(self.page.locator(LIVE).first).to_be_visible(timeout=60_000)
        return ChatInLab(self)


class ChatInLab(ChatPage):
    """The first chat of a notebook; in Python it is called ``chat``."""

    def __init__(self, lab: LabPage) -> None:
        super().__init__(lab.page)
        self.lab = lab

    @property
    def conv_id(self) -> str:
        return self.lab.run_cell("print(chat.conv_id)")

    def reload(self) -> None:
        self.lab.save()  # the output that shows the chat is part of the notebook
        self.page.reload()
        self.lab.wait_ready()
        self.wait_live(timeout=60)


def open_lab(page: Page, server: Jupyter, name: str, *cells: str) -> LabPage:
    """Open a new notebook in JupyterLab, with a chat in its first cell unless *cells* say otherwise."""
    code = cells or ("from webchat_widget import ChatWidget\nchat = ChatWidget()\nchat",)
    lab = LabPage(page, server, write_notebook(server, name, code)).open()
    lab.run_all()
    return lab
