"""Every kind of row is seen as it comes about, and the same is seen after the page was loaded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.lab import ChatInLab, LabPage
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

MODES = {
    "writer": {"title": "Writer", "prompt": "You write."},
    "critic": {"title": "Critic", "prompt": "You judge."},
}

OWN = """
import threading
from webchat_widget import ChatWidget, Event, emit, tool

class Weather(Event):
    city: str
    celsius: float

noon = threading.Event()

@tool(read_only=True, thread=True)
def look_outside() -> str:
    "The weather."
    emit(Weather(id="here", city="Paris", celsius=11.5))
    noon.wait(60)
    emit(Weather(id="here", city="Paris", celsius=12.5))
    return "mild"

chat = ChatWidget(new=True, tools=[look_outside])
chat
"""


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds an answer until the test has looked."""
    gate = Gate()
    yield gate
    gate.open()


def chat_with(desk: LabPage, *middlewares: Any) -> ChatInLab:
    """A new chat whose runs go through *middlewares*."""
    made = f"chat = ChatWidget(new=True, middlewares={list(middlewares)!r})"
    return desk.show(f"from webchat_widget import ChatWidget\n{made}\nchat")


def card(chat: ChatInLab, kind: str) -> Locator:
    """The newest row of a kind."""
    return chat.root.locator(f"[data-part=turn][data-kind={kind}]").last


def told(model: ModelServer, request: int = -1) -> str:
    """What the model was told as its system message."""
    return "\n".join(
        str(m["content"]) for m in model.completions[request].body["messages"] if m["role"] == "system"
    )


def test_an_agents_mode(desk: LabPage, model: ModelServer, gate: Gate) -> None:
    chat = chat_with(desk, {"name": "agent_mode", "config": {"modes": MODES, "start": "writer"}})
    chunks = ["Once upon a time.\n", "<agent_", "mode>critic</agent_mode>", "\nThat was weak.", " Try again."]
    model.script(Reply(chunks=chunks, hold=gate))
    chat.send("a story")
    gate.step(3)
    until(lambda: "Once upon" in chat.assistant_text(), "the answer begins")
    gate.open()
    expect(card(chat, "agent_mode")).to_contain_text("Critic", timeout=20_000)
    chat.wait_idle()
    assert "Try again." in chat.assistant_text()
    assert "critic" not in chat.assistant_text()
    assert "You write." in told(model)
    chat.ask("and now?")
    assert "You judge." in told(model)
    chat.expect_the_same_after_a_reload()
    expect(card(chat, "agent_mode")).to_contain_text("Critic")


def test_phases_of_thinking(desk: LabPage, model: ModelServer, gate: Gate) -> None:
    chat = chat_with(desk, {"name": "thinking_mode", "config": {"phases": ["understand", "check"]}})
    chunks = [
        '<thinking phase="understand">',
        "They want ",
        "a sum.",
        "</thinking>",
        '<thinking phase="check">Twice.</thinking>',
        "It is 4.",
    ]
    model.script(Reply(chunks=chunks, hold=gate))
    chat.send("2 + 2?")
    gate.step(2)
    phase = card(chat, "thinking_mode")
    expect(phase).to_contain_text("understand", ignore_case=True, timeout=20_000)
    expect(phase).to_have_attribute("data-status", "active")
    phase.get_by_role("button").first.click()
    expect(phase).to_contain_text("They want")
    gate.step(1)
    expect(phase).to_contain_text("They want a sum.")
    gate.open()
    chat.wait_idle()
    assert chat.assistant_text() == "It is 4."
    statuses = [row.status for row in chat.rows(kind="thinking_mode")]
    assert statuses == ["completed", "completed"]
    chat.root.locator("[data-kind=thinking_mode] [aria-expanded=true]").click()
    chat.expect_the_same_after_a_reload()


def step(action: str, decision: str, **more: Any) -> str:
    """What a planner writes."""
    return json.dumps({"action": action, "decision": decision, **more})


def test_a_plan_and_its_execution(desk: LabPage, model: ModelServer, gate: Gate) -> None:
    chat = chat_with(desk, {"name": "planning", "config": {"model": "planner-model", "max_iterations": 3}})
    first = step(
        "Find the mass", "continue", reasoning="One needs it.", strategy="top down", progress="1 of 2"
    )
    second = step(
        "Compute the speed",
        "execute",
        reflection="That is all.",
        progress_score=0.9,
        directive="Use SI units.",
    )
    model.script(first, Reply(second, hold=gate))
    chat.send("escape velocity?")
    plan = card(chat, "planning")
    expect(plan).to_contain_text("Find the mass", timeout=20_000)
    expect(plan).not_to_contain_text("Compute the speed")
    expect(plan).to_have_attribute("data-status", "planning")
    answering = Gate()
    model.script(Reply("About 11.2 km/s.", hold=answering))
    gate.open()
    expect(plan).to_have_attribute("data-status", "executing", timeout=20_000)
    expect(plan).to_contain_text("Compute the speed")
    answering.open()
    chat.wait_idle()
    expect(plan).to_have_attribute("data-status", "completed")
    expect(plan).to_contain_text("Use SI units.")
    assert [request.body["model"] for request in model.completions] == ["planner-model"] * 2 + ["test-model"]
    assert "Use SI units." in told(model)
    assert chat.assistant_text() == "About 11.2 km/s."
    chat.expect_the_same_after_a_reload()


def test_a_plan_that_is_stopped(desk: LabPage, model: ModelServer, gate: Gate) -> None:
    chat = chat_with(desk, "planning")
    model.script(step("Find the mass", "continue"), Reply("never", hold=gate))
    chat.send("escape velocity?")
    plan = card(chat, "planning")
    expect(plan).to_contain_text("Find the mass", timeout=20_000)
    chat.stop()
    chat.wait_idle()
    expect(plan).to_have_attribute("data-status", "error")
    chat.expect_the_same_after_a_reload()


def test_a_line_of_the_log(desk: LabPage, model: ModelServer) -> None:
    chat = chat_with(desk, "logging")
    chat.ask("hello")
    expect(card(chat, "log")).to_contain_text("Request 1")
    expect(card(chat, "log")).to_contain_text("tokens")
    chat.expect_the_same_after_a_reload()


def test_what_all_requests_of_a_run_cost(desk: LabPage, model: ModelServer) -> None:
    tokens = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
    chat = desk.show(OWN)
    desk.run_cell("noon.set()")
    model.script(
        Reply(tool_calls=[{"name": "look_outside", "arguments": {}}], usage=tokens),
        Reply("Mild.", usage=tokens),
    )
    chat.ask("and outside?")
    bar = chat.part("statusbar")
    expect(bar).to_contain_text("2,000 tokens in · 400 out")
    chat.reload()
    expect(bar).to_contain_text("2,000 tokens in · 400 out")
    (run,) = [row["props"] for row in chat.timeline() if row["kind"] == "run"]
    assert run["usage"] == {"inputTokens": 2000, "outputTokens": 400, "cachedTokens": 0}


def test_a_kind_of_ones_own(desk: LabPage, model: ModelServer) -> None:
    """Said by a tool while it runs, and by Python while nothing runs."""
    chat = desk.show(OWN)
    model.script(Reply(tool_calls=[{"name": "look_outside", "arguments": {}}]), Reply("Mild."))
    chat.send("and outside?")
    weather = card(chat, "weather")
    expect(weather).to_contain_text("Paris", timeout=20_000)
    expect(weather).to_contain_text("11.5")
    label = weather.locator("dt", has_text="celsius").bounding_box()
    assert label is not None
    assert label["height"] < 30, "on one line, whatever JupyterLab says of lists in outputs"
    desk.run_cell("noon.set()")
    expect(weather).to_contain_text("12.5", timeout=20_000)
    chat.wait_idle()
    assert len(chat.rows(kind="weather")) == 1
    desk.run_cell("chat.emit(Weather(city='Oslo', celsius=-3.0))")
    until(lambda: len(chat.rows(kind="weather")) == 2, "the second row")
    expect(card(chat, "weather")).to_contain_text("Oslo")
    chat.expect_the_same_after_a_reload()
