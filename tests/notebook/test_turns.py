"""`chat.turns()`: what the model was sent and gave, wherever the chat runs."""

from __future__ import annotations

import pytest

from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer
from webchat_widget.errors import WebChatError
from webchat_widget.notebook.widget import ChatWidget

from .conftest import BelongTo


@pytest.mark.parametrize("where", ["server", "kernel"])
def test_they_are_there_wherever_the_chat_runs(
    where: str, server: Jupyter, model: ModelServer, belong_to: BelongTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    belong_to(server)
    chat = ChatWidget(new=True, where=where, model="test-model", system_prompt="Be brief.")
    assert chat.turns() == []
    first, second = (chat.send(prompt).wait(20) for prompt in ("hi", "more"))
    sent, came, final = chat.turns(first.run_id)
    assert (sent["phase"], sent["n"], sent["model"]) == ("pre_inference", 1, "test-model")
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert came["messages"] == [{"role": "assistant", "content": "You said: hi"}]
    assert (came["finish"]["reason"], came["finish"]["model"]) == ("stop", "test-model")
    assert final["messages"] == [{"role": "user", "content": "hi"}, *came["messages"]]
    (again,) = chat.turns(phase="pre_inference", limit=1)
    assert again["run_id"] == second.run_id
    assert again["messages"] == [sent["messages"][0], *final["messages"], {"role": "user", "content": "more"}]
    for wrong in ({"phase": "pre"}, {"limit": 0}):
        with pytest.raises(WebChatError) as error:
            chat.turns(**wrong)
        assert (error.value.code, error.value.status) == ("bad_query", 400)
