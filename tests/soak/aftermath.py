"""A server that was killed is there again: what it must have kept, and how it brings all to an end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import httpx

from tests.soak import verdicts
from tests.soak.burst import Answer, Burst, Post, replay_faults
from tests.soak.points import EFFECTS
from tests.soak.talk import Prompt, Talker
from tests.soak.verdicts import Row, Rows

__all__ = ["CLOSED_SECONDS", "ENDED", "LOST_SECONDS", "SLACK", "Aftermath", "Death"]

CLOSED_SECONDS, SLACK = 2.0, 3
"""Within so long of the first answer nothing that was cut may be open; and so many times that, on a machine
that has other things to do."""
LOST_SECONDS = 1.0
"""Text that is older than this when the server dies is on disk: four times what the contract says."""
ENDED = ("finished", "stopped", "failed")
_PATIENCE = 30


@dataclass(frozen=True)
class Death:
    """When the server died: monotonic seconds, and a `seq` that no row of that life is above."""

    at: float
    seq: int

    @classmethod
    def now(cls, at: float | None = None) -> Death:
        """It is dead by now; since *at* where that is known."""
        return cls(time.monotonic() if at is None else at, time.time_ns() // 1000 + 1000)


class Aftermath:
    """The server after *burst* and *deaths*. `wrong` says what does not hold; `closed_seconds` is how long it
    took until nothing cut was open, `lost_seconds` how old the oldest text was that is lost."""

    def __init__(self, burst: Burst, talker: Talker, deaths: list[Death], client: httpx.AsyncClient) -> None:
        self._burst, self._talker, self._deaths, self._client = burst, talker, deaths, client
        self._convs = list(burst.convs)
        self._answers = dict(burst.answers)
        self.wrong = list(burst.wrong)
        self.closed_seconds = 0.0
        self.lost_seconds = 0.0

    async def look(self, first_answer: float) -> list[str]:
        """Look at everything, and bring what is unfinished to its end; what is wrong."""
        for post in self._burst.posts:
            self._note(post)
        await self._nothing_is_open(first_answer)
        rows = {conv_id: await self._rows(conv_id) for conv_id in self._convs}
        for conv_id in self._burst.convs:
            self._check_frames(conv_id, rows[conv_id])
        if not self.wrong:
            await self._post_unanswered(rows)
        if not self.wrong:
            await self._all_ends()
        if self.wrong:  # what follows is of runs that have ended
            return self.wrong
        for conv_id in self._convs:
            self._check_ends(conv_id, Rows(await self._rows(conv_id)))
        await self._post_again()
        for conv_id in self._burst.convs:
            await self._check_memory(conv_id)
        for asked, count in self._talker.asked.items():
            if count > 1:
                self.wrong.append(f"the model was asked {asked} {count} times")
        return self.wrong

    def _note(self, post: Post) -> None:
        if post.accepted and post.reply["conv_id"] not in self._convs:
            self._convs.append(post.reply["conv_id"])

    async def _rows(self, conv_id: str) -> list[Row]:
        answer = await self._client.get("timeline", params={"conv_id": conv_id})
        rows: list[Row] = answer.raise_for_status().json()
        return rows

    # -- at once -------------------------------------------------------------------------------------

    async def _nothing_is_open(self, first_answer: float) -> None:
        for conv_id in self._convs:
            while cut := verdicts.left_open(await self._rows(conv_id), self._deaths[-1].seq):
                if time.monotonic() > first_answer + CLOSED_SECONDS * SLACK:
                    self.wrong.append(f"{cut} are open {CLOSED_SECONDS * SLACK:g} s after the first answer")
                    return
                await asyncio.sleep(0.02)
        self.closed_seconds = time.monotonic() - first_answer

    def _check_frames(self, conv_id: str, rows: list[Row]) -> None:
        """What a reader was told is on disk, but for text that was streaming; and who asked asks."""
        found = {row["id"]: row for row in rows}
        for frame in self._burst.frames(conv_id):
            version = found[frame["id"]]["version"] if frame["id"] in found else 0
            if not frame["type"].endswith(".delta") and version < frame["seq"]:
                self.wrong.append(f"a reader was told {frame}, which is not there")
        stopped = {stop.run_id for stop in self._burst.stops}
        for call_id in self._burst.asked(conv_id).keys() - self._answers:
            call = found.get(call_id)
            if call_id.partition(":")[0] not in stopped and (
                call is None or call["props"]["status"] != "asking"
            ):
                self.wrong.append(f"{call_id} asked before, and does not ask any more: {call}")

    async def _post_unanswered(self, rows: dict[str, list[Row]]) -> None:
        """A prompt with a key whose answer never came is posted again: it has the run that is there."""
        for post in self._burst.posts:
            if post.status is not None or post.key is None:
                continue
            before = await self._run_of(post, rows)
            said = await self._client.post("chat", json=post.body)
            post.status, post.reply = said.status_code, said.json()
            self._note(post)
            if not post.accepted:
                self.wrong.append(f"{post.prompt.name} is refused when it is posted again: {said.text}")
            elif before is not None and post.reply["run_id"] != before:
                self.wrong.append(f"{post.prompt.name} ran as {before}, and again: {post.reply}")

    async def _run_of(self, post: Post, rows: dict[str, list[Row]]) -> str | None:
        """The run of a prompt, from the timeline."""
        if post.conv_id is not None:
            found = rows[post.conv_id]
        else:
            listed = await self._client.get("conversations", params={"q": post.prompt.text})
            ids = [each["conv_id"] for each in listed.json()]
            if len(ids) > 1:
                self.wrong.append(f"{post.prompt.name} began several conversations: {ids}")
            found = await self._rows(ids[0]) if ids else []
        return next((row["id"] for row in found if row["props"].get("prompt") == post.prompt.text), None)

    # -- to the end ----------------------------------------------------------------------------------

    async def _all_ends(self) -> None:
        """Everything that was accepted runs to its end; who asks is answered."""
        deadline = time.monotonic() + _PATIENCE
        for conv_id in self._convs:
            while (left := await self._unfinished(conv_id)) and not self.wrong:
                if time.monotonic() > deadline:
                    self.wrong.append(f"{left[0]} never ends")
                await asyncio.sleep(0.02)

    async def _unfinished(self, conv_id: str) -> list[Row]:
        rows = await self._rows(conv_id)
        for row in rows:
            if row["kind"] == "tool_call" and row["props"]["status"] == "asking":
                await self._answer(conv_id, row)
        return [row for row in rows if row["kind"] == "run" and row["props"]["status"] not in ENDED]

    async def _answer(self, conv_id: str, call: Row) -> None:
        given = self._answers.get(call["id"])
        if given is not None and given.answered:
            return  # it holds, or the run never ends
        answer = given or Answer(self._burst.random.choice(("once", "deny")))
        body = {"decision": answer.decision, "digest": call["props"]["approval"]["digest"]}
        said = await self._client.post(f"conversations/{conv_id}/approvals/{call['id']}", json=body)
        if said.status_code != 200:
            self.wrong.append(f"{answer.decision} to {call['id']}, which asks, is refused: {said.text}")
        self._answers[call["id"]] = Answer(answer.decision, answered=True)

    # -- how it ended --------------------------------------------------------------------------------

    def _check_ends(self, conv_id: str, rows: Rows) -> None:
        self.wrong += verdicts.prompts(rows, self._burst.posts, conv_id)
        self.wrong += verdicts.order(rows, self._burst.posts, conv_id)
        effects = self._burst.child.work / EFFECTS
        written = Counter(effects.read_text().split() if effects.exists() else [])
        self.wrong += verdicts.calls(rows, self._answers, written)
        for id, run in rows.runs.items():
            user = rows.users.get(id)
            death = next((each for each in self._deaths if user and user["createdSeq"] < each.seq), None)
            stops = [stop for stop in self._burst.stops if stop.run_id == id]
            self.wrong += verdicts.ended(rows, run, death is not None, stops)
            if death is not None and run["props"]["status"] == "failed" and "prompt" in run["props"]:
                name, words = Prompt.read(run["props"]["prompt"]).name, len(rows.text(id).split())
                lost = self._talker.lost(name, words, death.at)
                self.lost_seconds = max(self.lost_seconds, lost)
                if lost > LOST_SECONDS:
                    self.wrong.append(f"{name} lost text that was {lost:.2f} s old, after {words} words")

    async def _check_memory(self, conv_id: str) -> None:
        before = Rows(await self._rows(conv_id))
        probe = Prompt(f"{conv_id}.probe")
        said = await self._client.post("chat", json={"prompt": probe.text, "conv_id": conv_id})
        await self._all_ends()
        if said.status_code != 200 or probe.name not in self._talker.histories:
            self.wrong.append(f"{conv_id} takes no prompt any more: {said.text}")
        else:
            sent = self._talker.histories[probe.name][:-1]
            self.wrong += [f"{conv_id}: {each}" for each in verdicts.memory(before, sent)]

    async def _post_again(self) -> None:
        """Every key still gives its run, and takes no other prompt."""
        for post in self._burst.posts:
            if post.key is not None and post.accepted:
                self.wrong += replay_faults(post, await self._client.post("chat", json=post.body))
                said = await self._client.post("chat", json=post.other_body)
                self.wrong += replay_faults(post, said, other=True)
