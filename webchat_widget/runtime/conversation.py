"""One conversation: its stream, its readers, and its queue of runs, one at a time and in order."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from webchat_widget.errors import EngineError, QueueFull, ShuttingDown, StoreUnavailable, WebChatError
from webchat_widget.events import ErrorRaised, Finish, RunChanged, RunEvent, Upserted
from webchat_widget.middlewares.system_prompt import SystemPrompt
from webchat_widget.profiles import DEFAULT, profile_of
from webchat_widget.requests import ChatRequest, Decision, Overrides
from webchat_widget.timeline.store import KeyRecord, Loaded, PendingRun
from webchat_widget.tools.checkpoint import read
from webchat_widget.tools.deadline import Deadline
from webchat_widget.tools.loop import ToolLoop, status_of
from webchat_widget.tools.own_events import OwnRow
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Message
from webchat_widget.typing import JSONObject

from .approvals import ConversationApprovals
from .coordinator import RunSink, StreamCoordinator
from .environment import Environment
from .equipment import Equipment
from .outcomes import outcome
from .pauses import ConversationPauses
from .pool import RESTARTING, ConnectionPool
from .recovery import closing_events
from .run import Run, title_of

__all__ = ["Accepted", "Conversation"]

_ANSWER_SECONDS = 0.001
"""A head start for the answer to a prompt: to ask a model begins with some milliseconds of work."""
_END_SECONDS = 3.0
"""For so long what a run does may take to end after a cancel; a host has 5 s for all of its end."""

_ENDS = "The chat is shutting down. Try again in a moment."
_MOVES = "This conversation is moving. Try again in a moment."
_OPENS_ANEW = "This conversation is being opened anew. Try again in a moment."


class Accepted(Struct, frozen=True):
    """A prompt that is on disk. `position` is its place in the queue, 0 where it runs at once."""

    run_id: str
    position: int


class Conversation:
    """Owns the coordinator, the pool and the runs of one `conv_id`.

    `on_idle` is called after a while without a reader; `equipment` is what it has beside its profile.
    """

    def __init__(
        self,
        conv_id: str,
        env: Environment,
        loaded: Loaded | None,
        on_idle: Callable[[Conversation], None],
        equipment: Callable[[], Equipment] = Equipment,
    ) -> None:
        loaded = loaded or Loaded(0, [], [], [], {})
        self.conv_id = conv_id
        self.complete = loaded.complete
        """False: it can only be shown, for its unfinished runs were left out."""
        self._env = env
        self._equipment = equipment
        self.pool = ConnectionPool(env.settings.pool, self._text_of, lambda: on_idle(self))
        self.stream = StreamCoordinator(
            conv_id, env.store, self.pool.publish, env.now_ms, loaded.rows, loaded.version
        )
        self.settings = msgspec.convert(loaded.settings, Overrides)
        self._memory = loaded.memory
        self._pending = loaded.pending
        self._queue: deque[Run] = deque()
        self._running: Run | None = None
        self._approvals = ConversationApprovals(
            self.stream,
            env.now_ms,
            env.settings.approval_seconds,
            loaded.grants,
            self._check_open,
            self._checkpoint,
        )
        self._pauses = ConversationPauses(self.stream, env.now_ms)
        self._changing = asyncio.Lock()
        """Held while a person's own row is being stored: what comes next builds on it, or on what was."""
        self._closing = ""
        """Why it takes nothing in any more, in words for who asks it still; "" where it does."""
        self.pool.touch()

    @property
    def busy(self) -> bool:
        """True while a run is under way or waits."""
        return self._running is not None or bool(self._queue)

    @property
    def idle(self) -> bool:
        """True where nobody reads and nothing runs."""
        return not self.busy and len(self.pool) == 0

    # -- prompts -------------------------------------------------------------------------------------

    async def accept(self, request: ChatRequest, key_for: Callable[[Accepted], KeyRecord | None]) -> Accepted:
        """Take a prompt: done when it, its place in the queue and its key are on disk.

        Raises QueueFull, StoreUnavailable, ShuttingDown.
        """
        self._check_open()
        if len(self._queue) >= self._env.settings.queue:
            raise QueueFull(f"{len(self._queue)} prompts wait in this conversation already. Try again later.")
        at_once = not self.busy
        run = Run(str(uuid.uuid4()), request, sink=RunSink(self.stream), announced=at_once)
        # Where nothing runs, the head of the queue is about to: it takes no place.
        accepted = Accepted(run.id, len(self._queue) + (self._running is not None))
        events = self._announcement(run) if at_once else [self._placed(run, "queued", accepted.position)]
        saved = self.stream.emit(
            *events,
            undo=True,
            pending=(self._stored(run, started=at_once),),
            key=key_for(accepted),
            title=title_of(request.prompt),
        )
        self._queue.append(run)
        # Whoever sends it may hang up; it is taken, or not, as the disk says.
        run.storing = asyncio.create_task(self._take(run, saved), name=f"webchat-accept-{run.id}")
        await asyncio.shield(run.storing)
        return accepted

    async def _take(self, run: Run, saved: Awaitable[None]) -> None:
        """Let a prompt have its turn once it is on disk; without a place in the queue where it is not."""
        try:
            await saved
        except BaseException:
            run.dropped = True
            with contextlib.suppress(ValueError):
                self._queue.remove(run)
            with contextlib.suppress(WebChatError):  # those behind it move up, on disk when there is one
                await self.stream.emit(*self._positions())
            raise
        finally:
            run.accepted.set()
            self._start_next()

    async def stop(self, run_id: str | None) -> None:
        """End the run that is under way, or the one of that id; done when its terminal frame is on disk.

        Raises StoreUnavailable: where its code is `end_not_stored` the run has ended all the same, and to
        call again is to try again. Raises ShuttingDown where the run was left to the next host meanwhile.
        """
        run = self._running
        if run is not None and run_id in (None, run.id):
            run.cancel("stopped")
            await run.ended.wait()
            if run.suspended:
                self._check_open()
        try:
            await self._store_end(run_id)
        except StoreUnavailable as error:
            if not self.stream.owes_end(run_id):
                raise
            raise StoreUnavailable(error.message, code="end_not_stored") from error

    async def _store_end(self, run_id: str | None) -> None:
        """Take a prompt that waits out of the queue; what has ended is to be on disk."""
        for waiting in self._queue:
            if waiting.id == run_id:
                self._queue.remove(waiting)
                waiting.dropped = True
                stopped = RunChanged(id=waiting.id, status="stopped", stop_reason="stopped")
                return await self.stream.emit(stopped, *self._positions(), ended=(waiting.id,))
        await self.stream.flush()

    async def approve(self, call_id: str, decision: Decision) -> None:
        """Take a person's answer to a call; see `ConversationApprovals.decide`."""
        await self._approvals.decide(call_id, decision)

    async def emit(self, row: OwnRow) -> str:
        """Make or change a row outside of any run; its id. Done when it is on disk.

        Raises StoreUnavailable and ShuttingDown.
        """
        self._check_open()
        id = f"event:{row.kind}:{row.id or uuid.uuid4()}"
        async with self._changing:
            await self.stream.emit(Upserted(id=id, kind=row.kind, props=row.props), undo=True)
        return id

    async def resume(self, pause_id: str) -> None:
        """Let a run go on that waits in step mode; see `ConversationPauses.resume`.

        Raises StoreUnavailable and ShuttingDown too.
        """
        self._check_open()
        await self._pauses.resume(pause_id)

    # -- life ----------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """After a crash: close the runs that were cut, and go on with those that waited, be it for their
        turn or for a person.

        Raises StoreUnavailable; then nothing has begun, and the conversation is to be loaded anew.
        """
        pending, self._pending = self._pending, []
        waiting = []
        for left in pending:
            request, sink = msgspec.convert(left.request, ChatRequest), RunSink(self.stream)
            checkpoint = read(left.checkpoint)
            if checkpoint is not None and checkpoint.waits(self.stream.timeline):
                run = Run(left.run_id, request, sink=sink, announced=True, checkpoint=checkpoint)
                run.accepted.set()
                waiting.append(run)
            elif left.started:
                events, messages = closing_events(left.run_id, request, self.stream.timeline, checkpoint)
                self._memory += messages
                await self.stream.emit(*events, ended=(left.run_id,), turns=((left.run_id, tuple(messages)),))
            else:
                run = Run(left.run_id, request, sink=sink, announced=False)
                run.accepted.set()
                waiting.append(run)
        self._queue.extend(waiting)
        self._start_next()

    async def close(self, *, moves: bool = False) -> None:
        """End the run as interrupted, store everything, close the readers. Queued prompts stay stored, and
        so does a run that has not begun, or of which a call waits for a person. `moves`: another host is
        about to have the conversation; else this one ends."""
        self._closing = _MOVES if moves else _ENDS
        if self._running is not None:
            self._running.cancel("interrupted")
            await self._running.ended.wait()
        try:
            await self.stream.flush()
        finally:
            self.stream.close()
            self.pool.close(RESTARTING, "the conversation has moved" if moves else "the server is restarting")

    async def abandon(self) -> None:
        """Let go of it as if it had not been opened; what the store holds stands."""
        self._closing = _OPENS_ANEW
        if self._running is not None:
            self._running.cancel("interrupted")
            await self._running.ended.wait()
        self.stream.close()
        self.pool.close(RESTARTING, "try again")

    # -- runs ----------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closing:
            raise ShuttingDown(self._closing, code=None if self._closing == _ENDS else "moved")
        if not self.complete:
            why = " ".join(self._env.store.notices) or "The timeline could only be read until now. Try again."
            raise StoreUnavailable(why)

    def _start_next(self) -> None:
        if self._running is not None or self._closing or not self._queue:
            return
        run = self._running = self._queue.popleft()
        run.task = asyncio.create_task(self._execute(run), name=f"webchat-run-{run.id}")

    async def _execute(self, run: Run) -> None:
        """One run, to its terminal frame, whatever happens in it."""
        try:
            await self._run(run)
        finally:
            if not run.suspended:  # else a Stop is to find that it has not ended
                self._running = None
                # Nothing of the run is kept in memory but what it said.
                run.loop = None
                self._approvals.begin({}, lambda: None)
            run.ended.set()
            self._start_next()
            if not self._closing:
                self.pool.touch()

    async def _run(self, run: Run) -> None:
        loop: ToolLoop | None = None
        status = "complete"
        failure: WebChatError | None = None
        finish: Finish | None = None
        await run.accepted.wait()
        if run.dropped:
            return
        try:
            run.at_work = True
            run_time = Deadline(self._run_seconds(run))
            if run.checkpoint is not None:
                loop = run.loop = self._loop(run, run_time)
            if run.end is not None:
                raise asyncio.CancelledError
            if run.checkpoint is None:
                await asyncio.sleep(_ANSWER_SECONDS)
            if not run.announced:
                await self._announce(run)
            if loop is None:
                loop = run.loop = self._loop(run, run_time)
            async with run_time:
                finish = await self._work(run, loop)
            status = status_of(finish)
        except asyncio.CancelledError:
            status = run.end or "interrupted"
            task = asyncio.current_task()
            if run.end is not None and task is not None:
                task.uncancel()  # the end of the run is still to be written
            if run.end == "interrupted" and (loop is None or loop.waits):
                run.at_work = False
                return await self._suspend(run, loop)
        except TimeoutError:
            status = "interrupted"
            failure = EngineError(
                f"The run was ended after {self._env.settings.run_seconds:g} s (c.WebChat.max_run_seconds).",
                code="run_timeout",
                retryable=True,
            )
        except WebChatError as error:
            status, failure = ("interrupted" if error.code == "interrupted" else "error"), error
        except Exception:  # a bug, ours or an engine's, must not leave the run open
            self._env.log.exception("webchat: run %s failed", run.id)
            status = "error"
            failure = WebChatError(
                "Something went wrong inside the chat; the log of Jupyter says what.",
                code="internal_error",
            )
        run.at_work = False
        events = [] if run.announced else self._announcement(run)
        events += loop.close(status, finish) if loop else self._left_open(run)
        run.sink.close()
        events += outcome(run.id, status, finish, failure, loop)
        # A prompt that got no answer at all leaves nothing: many models want the roles to alternate.
        turn = (*loop.history[-1:], *loop.produced) if loop is not None and loop.produced else ()
        self._memory += turn
        try:
            await self.stream.emit(*events, ended=(run.id,), turns=((run.id, turn),))
        except Exception as unsaved:
            self._env.log.error("webchat: the end of run %s is not on disk yet: %s", run.id, unsaved)

    def _left_open(self, run: Run) -> list[RunEvent]:
        """The ends of what a run has left open that could not go on from its checkpoint."""
        if run.checkpoint is None:
            return []
        closing, _ = closing_events(run.id, run.request, self.stream.timeline, run.checkpoint)
        return [event for event in closing if not isinstance(event, ErrorRaised | RunChanged)]

    async def _work(self, run: Run, loop: ToolLoop) -> Finish:
        """The loop, which is let go of where it does not end soon after a cancel: nobody is to wait for an
        engine, or a middleware, that won't."""
        work = asyncio.create_task(loop.run(), name=f"webchat-loop-{run.id}")
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.cancel()
            work.add_done_callback(_retrieve)
            await asyncio.wait([work], timeout=_END_SECONDS)
            if not work.done():
                self._env.log.error("webchat: the engine of run %s goes on although it was stopped", run.id)
            raise

    async def _suspend(self, run: Run, loop: ToolLoop | None) -> None:
        """Leave a run as it is that has not begun, or waits for a person: it goes on when the conversation is
        opened again."""
        run.suspended = True
        events = loop.suspend() if loop is not None else []
        unbegun = (self._stored(run, started=False),) if loop is None and run.announced else ()
        run.sink.close()
        if events or unbegun:
            with contextlib.suppress(WebChatError):  # then it, or they, are closed when it is opened
                await self.stream.emit(*events, pending=unbegun)

    def _run_seconds(self, run: Run) -> float:
        left = run.checkpoint.left if run.checkpoint is not None else None
        return self._env.settings.run_seconds if left is None else left

    def _checkpoint(self) -> tuple[str, JSONObject]:
        run = self._running
        assert run is not None
        assert run.loop is not None
        return run.id, run.loop.checkpoint().stored()

    def _loop(self, run: Run, run_time: Deadline) -> ToolLoop:
        env = self._env
        own = self._equipment().profiles if run.request.own is None else (profile_of(run.request.own),)
        chosen = env.profiles.with_own(own).choose(run.request.profile, run.request.overrides, self.settings)
        for why in chosen.refused:
            env.log.warning("webchat: a setting of conversation %s is left out: %s", self.conv_id, why)
        before = run.checkpoint
        said = before.said if before is not None else self._equipment().spelled_out(run.request.prompt)
        history = [*self._memory, Message("user", said, images=run.request.images)]

        def tools() -> ToolRegistry:
            own, of_profile = self._equipment().tools, chosen.profile.tools or ()
            names = (*own.names, *of_profile) if chosen.tools is None else chosen.tools
            return own.over(env.tools.only(of_profile)).only(names)

        begun = tools()

        def kept() -> ToolRegistry:
            """Those that the run began with. One whose kernel is gone for good gives way to its successor."""
            present = tools()
            return ToolRegistry(
                (present.get(tool.name) or tool) if getattr(tool, "lost", False) else tool for tool in begun
            )

        loop = ToolLoop(
            run.id,
            env.engine,
            history,
            # A run that goes on after a restart may begin before the notebook has brought its tools.
            tools if before is not None else kept,
            run.sink,
            self._approvals,
            timeline=self.stream.timeline,
            pauses=self._pauses,
            middlewares=(SystemPrompt(chosen.system_prompt), *chosen.middlewares),
            model=chosen.model,
            limits=env.settings.limits,
            run_time=run_time,
            now_ms=env.now_ms,
            log=env.log,
        )
        self._approvals.begin(before.decisions if before is not None else {}, lambda: run.end)
        self._pauses.begin(run_time)
        if before is not None:
            loop.resume(before)
        return loop

    async def _announce(self, run: Run) -> None:
        run.announced = True
        await self.stream.emit(
            *self._announcement(run), *self._positions(), pending=(self._stored(run, started=True),)
        )

    # -- events --------------------------------------------------------------------------------------

    def _announcement(self, run: Run) -> list[RunEvent]:
        props: JSONObject = {"role": "user", "content": run.request.prompt, "idempotencyKey": run.key}
        if run.request.images:
            props["images"] = [
                {"name": image.name, "mime": image.mime, "data": image.data} for image in run.request.images
            ]
        return [
            self._placed(run, "started", 0),
            Upserted(id=f"{run.id}:user", kind="message", props=props),
        ]

    def _placed(self, run: Run, status: str, position: int) -> RunChanged:
        return RunChanged(
            id=run.id,
            status=status,
            prompt=run.request.prompt,
            queue_position=position,
            idempotency_key=run.key,
            profile=None if run.request.profile == DEFAULT else run.request.profile,
        )

    def _positions(self) -> list[RunEvent]:
        """The places of those that wait, after one left the queue. One that is being stored has none yet."""
        return [
            self._placed(run, "queued", place)
            for place, run in enumerate(self._queue, 1)
            if run.accepted.is_set()
        ]

    def _stored(self, run: Run, *, started: bool) -> PendingRun:
        request: dict[str, Any] = msgspec.to_builtins(run.request)
        return PendingRun(run.id, self.stream.version + 1, started, request)

    def _text_of(self, id: str) -> str:
        return self.stream.text_of(id)


def _retrieve(done: asyncio.Task[Finish]) -> None:
    """What a run that was cancelled says at its end, nobody asks any more."""
    if not done.cancelled():
        done.exception()
