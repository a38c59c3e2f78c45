"""The states in which one may see a chat; each function brings one about."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.pages import ChatPage
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

__all__ = ["QUESTION", "SCENES", "Scene", "demo", "reconnecting"]

ANSWER = r"""A table first:

| Body  | Mass (kg)               | Radius (km) |
|:------|------------------------:|------------:|
| Earth | $5.97 \times 10^{24}$   | 6,371       |
| Mars  | $6.42 \times 10^{23}$   | 3,390       |
| Moon  | $7.35 \times 10^{22}$   | 1,737       |

The speed at which one leaves such a body for good is

$$v_e = \sqrt{\frac{2 G M}{r}}$$

and in Python:

```python
from math import sqrt

def escape_velocity(mass: float, radius: float) -> float:
    # mass in kg, radius in km; the result is in km/s
    return sqrt(2 * 6.674e-11 * mass / (radius * 1000)) / 1000

print(f"{escape_velocity(5.97e24, 6371):.1f} km/s")  # 11.2 km/s
```

1. **Earth**: 11.2 km/s
2. **Mars**: 5.0 km/s, see [NASA's fact sheet](https://nssdc.gsfc.nasa.gov/planetary/factsheet/)
3. **Moon**: `2.4` km/s

> A rocket need not be that fast: it may go on burning.
"""
QUESTION = "How fast must one be to leave the Earth, Mars or the Moon?"
LONG = "Show me a long line of code.\n```\n" + "x = " + " + ".join(f"value_{n}" for n in range(40)) + "\n```"
READY = Reply("Good. Ask away.")

Scene = Callable[[ChatPage, ModelServer], None]


def empty(chat: ChatPage, model: ModelServer) -> None:
    chat.wait_live()


def streaming(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(ANSWER, hold=gate))
    chat.send(QUESTION)
    gate.step(120)
    until(lambda: "def escape_velocity" in chat.assistant_text(), "code that is being written")


def done(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply(ANSWER, usage={"prompt_tokens": 21, "completion_tokens": 240, "total_tokens": 261}))
    chat.ask(QUESTION)
    chat.root.locator("math").first.wait_for()


def top(chat: ChatPage, model: ModelServer) -> None:
    done(chat, model)
    chat.part("timeline").evaluate("element => { element.scrollTop = 0; }")
    chat.part("jump-button").wait_for()


def thinking(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    reasoning = (
        "The person asks for escape velocities. I need the masses and the radii of three bodies, and then "
    )
    model.script(Reply(ANSWER, reasoning=reasoning, hold=gate))
    chat.send(QUESTION)
    gate.step(14)
    until(lambda: "radii" in str(chat.rows(role="thinking")), "a thought")


def thought(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply("About 11.2 km/s.", reasoning="The square root of two G M over r."))
    chat.ask("How fast must one be to leave the Earth?")


def demo(chat: ChatPage, model: ModelServer) -> None:
    """The demo engine: its introduction, a thought, and a tool that really runs."""
    chat.ask("Compute 37 * 42")


def tool_failed(chat: ChatPage, model: ModelServer) -> None:
    call = {"name": "weather", "arguments": {"city": "Paris", "days": 3, "units": ["celsius", "km/h"]}}
    model.script(Reply("Let me look.", tool_calls=[call]), "I can't know what the weather is.")
    chat.ask("What is the weather in Paris?")


def error(chat: ChatPage, model: ModelServer) -> None:
    model.script(READY, Reply(status=401))
    chat.ask("Ready?")
    chat.send(QUESTION)
    chat.page.wait_for_selector("[data-kind=error]")
    chat.wait_idle()


def unreachable(chat: ChatPage, model: ModelServer) -> None:
    model.stop()
    chat.send(QUESTION)
    chat.page.wait_for_selector("[data-kind=error]")
    chat.wait_idle()


def queued(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply(ANSWER, hold=gate))
    chat.send(QUESTION)
    gate.step(12)
    until(lambda: chat.assistant_text(), "the beginning of an answer")
    chat.send("And the Sun?")
    chat.send("And a black hole?")
    until(lambda: len(chat.rows(role="user")) == 3, "two prompts in the queue")


def failed_send(chat: ChatPage, model: ModelServer) -> None:
    chat.ask("Ready?")
    chat.page.route("**/webchat/chat/**", lambda route: route.abort())
    chat.send(QUESTION)
    until(lambda: any(row.status == "failed" for row in chat.rows()), "a failed row")


def interrupted(chat: ChatPage, model: ModelServer) -> None:
    model.script(Reply(ANSWER, fault="cut"))
    chat.send(QUESTION)
    until(
        lambda: (row := chat.assistant()) is not None and row.status == "interrupted", "an interrupted answer"
    )
    chat.wait_idle()


def stopped(chat: ChatPage, model: ModelServer) -> None:
    gate = Gate()
    model.script(Reply("The first thing to say about it is", hold=gate))
    chat.send(QUESTION)
    gate.step(5)
    until(lambda: chat.assistant_text(), "the beginning of an answer")
    chat.stop()
    chat.wait_idle()


def reconnecting(chat: ChatPage, model: ModelServer) -> None:
    chat.ask("Ready?")
    chat.page.context.set_offline(True)
    until(
        lambda: chat.state in ("reconnecting", "offline"), "the chat notices that it is offline", timeout=60
    )
    label = chat.part("statusbar").locator("span").first
    until(lambda: label.evaluate("span => getComputedStyle(span).opacity") == "1", "the label has faded in")


def wide_content(chat: ChatPage, model: ModelServer) -> None:
    table = "| " + " | ".join(f"column {n}" for n in range(14)) + " |\n|" + "---|" * 14
    row = "| " + " | ".join(f"{n * 1234.5:.1f}" for n in range(14)) + " |"
    model.script(Reply(f"{table}\n{row}\n{row}\n\n{LONG}\n\n" + "w" * 300))
    chat.ask("Something wide, with_a_very_long_word_" + "x" * 120)


SCENES: tuple[Scene, ...] = (
    empty,
    streaming,
    done,
    top,
    thinking,
    thought,
    demo,
    tool_failed,
    error,
    unreachable,
    queued,
    failed_send,
    interrupted,
    stopped,
    wide_content,
)
