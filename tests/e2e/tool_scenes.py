"""The states of a chat whose tools are functions of its notebook; each context brings one about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import expect

from tests.e2e.kernel_scenes import KernelScene, Open
from tests.e2e.lab import LabPage
from tests.support.model_server import ModelServer, Reply

__all__ = ["TOOL_SCENES"]

_CELL = """
import time
from webchat_widget import ChatWidget, tool
from webchat_widget.builtin import run_code

class Table:
    def __repr__(self):
        return "planet  mass  moons"
    def _repr_html_(self):
        rows = [("Earth", "5.97e24", "1"), ("Mars", "6.42e23", "2"), ("Jupiter", "1.90e27", "97")]
        cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr><th>planet</th><th>mass</th><th>moons</th></tr></thead>{cells}</table>"

class Figure:
    def _repr_svg_(self):
        bars = "".join(
            f"<rect x='{30 + 60 * n}' y='{170 - h}' width='40' height='{h}' fill='#4c78a8'/>"
            for n, h in enumerate((30, 80, 150, 110, 60)))
        return f"<svg xmlns='http://www.w3.org/2000/svg' width='360' height='200'>{bars}</svg>"

@tool(read_only=True)
def planets() -> Table:
    "Planets, their masses and moons."
    return Table()

@tool(read_only=True)
def plot(column: str) -> Figure:
    "Draw a bar chart."
    return Figure()

@tool(read_only=True)
def simulate(steps: int):
    "Simulate orbits."
    for step in range(1, 8):
        print(f"step {step} of {steps}: energy {1 / step:.6f}")
        yield step / steps, f"{step} of {steps} steps"
    while True:
        time.sleep(0.02)
        yield step / steps, f"{step} of {steps} steps"

def drop_table(name: str, confirm: bool = True) -> str:
    "Delete a table of the database."
    return f"{name} is gone"

chat = ChatWidget(tools=[planets, plot, simulate, drop_table, run_code], height="560px")
chat
"""
_CODE = "import pandas as pd\n\ntotals = df.groupby('planet').moons.sum()\ntotals.sort_values().head()"


def _asked(open_lab: Open, model: ModelServer, text: str, *calls: tuple[str, dict[str, object]]) -> LabPage:
    lab = open_lab(_CELL)
    requests = [{"name": name, "arguments": arguments} for name, arguments in calls]
    model.script(Reply(text, tool_calls=requests), Reply("There you are."))
    lab.chat().send("Go on, please")
    return lab


@contextmanager
def tool_asks(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = _asked(open_lab, model, "I'll clean up.", ("drop_table", {"name": "orders_2019", "confirm": False}))
    expect(lab.chats()[0].part("approval")).to_be_visible(timeout=20_000)
    yield lab


@contextmanager
def tool_asks_for_code(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = _asked(open_lab, model, "Let me compute that.", ("run_code", {"code": _CODE}))
    expect(lab.chats()[0].part("approval")).to_be_visible(timeout=20_000)
    yield lab


@contextmanager
def tool_denied(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with tool_asks(open_lab, model) as lab:
        chat = lab.chats()[0]
        chat.part("deny").click()
        chat.part("deny-reason").fill("That table is still needed.")
        chat.part("deny-send").click()
        chat.wait_idle()
        yield lab


@contextmanager
def tool_at_work(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = _asked(open_lab, model, "", ("simulate", {"steps": 20}))
    expect(lab.chats()[0].part("stdout")).to_contain_text("step 7", timeout=20_000)
    yield lab


@contextmanager
def tool_waits(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(_CELL)
    chat = lab.chat()
    with lab.busy():
        model.script(Reply("", tool_calls=[{"name": "planets", "arguments": {}}]), Reply("There you are."))
        chat.send("Go on, please")
        expect(chat.root).to_contain_text("Waiting for the kernel", timeout=20_000)
        yield lab


@contextmanager
def tool_results(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = _asked(open_lab, model, "", ("planets", {}), ("plot", {"column": "moons"}))
    chat = lab.chats()[0]
    expect(chat.root).to_contain_text("There you are.", timeout=20_000)
    chat.wait_idle()
    yield lab


@contextmanager
def rate_limited(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(_CELL)
    model.script(Reply(status=429, headers={"Retry-After": "40"}))
    lab.chat().send("Go on, please")
    expect(lab.chats()[0].root).to_contain_text("slow down", timeout=20_000)
    yield lab


TOOL_SCENES: tuple[KernelScene, ...] = (
    tool_asks,
    tool_asks_for_code,
    tool_denied,
    tool_at_work,
    tool_waits,
    tool_results,
    rate_limited,
)
