"""One Stop: how far the run is brought, who stops it, and what must hold from the answer on."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.soak.stop_states import Scene
from tests.soak.well_formed import fault_of
from tests.support.jupyter import Jupyter
from tests.support.model_server import Gate, ModelServer, Reply, Request
from webchat_widget.timeline.entities import is_open
from webchat_widget.timeline.sqlite.inspection import entities
from webchat_widget.timeline.sqlite.snapshot import snapshot

__all__ = ["Broken", "Talk"]

Row = dict[str, Any]

_LIMIT_SECONDS = 5.0
"""A Stop is answered within this."""
_CLOSED_SECONDS = 1.0
"""Within this the model's server sees the hang-up, and a tool has ended that can be."""
_SLACK = 3
"""Each limit may be exceeded so many times, on machines that do other things besides."""
_PATIENCE = 30.0
_AFTER_SECONDS = 0.2
"""So long after the answer what is late would have come."""
_TERMINAL = ("run.finished", "run.stopped", "run.failed")


class Broken(Exception):
    """Something that must hold does not."""


class Page:
    """A reader of one conversation, and the frames that it was sent."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._came = asyncio.Event()
        self.frames: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read(), name="page")

    async def _read(self) -> None:
        while isinstance(message := await self._socket.read_message(), str):
            self.frames.append(json.loads(message))
            self._came.set()

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """The frames of one run, in their order."""
        return [
            frame["event"]
            for frame in self.frames
            if frame["event"].get("id", "") == run_id or frame["event"].get("id", "").startswith(f"{run_id}:")
        ]

    async def until(self, run_id: str, types: Sequence[str], count: int = 1) -> None:
        """Wait for so many frames of a run, or its end."""

        def there() -> bool:
            told = [event["type"] for event in self.of(run_id)]
            return sum(type in types for type in told) >= count or (bool(told) and told[-1] in _TERMINAL)

        try:
            async with asyncio.timeout(_PATIENCE):
                while not there():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            seen = [event["type"] for event in self.of(run_id)][-5:]
            raise Broken(f"no {' or '.join(types)} came; the last were {seen}") from None

    async def close(self) -> None:
        """Done when the server knows, also if it was closed before."""
        self._socket.close()
        await asyncio.shield(self._reading)


class Talk:
    """Conversations with one server: what a person does, and what the model says.

    A prompt begins with a word of its own, by which the model's server knows what to answer.
    """

    def __init__(self, server: Jupyter, model: ModelServer) -> None:
        self._server, self._model = server, model
        self._script: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._asked: defaultdict[str, list[Request]] = defaultdict(list)
        model.answer = self._answer
        self._joins: list[asyncio.Task[Page]] = []
        self.count, self.slowest = 0, 0.0

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"token {self._server.token}"}
        address = self._server.url("webchat/")
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=_PATIENCE)
        self._elsewhere = httpx.AsyncClient(base_url=address, headers=headers, timeout=_PATIENCE)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for join in self._joins:  # who was cancelled has left pages behind
            await (await join).close()
        await self._http.aclose()
        await self._elsewhere.aclose()

    async def conversation(self, conv: str, scenes: Sequence[Scene]) -> None:
        """Play the scenes one after the other. Raises Broken, whose text begins with the place."""
        ended: dict[str, list[Row]] = {}
        for number, scene in enumerate(scenes, 1):
            try:
                run_id = await self._scene(conv, f"{conv}.{number}", scene)
                ended[run_id] = await self._rows(conv, run_id)
            except (Broken, httpx.HTTPError, TimeoutError) as broken:
                raise Broken(f"{conv}, stop {number} ({scene}): {broken!s}") from broken
        for run_id, rows in ended.items():
            hold(await self._rows(conv, run_id) == rows, f"{conv}: rows of {run_id} changed later")

    # -- one scene -----------------------------------------------------------------------------------

    async def _scene(self, conv: str, word: str, scene: Scene) -> str:
        async with AsyncExitStack() as pages:
            page = first = await pages.enter_async_context(self._page(conv))
            run_id, gate, front = await self._begin(conv, word, scene, page)
            behind = await self._say(conv, f"{word}.behind") if scene.queue and not gate else None
            await asyncio.sleep(scene.pause)
            readers = [page]
            if scene.way == "from another page":
                readers.append(await pages.enter_async_context(self._page(conv)))
            elif scene.way == "with nobody there":
                await page.close()
            rows = await self._stop(conv, run_id, scene, unnamed=behind is None and gate is None)
            if scene.way == "with nobody there":
                readers = [await pages.enter_async_context(self._page(conv))]
            page = readers[-1]
            self._judge(rows, scene)
            await self._is_kept(conv, run_id, rows)
            await asyncio.sleep(_AFTER_SECONDS)
            asked = len(self._asked[word])
            await self._hung_up(word, scene)
            await self._tool_ended(word)
            hold(await self._rows(conv, run_id) == rows, "rows changed after the answer")
            if gate is not None and front is not None:
                gate.open()
                await self._finished(conv, front)
            if behind is not None:
                await self._finished(conv, behind)
                self._is_well_formed(f"{word}.behind")
            alone = behind is None and front is None
            after = await self._say(conv, f"{word}.after", 200 if alone else None)
            await page.until(after, _TERMINAL)
            await self._finished(conv, after)
            self._is_well_formed(f"{word}.after")
            await self._post_stop(self._http, conv, run_id)
            hold(await self._rows(conv, run_id) == rows, "rows changed with the next prompt, or Stop")
            hold(len(self._asked[word]) == asked, "the model was asked after the answer")
            for reader in readers:
                await reader.until(after, _TERMINAL)  # what was sent before has come before
                self._heard(reader, run_id, rows, whole=reader is first)
        return run_id

    async def _begin(
        self, conv: str, word: str, scene: Scene, page: Page
    ) -> tuple[str, Gate | None, str | None]:
        """Bring a run where it is to be stopped; its id, and the one that it waits for, with its gate."""
        state, gate, front = scene.state, None, None
        mark = str(self._marks / word)
        self._script[word].extend(state.answers(mark))
        if state.name == "in the queue":
            gate = Gate()
            self._script[f"{word}.front"].append(Reply("First.", hold=gate))
            front = await self._say(conv, f"{word}.front", 200)
        run_id = await self._say(conv, word, 202 if gate else 200)
        if state.sign == "asked":
            await eventually(lambda: bool(self._asked[word]), "the model was not asked")
        elif state.sign:
            await page.until(run_id, [state.sign], scene.signs)
        return run_id, gate, front

    async def _stop(self, conv: str, run_id: str, scene: Scene, *, unnamed: bool) -> list[Row]:
        """Stop it; the rows of the run at the answer."""
        named = run_id if scene.named or not unnamed else None
        http = self._elsewhere if scene.way == "from another page" else self._http
        times = 2 if scene.way == "twice at once" else 1
        await asyncio.gather(*(self._post_stop(http, conv, named) for _ in range(times)))
        return await self._rows(conv, run_id)

    async def _post_stop(self, http: httpx.AsyncClient, conv: str, run_id: str | None) -> None:
        start = time.monotonic()
        reply = await http.post(f"conversations/{conv}/stop", json={"run_id": run_id} if run_id else {})
        spent = time.monotonic() - start
        self.count, self.slowest = self.count + 1, max(self.slowest, spent)
        hold(reply.status_code == 200, f"Stop was answered {reply.status_code}: {reply.text}")
        hold(reply.json() == {"status": "stopped", "conv_id": conv}, f"Stop was answered {reply.text}")
        hold(spent < _LIMIT_SECONDS * _SLACK, f"Stop took {spent:.1f} s")

    # -- what must hold ------------------------------------------------------------------------------

    def _judge(self, rows: list[Row], scene: Scene) -> None:
        """The rows at the answer."""
        open = [f"{row['kind']} {row['id']}" for row in rows if is_open(row)]
        hold(not open, f"at the answer these were open: {', '.join(open)}")
        status = next(row["props"]["status"] for row in rows if row["kind"] == "run")
        hold(status in scene.state.ends, f"the run is {status}")

    async def _is_kept(self, conv: str, run_id: str, rows: list[Row]) -> None:
        """What was answered is on disk."""

        def stored() -> list[Row]:
            with snapshot(self._server.timeline_db) as db:
                return _of(run_id, entities(db, conv) or [])

        hold(await asyncio.to_thread(stored) == rows, "what the timeline said at the answer is not on disk")

    async def _hung_up(self, word: str, scene: Scene) -> None:
        if not scene.state.hangs:
            return

        def gone() -> bool:
            seen = [each.request for each in self._model.disconnected]
            return all(any(request is each for each in seen) for request in self._asked[word])

        await eventually(gone, "the connection to the model stays open", _CLOSED_SECONDS * _SLACK)

    async def _tool_ended(self, word: str) -> None:
        begun, ended = (self._marks / f"{word}.{mark}" for mark in ("begun", "ended"))
        await eventually(
            lambda: ended.exists() or not begun.exists(), "the tool goes on", _CLOSED_SECONDS * _SLACK
        )

    def _heard(self, page: Page, run_id: str, rows: list[Row], *, whole: bool) -> None:
        """What a reader was sent of the run: nothing behind its end, of which there is one. Who came later
        (not `whole`) need not have been sent that."""
        last = max(row["version"] for row in rows)
        events = page.of(run_id)
        late = [event["type"] for event in events if event["seq"] > last]
        hold(not late, f"after the end came {late}")
        ends = [event["type"] for event in events if event["type"] in _TERMINAL]
        hold(len(ends) == 1 or not (ends or whole), f"it ended {len(ends)} times: {ends}")
        numbers = [frame["n"] for frame in page.frames]
        hold(numbers == list(range(1, len(numbers) + 1)), "a reader was not sent every frame")

    def _is_well_formed(self, word: str) -> None:
        requests = self._asked[word]
        hold(len(requests) == 1, f"the model was asked {len(requests)} times for {word}")
        for request in requests:
            fault = fault_of(request.body)
            hold(fault is None, f"the next request {fault}: {json.dumps(request.body)[-600:]}")

    async def _finished(self, conv: str, run_id: str) -> None:
        """Wait for a run that is not stopped; it may have been stopped by mistake."""
        deadline = time.monotonic() + _PATIENCE
        while (status := (await self._rows(conv, run_id))[0]["props"]["status"]) in ("queued", "started"):
            hold(time.monotonic() < deadline, "another run of the conversation does not end")
            await asyncio.sleep(0.02)
        hold(status == "finished", f"another run of the conversation is {status}")

    # -- the server and the model --------------------------------------------------------------------

    @property
    def _marks(self) -> Path:
        return self._server.folder / "marks"

    def _answer(self, request: Request) -> Reply:
        """On the thread of the model's server."""
        word = request.prompt.split(" ", 1)[0]
        self._asked[word].append(request)
        script = self._script[word]
        return script.popleft() if script else Reply(f"You said: {word}")

    @asynccontextmanager
    async def _page(self, conv: str) -> AsyncIterator[Page]:
        address = self._server.url(f"webchat/ws?conv_id={conv}&deltas=append").replace("http", "ws", 1)
        headers = {"Authorization": f"token {self._server.token}"}

        async def join() -> Page:
            return Page(await websocket_connect(HTTPRequest(address, headers=headers)))

        self._joins.append(asyncio.create_task(join(), name="join"))
        page = await asyncio.shield(self._joins[-1])
        try:
            yield page
        finally:
            await page.close()

    async def _say(self, conv: str, word: str, status: int | None = None) -> str:
        """POST a prompt, which is taken, with this status where one is given; the id of its run."""
        body = {"prompt": f"{word} please", "conv_id": conv}
        reply = await self._http.post("chat", json=body)
        taken = reply.status_code in ((200, 202) if status is None else (status,))
        hold(taken, f"a prompt was answered {reply.status_code}: {reply.text}")
        return str(reply.json()["run_id"])

    async def _rows(self, conv: str, run_id: str) -> list[Row]:
        reply = await self._http.get("timeline", params={"conv_id": conv})
        return _of(run_id, reply.json())


def hold(condition: object, broken: str) -> None:
    """Raise Broken where it does not."""
    if not condition:
        raise Broken(broken)


async def eventually(condition: Callable[[], bool], broken: str, seconds: float = _PATIENCE) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise Broken(broken) from None


def _of(run_id: str, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [dict(row) for row in rows if row["id"] == run_id or row["id"].startswith(f"{run_id}:")]
