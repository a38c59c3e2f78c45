"""Each request leaves a line that says what it was and cost."""

from __future__ import annotations

import logging

import pytest

from tests.middlewares.conftest import PROMPT, Run, tool_of, turn_of
from webchat_widget.errors import EngineError
from webchat_widget.events import Finish
from webchat_widget.middlewares import logs
from webchat_widget.middlewares.logs import Logging
from webchat_widget.typing import Usage


async def test_a_request_is_told_with_its_cost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = iter([10.0, 12.06])
    monkeypatch.setattr(logs, "monotonic", lambda: next(ticks))
    usage = Usage(inputTokens=210, outputTokens=35, cachedTokens=0)
    run = Run(["Rayleigh.", Finish("stop", usage, "small")])
    run.round = 2
    with caplog.at_level(logging.INFO):
        said = await run.ask(Logging(), turn=turn_of(PROMPT, tools=(tool_of("a"), tool_of("b"))))
    assert [type(each).__name__ for each in said] == ["TextChunk", "Finish", "LogWritten"]
    (row,) = run.rows("log")
    line = "Request 2: 1 message, 2 tools → 210 tokens in, 35 out, 2.1 s"
    assert (row["level"], row["message"]) == ("info", line)
    assert row["fields"] == {
        "request": 2,
        "messages": 1,
        "tools": 2,
        "seconds": 2.06,
        "stopReason": "stop",
        "model": "small",
        "usage": usage,
    }
    assert f"webchat: run r: {line}" in caplog.text


async def test_a_cost_that_nobody_knows_is_not_told() -> None:
    run = Run("Rayleigh.")
    await run.ask(Logging(level="debug"))
    (row,) = run.rows("log")
    assert row["message"].startswith("Request 1: 1 message, 0 tools → ")
    assert "tokens" not in row["message"]
    assert row["level"] == "debug"


async def test_a_request_that_fails_has_an_error_and_no_line() -> None:
    run = Run(["half", EngineError("The line is dead.", code="cut", retryable=True)])
    with pytest.raises(EngineError):
        await run.ask(Logging())
    assert run.rows("log") == []
