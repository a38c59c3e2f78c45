"""The embedded engine: answers offline, always the same, so that the chat can be tried with no model.

It shows what an answer can hold (a thinking phase, Markdown, code, a table, mathematics) and calls the
`calculate` tool for arithmetic. The tool really runs, in the loop; the engine only reads its result.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

from webchat_widget.events import CallRequest, EngineEvent, Finish, TextChunk, ThinkingChunk
from webchat_widget.turns import Message, Turn

__all__ = ["DemoEngine"]

# Possessive: a prompt of 256 KiB costs one pass, whatever it holds.
_ARITHMETIC = re.compile(r"(?:(?<!\S)-)?[(\d][\d\s.,()+\-*/%^×÷]*+")
_OPERATOR = re.compile(r"[+\-*/%^×÷]")
_PIECE = re.compile(r"\S+\s*|\s+")

_INTRODUCTION = """\
Hello! I am the **demo engine** of this chat. I run offline and I am no language model: I always say the \
same. To talk to a real one, set `OPENAI_API_KEY` (or `OPENAI_BASE_URL` for a local server such as Ollama, \
vLLM or llama.cpp, and `WEBCHAT_MODEL` for its model) before you start Jupyter; or in the notebook, with \
`os.environ["OPENAI_API_KEY"] = "…"`, and run the chat's cell again.

Until then you can try what the chat itself does:

- ask me to **compute** something, say `compute 37 * 42`: I call a tool that really runs
- ask for a **table and a formula**, or for some **code**
- press **Stop** while I write, reload the page, or restart the server: the conversation stays
"""

_CODE = """\
Here is a function, with a test of it:

```python
def fibonacci(n: int) -> list[int]:
    \"\"\"The first n Fibonacci numbers.\"\"\"
    numbers = [0, 1]
    while len(numbers) < n:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[:n]


assert fibonacci(7) == [0, 1, 1, 2, 3, 5, 8]
```

The button at the top right of the block copies it.
"""

_TABLE_AND_FORMULA = """\
A table first:

| body | mass (kg) | radius (km) |
|:-----|----------:|------------:|
| Earth | $5.97 \\times 10^{24}$ | 6,371 |
| Mars | $6.42 \\times 10^{23}$ | 3,390 |
| Moon | $7.35 \\times 10^{22}$ | 1,737 |

The speed at which one leaves such a body for good is

$$
v_e = \\sqrt{\\frac{2 G M}{r}}
$$

where $G$ is the gravitational constant, $M$ the mass and $r$ the radius.
"""

_ANYTHING = """\
I am only the demo engine, so I can't answer that. I can compute (`compute 2 * (3 + 4)`), show a table and a \
formula, or show some code.

1. A numbered list, for instance
2. with *emphasis*, **strength** and `inline code`

> To talk to a real model, set `OPENAI_API_KEY` or `OPENAI_BASE_URL` before you start Jupyter; or in \
`os.environ` in the notebook, and run the chat's cell again.
"""


class DemoEngine:
    """An engine that needs no network and no key.

    `delay`: seconds between two pieces of text; 0 for tests.
    """

    name = "demo"
    model = None

    def __init__(self, delay: float = 0.03) -> None:
        self._delay = delay

    async def stream(self, turn: Turn) -> AsyncIterator[EngineEvent]:
        """Answer the last message of the turn."""
        last = turn.messages[-1]
        if last.role == "tool":
            async for event in self._say(_about_result(turn.messages)):
                yield event
            return
        expression = _arithmetic(last.content)
        can_compute = any(tool.name == "calculate" for tool in turn.tools)
        for piece in _pieces(_thoughts(last.content, expression)):
            await asyncio.sleep(self._delay)
            yield ThinkingChunk(piece)
        if expression and can_compute:
            if not _has_answered(turn.messages):
                for piece in _pieces(_INTRODUCTION):
                    await asyncio.sleep(self._delay)
                    yield TextChunk(piece)
            yield CallRequest("demo_call", "calculate", json.dumps({"expression": expression}))
            yield Finish("tool_calls")
            return
        async for event in self._say(_answer(turn.messages)):
            yield event

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def _say(self, text: str) -> AsyncIterator[EngineEvent]:
        for piece in _pieces(text):
            await asyncio.sleep(self._delay)
            yield TextChunk(piece)
        yield Finish("stop")


def _pieces(text: str) -> list[str]:
    """Text cut as models cut it: about a word each."""
    return _PIECE.findall(text)


def _arithmetic(prompt: str) -> str | None:
    """The first arithmetic expression in a prompt, in Python's notation."""
    for found in _ARITHMETIC.finditer(prompt):
        text = found[0].rstrip(" \t\r\n.,(+-*/%^×÷")
        if _OPERATOR.search(text, 1):
            break
    else:
        return None
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return text.replace("×", "*").replace("÷", "/").replace("^", "**").strip()


def _thoughts(prompt: str, expression: str | None) -> str:
    if expression:
        return f"This is arithmetic: {expression}. I had better use the calculate tool than guess."
    topic = "code" if _about(prompt, "code", "function", "python") else "what was asked"
    return f"The person wrote {len(prompt.split())} words. I look for {topic} and answer what I know."


def _has_answered(messages: tuple[Message, ...]) -> bool:
    return any(message.role == "assistant" for message in messages)


def _about(prompt: str, *words: str) -> bool:
    return any(word in prompt.lower() for word in words)


def _answer(messages: tuple[Message, ...]) -> str:
    prompt = messages[-1].content
    parts = [] if _has_answered(messages) else [_INTRODUCTION]
    if _about(prompt, "table", "formula", "math", "latex", "equation"):
        parts.append(_TABLE_AND_FORMULA)
    if _about(prompt, "code", "function", "python"):
        parts.append(_CODE)
    return "\n".join(parts or [_ANYTHING])


def _about_result(messages: tuple[Message, ...]) -> str:
    """A sentence about what the tool gave: the last message, asked for by the call before it."""
    result = messages[-1].content
    for message in reversed(messages):
        if message.tool_calls:
            expression = json.loads(message.tool_calls[-1].arguments)["expression"]
            return f"The `calculate` tool says: `{expression}` = **{result}**.\n"
    return f"The tool says: **{result}**.\n"
