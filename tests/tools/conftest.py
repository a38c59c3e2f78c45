"""Who a tool reports to, in tests."""

from __future__ import annotations

from typing import Any

from webchat_widget.tools.own_events import OwnRow


class Told:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[float | None, str]] = []
        self.printed: list[str] = []
        self.statuses: list[str] = []
        self.rows: list[OwnRow] = []

    def progress(self, value: float | None, text: str = "") -> None:
        self.steps.append((value, text))

    def stdout(self, text: str) -> None:
        self.printed.append(text)

    def event(self, row: OwnRow) -> None:
        self.rows.append(row)

    def status(self, status: str) -> None:
        self.statuses.append(status)

    @property
    def text(self) -> str:
        """All that was printed."""
        return "".join(self.printed)


def give(value: Any) -> Any:
    """A tool without arguments that gives a value."""

    def tool() -> Any:
        return value

    return tool
