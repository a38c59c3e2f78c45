"""What the model of a run was sent and what it gave, word for word, for who wants to look it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType

from webchat_widget.errors import WebChatError
from webchat_widget.events import CallRequest, Carried, Finish, Said, TextChunk, ThinkingChunk
from webchat_widget.sem.text import clean
from webchat_widget.timeline.store import TurnRecord
from webchat_widget.turns import Message, ToolCall, Turn
from webchat_widget.typing import JSONObject

__all__ = ["Answer", "Keep", "Records"]

Keep = Callable[[TurnRecord], None]
"""Takes a record without waiting for it to be stored."""


class Records:
    """The records of one run. `count` is how many requests it has made so far."""

    def __init__(self, run_id: str, keep: Keep) -> None:
        self._run_id = run_id
        self._keep = keep
        self.count = 0
        self._asking = 0
        """Which request was the last that was answered with calls."""

    def go_on(self, count: int) -> None:
        """Count on from where the run stood before a restart."""
        self.count = self._asking = count

    def request(self, turn: Turn, model: str | None) -> Answer:
        """Keep what the engine is about to be sent. The answer is told what it gives, and keeps that."""
        self.count += 1
        model = None if model is None else clean(str(model))
        sent = TurnRecord(
            run_id=self._run_id,
            n=self.count,
            phase="pre_inference",
            messages=turn.messages,
            tools=turn.tools,
            model=model,
        )
        self._keep(sent)
        return Answer(sent, self._answered)

    def results(self, messages: Sequence[Message]) -> None:
        """Keep what the calls gave that the model asked for last."""
        self._keep(
            TurnRecord(run_id=self._run_id, n=self._asking, phase="post_tools", messages=tuple(messages))
        )

    def _answered(self, record: TurnRecord) -> None:
        if record.messages and record.messages[-1].tool_calls:
            self._asking = record.n
        self._keep(record)


class Answer:
    """What comes from the engine in answer to `sent`: a context, at whose end it is kept, however it ends."""

    def __init__(self, sent: TurnRecord, keep: Keep) -> None:
        self._sent = sent
        self._keep = keep
        self._thinking: list[str] = []
        self._text: list[str] = []
        self._calls: list[ToolCall] = []
        self._carried: list[JSONObject] = []
        self._finish: Finish | None = None

    def add(self, event: Said) -> None:
        """Take an event in, which is clean. Costs what is new."""
        match event:
            case TextChunk():
                self._text.append(event.text)
            case ThinkingChunk():
                self._thinking.append(event.text)
            case CallRequest():
                self._calls.append(ToolCall(event.call_id, event.name, event.arguments))
            case Carried():
                self._carried.append(event.item)
            case Finish():
                self._finish = event

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep(
            TurnRecord(
                run_id=self._sent.run_id,
                n=self._sent.n,
                phase="post_inference",
                messages=self._messages(),
                model=self._sent.model,
                finish=_finish(self._finish, error),
            )
        )

    def _messages(self) -> tuple[Message, ...]:
        messages = []
        if self._thinking:
            messages.append(Message("thinking", "".join(self._thinking)))
        if self._text or self._calls or self._carried or self._finish is not None:
            text, calls, carried = "".join(self._text), tuple(self._calls), tuple(self._carried)
            messages.append(Message("assistant", text, calls, carried=carried))
        return tuple(messages)


def _finish(finish: Finish | None, error: BaseException | None) -> JSONObject:
    """How an answer ended: in the engine's words, or why there are none."""
    if finish is not None:
        return {"reason": finish.reason, "usage": finish.usage, "model": finish.model}
    reason, said = "error", f"Something went wrong inside the chat ({type(error).__name__})."
    match error:
        case None:
            reason, said = "interrupted", "The model's answer ended before it was finished."
        case asyncio.CancelledError() | GeneratorExit():
            reason, said = "cancelled", "Nobody waited for the rest."
        case WebChatError():
            reason, said = "interrupted" if error.code == "interrupted" else "error", clean(error.message)
    return {"reason": reason, "usage": None, "model": None, "error": said}
