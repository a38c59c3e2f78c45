"""A kernel that is the host is killed and started again: the model is sent the history that it had."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import ModelServer, Reply

from .kernel import Kernel

CELL = """
import json, os
os.environ.update({environment!r})
from webchat_widget import ChatWidget, tool

@tool(read_only=True)
def double(number: int) -> int:
    "Twice a number."
    return 2 * number

def say(conv_id, *prompts):
    chat = ChatWidget(conv_id, where="kernel", tools=[double], system_prompt="Be brief.")
    for prompt in prompts:
        assert chat.send(prompt).wait(30).status == "finished"
    return [turn["phase"] for turn in chat.turns()]
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.end()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_killed_kernel_goes_on_with_the_history_that_it_had(
    kernel: Kernel, model: ModelServer, api: str
) -> None:
    env = {"OPENAI_BASE_URL": model.url, "WEBCHAT_MODEL": "test-model", "WEBCHAT_API": api}

    def say(conv_id: str, *prompts: str) -> list[str]:
        kernel.run(CELL.format(environment=env))
        phases: list[str] = kernel.value(f"say{(conv_id, *prompts)!r}")
        return phases

    bodies: list[dict[str, Any]] = []
    for conv_id in ("kept", "killed"):
        model.reset()
        call = {"name": "double", "arguments": {"number": 21}}
        model.script(
            Reply("Let me see.", reasoning="A call.", tool_calls=[call]), "It is 42. é 😀", "Again 42."
        )
        phases = say(conv_id, "Twice 21?", "Once more?")
        if conv_id == "killed":
            pid = kernel.value("os.getpid()")
            os.kill(pid, signal.SIGKILL)
            kernel.restart()
        more = say(conv_id, "And now?")
        assert more[: len(phases)] == phases
        assert len(more) == len(phases) + 3
        bodies.append(model.completions[-1].body)
    assert bodies[0] == bodies[1]
    for part in ("Be brief.", "Twice 21?", "Let me see.", "'42'", "It is 42. é 😀", "Again 42.", "And now?"):
        assert part in str(bodies[0])
