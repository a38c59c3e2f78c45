"""The questions that a conversation's runs ask a person, and the answers to them.

An answer counts for one call, by its id, and for the arguments that the person has seen, by their digest. It
is on disk before the call is made, in the run's checkpoint, and used once: a run that goes on after a restart
finds there what was answered, and in the call's row whether it was begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from webchat_widget.errors import Conflict, NotAllowed, NotFound
from webchat_widget.events import CallDelta
from webchat_widget.requests import Decision
from webchat_widget.tools.approvals import Question, Verdict
from webchat_widget.typing import JSONObject

from .coordinator import StreamCoordinator

__all__ = ["ConversationApprovals"]

_STATES = {"once": "once", "always": "always", "deny": "denied"}


class ConversationApprovals:
    """The `Approvals` of one conversation. `seconds`: for so long a question may be answered; `grants`: the
    tools that need not ask any more; `check_open` raises where nothing is taken in; `checkpoint`: id and
    checkpoint of the run that is under way."""

    def __init__(
        self,
        stream: StreamCoordinator,
        now_ms: Callable[[], int],
        seconds: float,
        grants: Iterable[str],
        check_open: Callable[[], None],
        checkpoint: Callable[[], tuple[str, JSONObject]],
    ) -> None:
        self._stream = stream
        self._now_ms = now_ms
        self._seconds = seconds
        self._grants = set(grants)
        self._check_open = check_open
        self._checkpoint = checkpoint
        self._end: Callable[[], str | None] = lambda: None
        self._open: dict[str, tuple[Question, asyncio.Future[Verdict]]] = {}
        self._deciding = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.decisions: dict[str, Decision] = {}

    def begin(self, decisions: dict[str, Decision], end: Callable[[], str | None]) -> None:
        """A run starts, or goes on; `decisions` are those that it was told before, `end` says why it was
        cancelled, None where it was not."""
        self.decisions = dict(decisions)
        self._end = end

    # -- what the loop asks --------------------------------------------------------------------------

    def granted(self, tool: str) -> bool:
        """Whether this tool needs no yes any more."""
        return tool in self._grants

    def expires_at(self) -> int:
        """When a question that is asked now expires."""
        return self._now_ms() + int(self._seconds * 1000)

    def open(self, question: Question) -> None:
        """From now on it can be answered; it is at once where it was before a restart."""
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._open[question.call_id] = question, answer
        decided = self.decisions.get(question.call_id)
        if decided is not None and decided.digest == question.digest:
            self._settle(question, answer, _verdict(decided))

    async def answer(self, question: Question) -> Verdict:
        """Wait for the answer."""
        _, answer = self._open[question.call_id]
        try:
            await asyncio.wait([answer], timeout=max(0, question.expires_at - self._now_ms()) / 1000)
            async with self._deciding:  # an answer that is being stored still counts
                if not answer.done():
                    self._settle(question, answer, Verdict("expired"))
            return answer.result()
        finally:
            self.close(question)

    def close(self, question: Question) -> None:
        """From now on it can't be answered."""
        if (opened := self._open.pop(question.call_id, None)) is not None:
            opened[1].cancel()

    # -- what the person answers ---------------------------------------------------------------------

    async def decide(self, call_id: str, decision: Decision) -> None:
        """Take an answer; done when it is on disk. The same one again is fine.

        Raises NotFound for a call that asks nothing and never did; Conflict where it is another call by now,
        was decided otherwise, or asks no more; NotAllowed for `always` where each call is asked about;
        StoreUnavailable and ShuttingDown.
        """
        # Whoever answers may hang up; what they said is stored, or not, as a whole.
        task = asyncio.create_task(self._decide(call_id, decision), name="webchat-decision")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _decide(self, call_id: str, decision: Decision) -> None:
        async with self._deciding:
            self._check_open()
            end = self._end
            question, answer = self._open.get(call_id) or (None, None)
            if question is None or answer is None or answer.done():
                return self._again(call_id, decision)
            if decision.digest != question.digest:
                raise _stale("The call has changed since you saw it. Look at it again.")
            if self._now_ms() >= question.expires_at:
                raise _stale("The time to answer is over: the call was not made. Ask the model again.")
            always = decision.decision == "always"
            if always and not question.grantable:
                raise NotAllowed(
                    f"Each call of {question.tool} is asked about: allow it once.", field="decision"
                )
            self.decisions[call_id] = decision
            try:
                await self._stream.emit(
                    undo=True,
                    checkpoints=(self._checkpoint(),),
                    grants=(question.tool,) if always else (),
                )
            except BaseException:
                self.decisions.pop(call_id, None)  # its run may have ended meanwhile
                raise
            if always:
                self._grants.add(question.tool)
            if not answer.done():
                self._settle(question, answer, _verdict(decision))
            elif end() != "interrupted":  # else the call is made when the conversation is opened again
                kept = f" Later calls of {question.tool} need no yes, as you said." * always
                raise _stale(f"The run was stopped, so this call is not made.{kept}")

    def _again(self, call_id: str, decision: Decision) -> None:
        """An answer to what is not asked, or not any more."""
        row = self._stream.timeline.row(call_id)
        approval = row["props"].get("approval") if row is not None else None
        if not isinstance(approval, dict):
            raise NotFound("There is no such call that asks for a yes.", code="unknown_call")
        state = approval.get("state")
        if approval.get("digest") != decision.digest or state in ("pending", "expired"):
            raise _stale("This call does not ask any more.")
        if state != _STATES[decision.decision]:
            raise Conflict("This call was decided otherwise already.", code="decided")

    def _settle(self, question: Question, answer: asyncio.Future[Verdict], verdict: Verdict) -> None:
        answer.set_result(verdict)
        approval = question.approval(verdict.state, verdict.reason)
        saved = asyncio.ensure_future(
            self._stream.emit(CallDelta(id=question.call_id, patch={"approval": approval}))
        )
        saved.add_done_callback(_retrieve)


def _verdict(decision: Decision) -> Verdict:
    return Verdict(_STATES[decision.decision], decision.reason if decision.decision == "deny" else "")


def _stale(sentence: str) -> Conflict:
    return Conflict(sentence, code="stale_approval")


def _retrieve(done: asyncio.Future[None]) -> None:
    """The row is stored with the next write that succeeds; what counts is on disk already."""
    if not done.cancelled():
        done.exception()
