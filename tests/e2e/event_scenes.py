"""Rows of middlewares and of people's own kinds, profiles, runs in cells; each context brings one about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, expect

from tests.e2e.kernel_scenes import KernelScene, Open
from tests.e2e.lab import ChatInLab, LabPage
from tests.e2e.pages import ChatPage
from tests.e2e.scenes import QUESTION
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

__all__ = ["EVENT_SCENES"]

_STEPS = (
    ("Find the mass and the radius of the Earth", "top down", "One needs both for the formula."),
    (
        "See how the escape velocity follows from the conservation of energy, and what the atmosphere does",
        "from first principles",
        "The kinetic energy must make up for the potential energy. " * 12,
    ),
    ("Compute the speed", "one call of the calculator", "The numbers are there."),
)
_MODES = {
    "writer": {"title": "Writer", "prompt": "You write."},
    "critic": {"title": "Critic", "prompt": "You judge."},
}
_THOUGHTS = (
    '<thinking phase="understand">The person asks for **escape velocities** of three bodies, in km/s. ',
    "I need their masses and radii, and the formula.",
    '</thinking><thinking phase="check">',
    "For the Earth: $v = \\sqrt{2 G M / r} \\approx 11.2$ km/s. That is what the tables say.",
    "</thinking>",
    "About **11.2 km/s** for the Earth.",
)
_WEATHER = """
from webchat_widget import ChatWidget, Event

class Weather(Event):
    city: str
    celsius: float
    wind: dict
    hours: list

chat = ChatWidget(height="560px")
chat
"""
_SAY = """chat.emit(Weather(city="Paris", celsius=11.5, wind={"from": "NW", "knots": 12, "gusts": [18, 21]},
    hours=[{"at": f"{hour}:00", "celsius": 9 + hour / 4} for hour in range(8, 20, 4)]))"""
_DRAWN = """
export default {
  render({ entity, el }) {
    const { city, celsius, wind } = entity.props;
    el.innerHTML = `<style>
      .weather { display: flex; gap: 12px; align-items: center; padding: 10px 14px; border-radius: 10px;
        background: linear-gradient(120deg, #4c78a8, #72b7b2); color: white; font-family: sans-serif; }
      .weather b { font-size: 28px; }
    </style><div class="weather"><b></b><span></span></div>`;
    el.querySelector("b").textContent = `${celsius} °C`;
    el.querySelector("span").textContent = `${city}, wind from ${wind.from} at ${wind.knots} knots`;
  },
};
"""
_PROFILES = """
from webchat_widget import ChatWidget, Profile

chat = ChatWidget(height="560px", profiles=[
    Profile(slug="pirate", display_name="Pirate", system_prompt="Say arr.", model="parrot-1"),
    Profile(slug="long", display_name="A profile with quite a long name, as people give them"),
])
chat
"""
_STEPPING = """
from webchat_widget import ChatWidget, tool

@tool(read_only=True)
def load_sales(year: int, region: str) -> str:
    "The sales of a year."
    return "4 rows"

chat = ChatWidget(tools=[load_sales], middlewares=["step"], height="560px")
chat
"""


def _chat(open_lab: Open, *middlewares: Any) -> ChatInLab:
    made = f"chat = ChatWidget(middlewares={list(middlewares)!r}, height='560px')"
    return open_lab(f"from webchat_widget import ChatWidget\n\n{made}\nchat").chat()


def _card(chat: ChatPage, kind: str) -> Locator:
    return chat.root.locator(f"[data-part=turn][data-kind={kind}]").last


def _open_folds(chat: ChatPage, kind: str) -> None:
    row = f"[data-kind={kind}]"
    folds = chat.root.locator(f"{row} button[aria-expanded=false], {row} details:not([open]) > summary")
    while folds.count():
        folds.first.click()


# -- middlewares' rows --------------------------------------------------------------------------------------


@contextmanager
def mode_changed(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _chat(open_lab, {"name": "agent_mode", "config": {"modes": _MODES, "start": "writer"}})
    model.script(
        "Once upon a time there was a rocket.\n<agent_mode>critic</agent_mode>\nThat was a weak opening."
    )
    chat.ask("Write a story, then judge it")
    yield chat.lab


@contextmanager
def thinking_in_phases(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _chat(open_lab, "thinking_mode")
    gate = Gate()
    model.script(Reply(chunks=_THOUGHTS, hold=gate))
    chat.send(QUESTION)
    gate.step(4)
    expect(_card(chat, "thinking_mode")).to_contain_text("check", ignore_case=True, timeout=20_000)
    _open_folds(chat, "thinking_mode")
    yield chat.lab


@contextmanager
def thought_in_phases(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _chat(open_lab, "thinking_mode")
    model.script(Reply(chunks=_THOUGHTS))
    chat.ask(QUESTION)
    _open_folds(chat, "thinking_mode")
    yield chat.lab


def _planned(steps: int) -> list[str]:
    written = []
    for number in range(steps):
        action, strategy, reasoning = _STEPS[number % len(_STEPS)]
        step = {
            "action": action,
            "strategy": strategy,
            "reasoning": reasoning,
            "progress": f"{number + 1} of {steps}",
            "tool_name": "calculate" if number % 3 == 2 else None,
            "reflection": "It holds so far, and nothing was forgotten." if number % 2 else None,
            "progress_score": (number + 1) / steps if number % 2 else None,
            "decision": "execute" if number == steps - 1 else "continue",
            "directive": "Answer with one number per body, in km/s, and name the formula.",
        }
        written.append(json.dumps({key: value for key, value in step.items() if value is not None}))
    return written


def _planning(open_lab: Open) -> ChatInLab:
    config = {"model": "planner-large", "max_iterations": 10}
    return _chat(open_lab, {"name": "planning", "config": config}, "logging")


@contextmanager
def planning(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _planning(open_lab)
    model.script(*_planned(3)[:2], Reply("{}", hold=Gate()))
    chat.send(QUESTION)
    expect(_card(chat, "planning")).to_contain_text("atmosphere", timeout=20_000)
    _open_folds(chat, "planning")
    yield chat.lab


@contextmanager
def executing(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _planning(open_lab)
    gate = Gate()
    model.script(*_planned(3), Reply("About 11.2 km/s for the Earth, which is", hold=gate))
    chat.send(QUESTION)
    gate.step(5)
    until(lambda: "km/s" in chat.assistant_text(), "the beginning of an answer")
    yield chat.lab


@contextmanager
def executed(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    """With as many steps as there may be."""
    chat = _planning(open_lab)
    model.script(*_planned(10), "About 11.2 km/s for the Earth.")
    chat.ask(QUESTION)
    _card(chat, "planning").scroll_into_view_if_needed()
    yield chat.lab


@contextmanager
def plan_failed(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    chat = _planning(open_lab)
    model.script(*_planned(3)[:1], Reply(status=401))
    chat.send(QUESTION)
    expect(_card(chat, "error")).to_be_visible(timeout=20_000)
    yield chat.lab


@contextmanager
def paused(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(_STEPPING)
    call = {"name": "load_sales", "arguments": {"year": 2024, "region": "north"}}
    model.script(Reply("I'll look that up.", tool_calls=[call]), "Four rows.")
    lab.chat().send("How many sales were there?")
    expect(_card(lab.chat(), "debugger_pause")).to_be_visible(timeout=20_000)
    yield lab


@contextmanager
def continued(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with paused(open_lab, model) as lab:
        chat = lab.chat()
        for _ in range(2):
            chat.root.get_by_role("button", name="Continue").click()
        chat.wait_idle()
        yield lab


# -- rows of one's own --------------------------------------------------------------------------------------


@contextmanager
def own_kind(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(_WEATHER)
    lab.chat().ask("Ready?")
    lab.run_cell(_SAY)
    expect(_card(lab.chat(), "weather")).to_contain_text("Paris", timeout=20_000)
    yield lab


@contextmanager
def own_kind_drawn(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with own_kind(open_lab, model) as lab:
        lab.run_cell(f"chat.renderers['weather'] = {_DRAWN!r}")
        expect(lab.chat().root.locator(".weather")).to_be_visible(timeout=20_000)
        yield lab


@contextmanager
def own_kind_broken(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with own_kind(open_lab, model) as lab:
        lab.run_cell(
            "chat.renderers['weather'] = 'export default { render() { throw new Error(\"no wind\") } }'"
        )
        expect(_card(lab.chat(), "weather")).to_contain_text("no wind", timeout=20_000)
        yield lab


# -- profiles and magics ------------------------------------------------------------------------------------


@contextmanager
def profile_picked(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(_PROFILES)
    chat = lab.chat()
    chat.part("profile-select").select_option("pirate")
    chat.ask("Who are you?")
    yield lab


@contextmanager
def profile_with_a_long_name(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with profile_picked(open_lab, model) as lab:
        lab.chat().part("profile-select").select_option("long")
        yield lab


@contextmanager
def cell_asks(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab("%load_ext webchat_widget")
    gate = Gate()
    model.script(Reply("About **11.2 km/s** for the Earth, which is the square root of", hold=gate))
    lab.start_cell(f"%%chat\n{QUESTION}")
    view = ChatPage(lab.page, lab.server)
    gate.step(5)
    until(lambda: view.root.is_visible() and "km/s" in view.assistant_text(), "the beginning of an answer")
    yield lab


@contextmanager
def cell_was_answered(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab("%load_ext webchat_widget")
    model.script(Reply("About **11.2 km/s** for the Earth:\n\n| body | km/s |\n|---|---|\n| Earth | 11.2 |"))
    lab.run_cell(f"%%chat\n{QUESTION}")
    expect(lab.page.locator(".jp-OutputArea-output strong")).to_be_visible(timeout=20_000)
    yield lab


EVENT_SCENES: tuple[KernelScene, ...] = (
    mode_changed,
    thinking_in_phases,
    thought_in_phases,
    planning,
    executing,
    executed,
    plan_failed,
    paused,
    continued,
    own_kind,
    own_kind_drawn,
    own_kind_broken,
    profile_picked,
    profile_with_a_long_name,
    cell_asks,
    cell_was_answered,
)
