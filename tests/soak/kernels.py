"""A kernel that is the host of a conversation is killed, and another one takes the conversation in."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_event_loop

from tests.notebook.kernel import Kernel, said
from tests.soak import verdicts
from tests.soak.aftermath import CLOSED_SECONDS, ENDED, LOST_SECONDS, SLACK, Death
from tests.soak.burst import Post
from tests.soak.talk import Prompt, Talker
from tests.soak.verdicts import Rows
from webchat_widget.timeline.sqlite.inspection import verify

__all__ = ["KernelCase"]

_SETUP = """
import json, os
os.environ["OPENAI_BASE_URL"] = {url!r}
from webchat_widget import ChatWidget
chat = ChatWidget(conv_id={conv_id!r}, where="kernel")
"""
_PATIENCE = 60


class _Gone(Exception):
    """The kernel has died."""


class KernelCase:
    """One conversation, two kernels. `closed_seconds` and `lost_seconds` are those of an `Aftermath`."""

    def __init__(self, folder: Path, talker: Talker, seed: int) -> None:
        self._folder, self._talker = folder, talker
        self._chance = random.Random(f"{seed} kernel")
        self._conv_id = f"{seed}-kernel"
        self.steps: list[str] = []
        self.closed_seconds = 0.0
        self.lost_seconds = 0.0

    def run(self) -> list[str]:
        """All of it, on a thread that does nothing else; what is wrong."""
        self._folder.mkdir(parents=True)
        try:
            return self._run()
        finally:
            ensure_event_loop().close()  # that of the kernel's manager

    def _run(self) -> list[str]:
        posts = [self._prompt(number) for number in range(self._chance.randint(2, 6))]
        death = self._until_death(posts)
        self._talker.hurry.set()
        kernel, comm_id, first_answer = self._start()
        try:
            wrong = self._look(_Page(kernel, comm_id, self._conv_id), posts, death, first_answer)
        finally:
            kernel.end()
        files = (self._folder / "JUPYTER_DATA_DIR").rglob("*.sqlite")
        return wrong + [str(breach) for file in files for breach in verify(file).breaches]

    def _prompt(self, number: int) -> Post:
        chance, name = self._chance, f"{self._conv_id}.{number}"
        prompt = Prompt(name, "talk", chance.randint(1, 60), chance.randint(0, 30))
        return Post(prompt, self._conv_id, f"key-{name}" if chance.random() < 0.7 else None)

    def _start(self) -> tuple[Kernel, str, float]:
        """A kernel that shows the conversation; its comm, and when it had answered for the first time."""
        kernel = Kernel(self._folder)
        kernel.run(_SETUP.format(url=self._talker.server.url, conv_id=self._conv_id))
        opened = (m["content"] for m in kernel.published if m["msg_type"] == "comm_open")
        comm_id = next(c["comm_id"] for c in opened if "_channel" in c["data"]["state"])
        kernel.reply(kernel.tell(comm_id, "health"), _PATIENCE)
        return kernel, str(comm_id), time.monotonic()

    def _until_death(self, posts: list[Post]) -> Death:
        kernel, comm_id, _ = self._start()
        page, pid = _Page(kernel, comm_id, self._conv_id), kernel.value("os.getpid()")
        killer = threading.Timer(self._chance.uniform(0, 1.5), os.kill, (pid, signal.SIGKILL))
        killer.start()
        try:
            for post in posts:
                page.post(post, self.steps)
                time.sleep(self._chance.choice((0, 0.02, 0.1)))
            page.watch()
        except _Gone:
            pass
        killer.join()
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
        return Death.now()

    def _look(self, page: _Page, posts: list[Post], death: Death, first_answer: float) -> list[str]:
        while cut := verdicts.left_open(page.rows(), death.seq):
            if time.monotonic() > first_answer + CLOSED_SECONDS * SLACK:
                return [f"{cut} are open {CLOSED_SECONDS * SLACK:g} s after the first answer"]
        self.closed_seconds = time.monotonic() - first_answer
        before = {row["props"].get("prompt"): row["id"] for row in page.rows() if row["kind"] == "run"}
        wrong = []
        for post in posts:
            if post.key is not None and post.sent and post.status is None:
                page.post(post, self.steps)
                if before.get(post.prompt.text, post.reply.get("run_id")) != post.reply.get("run_id"):
                    wrong.append(f"{post.prompt.name} ran before, and again: {post.reply}")
            elif post.key is not None and post.accepted:
                again = Post(post.prompt, post.conv_id, post.key)
                page.post(again, self.steps)
                if again.reply != post.reply:
                    wrong.append(f"{post.prompt.name} gave {post.reply}, and then {again.reply}")
        rows = page.ended()
        wrong += verdicts.prompts(rows, posts, self._conv_id)
        wrong += verdicts.order(rows, posts, self._conv_id)
        for id, run in rows.runs.items():
            died = id in rows.users and rows.users[id]["createdSeq"] < death.seq
            wrong += verdicts.ended(rows, run, died, [])
            if died and run["props"]["status"] == "failed":
                name = Prompt.read(run["props"]["prompt"]).name
                lost = self._talker.lost(name, len(rows.text(id).split()), death.at)
                self.lost_seconds = max(self.lost_seconds, lost)
                wrong += [f"{name} lost text that was {lost:.2f} s old"] if lost > LOST_SECONDS else []
        probe = Post(Prompt(f"{self._conv_id}.probe"), self._conv_id, None)
        page.post(probe, self.steps)
        page.ended()
        return [*wrong, *verdicts.memory(rows, self._talker.histories[probe.prompt.name][:-1])]


class _Page:
    """Who speaks with a kernel as a page does. Everything raises _Gone where the kernel dies of it."""

    def __init__(self, kernel: Kernel, comm_id: str, conv_id: str) -> None:
        self._kernel, self._comm_id, self._conv_id = kernel, comm_id, conv_id
        self._heard = 0

    def ask(self, op: str, **body: Any) -> dict[str, Any]:
        """What the kernel says to it."""
        rid = self._kernel.tell(self._comm_id, op, conv_id=self._conv_id, **body)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            self._listen()
            fresh, self._heard = self._kernel.published[self._heard :], len(self._kernel.published)
            for message in fresh:
                if said(message).get("rid") == rid:
                    return said(message)
        raise AssertionError(f"no answer to {op}")

    def post(self, post: Post, steps: list[str]) -> None:
        """Send a prompt."""
        steps.append(f"post {post.prompt.text!r}, key {post.key}")
        post.sent = time.monotonic()
        body = {"prompt": post.prompt.text, "idempotency_key": post.key}
        answer = self.ask("chat", **{name: value for name, value in body.items() if value is not None})
        post.answered, post.status, post.reply = time.monotonic(), answer["status"], answer["body"]
        steps.append(f"{post.prompt.name}: {post.status}")

    def rows(self) -> list[dict[str, Any]]:
        """The timeline."""
        rows: list[dict[str, Any]] = self.ask("timeline")["body"]
        return rows

    def ended(self) -> Rows:
        """The timeline when everything in it has ended."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            rows = Rows(self.rows())
            if all(run["props"]["status"] in ENDED for run in rows.runs.values()):
                return rows
        raise AssertionError("it does not end")

    def watch(self) -> None:
        """Until it dies."""
        while True:
            self._listen()

    def _listen(self) -> None:
        self._kernel.listen(0.02)
        if not self._kernel.manager.is_alive():
            raise _Gone
