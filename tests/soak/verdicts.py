"""What must hold of a conversation in which everything has ended, from its rows. Nothing is asked here.

Each function yields sentences about what does not hold.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.soak.burst import Answer, Post, Stop
from tests.soak.talk import Prompt

__all__ = ["Row", "Rows", "calls", "ended", "left_open", "memory", "order", "prompts"]

Row = dict[str, Any]

_NO_ANSWER = "(interrupted)"
"""What the model is sent where an answer was cut between its calls and its first word."""


@dataclass
class Rows:
    """The rows of a conversation: all, its runs, and the people's messages by their runs."""

    all: list[Row]

    def __post_init__(self) -> None:
        self.runs = {row["id"]: row for row in self.all if row["kind"] == "run"}
        self.users = {run_of(row): row for row in self.all if row["props"].get("role") == "user"}

    def of(self, run_id: str) -> list[Row]:
        """What is below a run."""
        return [row for row in self.all if row["id"].startswith(f"{run_id}:")]

    def text(self, run_id: str) -> str:
        """What the model answered."""
        said = (row["props"] for row in self.of(run_id))
        return "".join(props["content"] for props in said if props.get("role") == "assistant")


def run_of(row: Row) -> str:
    """The run that a row belongs to."""
    return str(row["id"]).partition(":")[0]


def left_open(rows: Sequence[Row], dead: int) -> list[str]:
    """The ids of what was open when the server died, at the seq *dead*, and is; but for runs that go on,
    since a person was asked."""
    going_on = {run_of(row) for row in rows if "approval" in row["props"]}
    return [
        row["id"]
        for row in rows
        if (row["props"].get("streaming") and row["createdSeq"] < dead)
        or (row["props"].get("status") == "started" and row["version"] < dead and row["id"] not in going_on)
    ]


def prompts(rows: Rows, posts: Sequence[Post], conv_id: str) -> Iterator[str]:
    """What was accepted is there once; of the rest everything at most once."""
    said = Counter(user["props"]["content"] for user in rows.users.values())
    asked = Counter(run["props"].get("prompt") for run in rows.runs.values())
    for post in posts:
        name, text = post.prompt.name, post.prompt.text
        if asked[text] > 1 or said[text] > 1:
            yield f"{name} has {asked[text]} runs and {said[text]} messages"
        if not post.accepted or post.reply["conv_id"] != conv_id:
            continue
        run = rows.runs.get(post.reply["run_id"])
        if run is None or run["props"].get("prompt") != text:
            yield f"{name} was accepted, and its run is {run}"
        elif run["id"] not in rows.users and run["props"]["status"] != "stopped":
            yield f"{name} was accepted, and has no message"


def order(rows: Rows, posts: Sequence[Post], conv_id: str) -> Iterator[str]:
    """Runs begin in the order in which their prompts were accepted, each after the end of the last."""
    runs, users = rows.runs, rows.users
    here = [post for post in posts if post.accepted and post.reply["conv_id"] == conv_id]
    for one, other in itertools.permutations(here, 2):
        if one.answered and one.answered < other.sent:
            first, second = (runs.get(post.reply["run_id"]) for post in (one, other))
            if first and second and first["createdSeq"] > second["createdSeq"]:
                yield f"{one.prompt.name} is behind {other.prompt.name}"
    accepted = [id for id in sorted(runs, key=lambda id: runs[id]["createdSeq"]) if id in users]
    begun = sorted(users, key=lambda id: users[id]["createdSeq"])
    if accepted != begun:
        yield f"the runs of {conv_id} were accepted as {accepted}, and began as {begun}"
    for before, after in itertools.pairwise(begun):
        if before in runs and runs[before]["version"] > users[after]["createdSeq"]:
            yield f"{after} began before {before} had ended"


def ended(rows: Rows, run: Row, died: bool, stops: Sequence[Stop]) -> Iterator[str]:
    """A run has ended with all that is in it, as it may: *died* says that the server did while it ran, and
    *stops* are those of this run."""
    if "prompt" not in run["props"]:
        yield f"{run} has no prompt"
        return
    id, status, prompt = run["id"], run["props"]["status"], Prompt.read(run["props"]["prompt"])
    taken = any(stop.answered for stop in stops)
    may = {"finished"} | ({"stopped"} if stops else set()) | ({"failed"} if died and not taken else set())
    if status not in may or run["props"].get("stopReason") == "error":
        yield f"{prompt.name} ended as {run['props']}, and may be {may}"
    for row in rows.of(id):
        if row["props"].get("streaming") or row["props"].get("done") is False:
            yield f"{row} has not ended, and its run has"
    text, whole = rows.text(id), "".join(prompt.answer)
    if not whole.startswith(text) or (status == "finished" and text != whole):
        yield f"{prompt.name} {status}, with the text {text!r} of {whole!r}"
    now = [row for row in rows.all if run_of(row) == id]
    for stop in stops:
        if taken and stop.before is not None and stop.before != now:
            yield f"after a Stop that was answered {stop.before} became {now}"


def calls(rows: Rows, answers: Mapping[str, Answer], effects: Mapping[str, int]) -> Iterator[str]:
    """A tool was called once where it says so, never without leave, and never twice. *effects*: how often
    each line was written."""
    for call in rows.all:
        if call["kind"] != "tool_call":
            continue
        status, given = call["props"]["status"], answers.get(call["id"])
        line = call["props"]["input"]["line"] + ("?" if call["props"]["name"] == "note_if_allowed" else "")
        may = {"completed": (1,), "denied": (0,)}.get(status, (0, 1))
        if effects.get(line, 0) not in may:
            yield f"the call {call['id']} is {status}, and was made {effects.get(line, 0)} times"
        wanted = {"deny": ("denied",), "once": ("completed", "cancelled")}
        if given is not None and given.answered and status not in wanted[given.decision]:
            yield f"{given.decision} to {call['id']} was taken, and it is {call['props']}"
        if given is None and line.endswith("?") and effects.get(line, 0):
            yield f"{call['id']} was made, and nobody allowed it"


def memory(rows: Rows, sent: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The model is *sent* every earlier turn once, in order, each with what came of it."""
    roles = [message["role"] for message in sent]
    if any(role == after != "tool" for role, after in itertools.pairwise(roles)):
        yield f"the model is sent {roles}"
    remembered: defaultdict[str, str] = defaultdict(str)
    prompt = ""
    for message in sent:
        if message["role"] == "user":
            prompt = message["content"]
            remembered[prompt] += ""
        elif message["role"] == "assistant" and message["content"] != _NO_ANSWER:
            remembered[prompt] += message["content"] or ""
    if len(remembered) != roles.count("user"):
        yield f"the model is sent a prompt twice: {list(remembered)}"
    called = {run_of(row) for row in rows.all if row["kind"] == "tool_call"}
    wanted = {}
    for id, user in rows.users.items():
        text = user["props"]["content"]
        # A run that was cut right when it was to call its tools has no row of a call, but is remembered.
        late = text in remembered and bool(Prompt.read(text).calls)
        if rows.text(id) or id in called or late:
            wanted[text] = rows.text(id)
    if list(wanted) != list(remembered):
        yield f"the model is sent {list(remembered)}, and not {list(wanted)}"
    for text, answer in remembered.items():
        if answer != wanted.get(text, answer):
            yield f"to {text} came {wanted[text]!r}, and the model is sent {answer!r}"
