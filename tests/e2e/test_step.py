"""Step mode: a run waits before its tools and after them, for a person or until a deadline."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, expect

from tests.e2e.lab import ChatInLab, LabPage
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

CELL = """
from webchat_widget import ChatWidget, tool

loaded = []

@tool(read_only=True)
def load_sales(year: int) -> str:
    "The sales of a year."
    loaded.append(year)
    return "4 rows"

chat = ChatWidget(new=True, tools=[load_sales], middlewares=[{"name": "step", "config": %s}])
chat
"""
CALL = Reply(tool_calls=[{"name": "load_sales", "arguments": {"year": 2024}}])


def stepping(desk: LabPage, model: ModelServer, **config: Any) -> ChatInLab:
    """A chat in step mode, whose model is about to ask for a tool."""
    chat = desk.show(CELL % json.dumps(config))
    model.script(CALL, Reply("Four rows."))
    chat.send("how many?")
    return chat


def pause(chat: ChatInLab, number: int) -> Locator:
    """The card of the run's pause of that number, as it waits."""
    cards = chat.root.locator("[data-kind=debugger_pause]")
    expect(cards).to_have_count(number, timeout=20_000)
    expect(cards.last).to_have_attribute("data-status", "paused")
    return cards.last


def go_on(card: Locator) -> None:
    """Press the card's button."""
    card.get_by_role("button", name="Continue").click()


def loaded(desk: LabPage) -> list[int]:
    """What the tool was called with."""
    return list(json.loads(desk.run_cell("print(loaded)")))


def end(chat: ChatInLab) -> None:
    """Wait for the end of the run, and compare what is on the screen with what is stored."""
    chat.wait_idle()
    assert chat.assistant_text() == "Four rows."
    chat.expect_rows_of()


def pauses(chat: ChatInLab) -> list[str]:
    """How each pause stands."""
    return [row.status for row in chat.rows(kind="debugger_pause")]


def test_a_person_goes_on_in_the_card_and_in_python(desk: LabPage, model: ModelServer) -> None:
    chat = stepping(desk, model, phases=["after_inference", "after_tools"])
    card = pause(chat, 1)
    expect(card).to_contain_text("load_sales")
    expect(card).to_contain_text("2024")
    expect(chat.part("statusbar")).to_contain_text("Paused")
    expect(chat.root.locator(".wc-dots")).to_have_count(0)
    assert loaded(desk) == [], "not before it goes on"
    go_on(card)
    pause(chat, 2)
    assert loaded(desk) == [2024]
    assert len(model.completions) == 1, "the model is not asked before it goes on"
    assert desk.run_cell("print(len(chat.pauses), chat.resume()[0]['phase'])") == "1 after_tools"
    end(chat)
    assert pauses(chat) == ["continued"] * 2
    expect(chat.part("statusbar")).not_to_contain_text("Paused")
    chat.expect_the_same_after_a_reload()


def test_a_page_that_was_loaded_again_can_go_on(desk: LabPage, model: ModelServer) -> None:
    chat = stepping(desk, model, phases=["after_inference"])
    pause(chat, 1)
    before = chat.words()
    chat.reload()
    card = pause(chat, 1)
    assert [words[:2] for words in chat.words()] == [words[:2] for words in before]
    go_on(card)
    end(chat)


def test_a_run_that_waits_can_be_stopped(desk: LabPage, model: ModelServer) -> None:
    chat = stepping(desk, model)
    pause(chat, 1)
    chat.stop()
    chat.wait_idle()
    until(lambda: pauses(chat) == ["cancelled"], "the pause has ended")
    expect(chat.root.get_by_role("button", name="Continue")).to_have_count(0)
    assert loaded(desk) == []
    model.reset()
    chat.expect_the_same_after_a_reload()


def test_it_goes_on_by_itself_at_the_deadline(desk: LabPage, model: ModelServer) -> None:
    chat = stepping(desk, model, seconds=1, phases=["after_tools"])
    end(chat)
    assert pauses(chat) == ["expired"]
    assert loaded(desk) == [2024]
    chat.expect_the_same_after_a_reload()
