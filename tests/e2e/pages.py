"""What a person sees of a chat on the screen and does with it, in words of the domain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.support.jupyter import Jupyter
from tests.support.waiting import until

__all__ = ["ChatPage", "Row", "open_page"]

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

_WORDS = """
root => [...root.querySelectorAll('[data-part=turn]')].map(turn =>
  [turn.dataset.kind, turn.dataset.status, turn.innerText.trim()])
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

    def __init__(self, page: Page, server: Jupyter | None = None, root: Locator | None = None) -> None:
        self.page, self.server = page, server
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

    def timeline(self) -> list[dict[str, Any]]:
        """The entities of the conversation, as its host tells those who are no page."""
        assert self.server is not None
        return self.server.timeline(self.conv_id)

    def rows(self, *, kind: str | None = None, role: str | None = None) -> list[Row]:
        rows = [Row(**row) for row in self.root.evaluate(_ROWS)]
        return [row for row in rows if kind in (None, row.kind) and role in (None, row.role)]

    def words(self) -> list[list[str]]:
        """Kind, status and all that is written of each row, its labels and buttons too."""
        self.root.scroll_into_view_if_needed()
        return list(self.root.evaluate(_WORDS))

    def assistant(self) -> Row | None:
        """The newest message of the assistant."""
        rows = self.rows(kind="message", role="assistant")
        return rows[-1] if rows else None

    def assistant_text(self) -> str:
        row = self.assistant()
        return row.text if row is not None else ""

    def complaint(self) -> str:
        """What the chat says is wrong with it as a whole, and what to do; ``""`` where nothing is."""
        panels = self.part("error-panel").all_inner_texts()
        return panels[0] if panels else ""

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

    def expect_rows_of(self, timeline: Sequence[dict[str, Any]] | None = None) -> None:
        """The rows are the entities of *timeline*, or of the host's, in its order (a run has no row).

        The text is compared where it has no markup, which the page does not show.
        """
        timeline = self.timeline() if timeline is None else timeline
        self.root.scroll_into_view_if_needed()  # JupyterLab lays out no cell that is far away
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

    def expect_the_same_after_a_reload(self) -> None:
        """The rows are the host's, and not a word of them changes as the page is loaded again."""
        self.expect_rows_of()
        before = self.words()
        self.reload()
        until(lambda: len(self.words()) == len(before), "as many rows as before the page was loaded again")
        assert self.words() == before
        self.expect_rows_of()


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def open_page(page: Page, server: Jupyter, conv_id: str | None = None, *, login: bool = True) -> ChatPage:
    """Open the full page, at a conversation or afresh."""
    path = "webchat/" + (f"?conv_id={conv_id}" if conv_id else "")
    page.goto(server.url(path, login=login))
    return ChatPage(page, server).wait_live()
