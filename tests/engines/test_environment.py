"""The engine that the environment names, at the moment of asking: a model, or the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.model_server import Gate, ModelServer, Reply
from webchat_widget.engines.environment import EnvironmentEngine, names_a_model
from webchat_widget.errors import EngineError
from webchat_widget.events import TextChunk
from webchat_widget.turns import Message, ToolSchema, Turn

VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "WEBCHAT_MODEL", "WEBCHAT_API")


@pytest.fixture(autouse=True)
def _nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """The model's server."""
    with ModelServer() as server:
        yield server


async def said(engine: EnvironmentEngine, prompt: str = "hi", *tools: ToolSchema) -> str:
    """The text of one turn."""
    turn = Turn((Message("user", prompt),), tools)
    return "".join([event.text async for event in engine.stream(turn) if isinstance(event, TextChunk)])


@pytest.mark.parametrize(
    ("named", "is_model"),
    [
        ({}, False),
        ({"WEBCHAT_MODEL": "m"}, False),
        ({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": " \n"}, False),
        ({"OPENAI_API_KEY": "sk-x"}, True),
        ({"OPENAI_BASE_URL": "http://localhost:11434/v1"}, True),
    ],
    ids=str,
)
def test_what_names_a_model(named: dict[str, str], is_model: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert names_a_model() == is_model
    assert EnvironmentEngine().name == ("openai" if is_model else "demo")


async def test_what_is_named_answers(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f" {model.url} ")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x\n")
    engine = EnvironmentEngine()
    assert engine.model is None
    assert await said(engine) == "You said: hi"
    assert engine.model == "test-model"
    assert model.completions[0].headers["authorization"] == "Bearer sk-x"
    await engine.aclose()


async def test_a_change_counts_from_the_next_turn_on(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EnvironmentEngine()
    assert (engine.name, engine.model) == ("demo", None)
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    assert await said(engine) == "You said: hi"
    monkeypatch.setenv("WEBCHAT_MODEL", "another")
    assert engine.model == "another"
    assert await said(engine) == "You said: hi"
    assert [request.body["model"] for request in model.completions] == ["test-model", "another"]
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert engine.name == "demo"
    await engine.aclose()


async def test_a_turn_that_has_begun_is_answered_by_whom_it_asked(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    model.script(Reply(chunks=["one ", "two"], hold=gate))
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    engine = EnvironmentEngine()
    answer = asyncio.create_task(said(engine))
    gate.step()
    await asyncio.to_thread(gate.wait_held)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert engine.name == "openai"
    gate.open()
    assert await answer == "one two"
    await engine.aclose()


async def test_connections_are_kept_while_nothing_changes(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    engine = EnvironmentEngine()
    before = engine._current()
    await said(engine)
    assert engine._current() is before
    await engine.aclose()
    assert await said(engine) == "You said: hi", "it opens them again"
    await engine.aclose()


async def test_a_key_that_can_be_none_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk canary")
    with pytest.raises(EngineError, match="holds characters that no key has") as error:
        await said(EnvironmentEngine())
    assert "canary" not in str(error.value)


async def test_the_api_is_named_too(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("WEBCHAT_API", " responses ")
    engine = EnvironmentEngine()
    assert await said(engine) == "You said: hi"
    monkeypatch.delenv("WEBCHAT_API")
    assert await said(engine) == "You said: hi"
    assert [request.path for request in model.completions] == ["/v1/responses", "/v1/chat/completions"]
    await engine.aclose()


async def test_an_api_that_is_none(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("WEBCHAT_API", "response")
    engine = EnvironmentEngine()
    assert (engine.name, engine.model) == ("openai", None)
    with pytest.raises(EngineError, match="There is no API 'response': say 'chat' or 'responses'") as error:
        await said(engine)
    assert (error.value.code, error.value.retryable) == ("unknown_api", False)
    assert model.requests == []
    monkeypatch.setenv("WEBCHAT_API", "chat")
    assert await said(engine) == "You said: hi"
    await engine.aclose()
