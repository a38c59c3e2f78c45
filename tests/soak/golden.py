"""Small schedules for both languages: `python -m tests.soak.golden` writes tests/contract/schedules.json."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from typing import Any

import msgspec

from tests.soak.plants import ROOT
from tests.soak.schedules import Step, play, steps_of
from tests.soak.virtual import VirtualLoop

__all__ = ["FILE", "golden"]

FILE = ROOT / "tests" / "contract" / "schedules.json"

_ABOUT = (
    "What happens to a conversation (`steps`, see tests/soak/schedules.py), all that came to each of its "
    "readers, in its order and with what they had asked for, and the rows that they and the host have in the "
    "end. Read by tests/timeline/test_schedules.py and js/src/timeline/schedules.test.ts; written by "
    "`python -m tests.soak.golden`."
)
_COUNT = 60
_MOST = 12
"""Things that come to the readers of a small schedule."""
_OFTEN = 4


def golden(steps: list[Step]) -> dict[str, Any]:
    """A schedule as it is stored. Its day is in 1970, so that its numbers are short."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        played = runner.run(play(steps, now_ms=1))
    case: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({"steps": steps, **played}))
    return case


def _chosen() -> list[dict[str, Any]]:
    """The first small ones in which there is something that few of those before them have."""
    known: Counter[str] = Counter()
    cases: list[dict[str, Any]] = []
    for number in itertools.count():
        case = golden(steps_of(f"golden {number}", least=4, most=9))
        came = [step for reader in case["readers"] for step in reader["steps"]]
        sorts = set(map(_sort, came))
        if len(came) <= _MOST and any(known[sort] < _OFTEN for sort in sorts):
            known.update(sorts)
            what = ", ".join(name for name, *_ in case["steps"])
            cases.append({"name": f"{number}: {what}", **case})
            if len(cases) == _COUNT:
                break
    return cases


def _sort(came: dict[str, Any]) -> str:
    """What is told from what else in a tape."""
    match came["do"]:
        case "frame":
            event = came["frame"]["event"]
            return f"{event['type']} {sorted(event['data'])} {'createdSeq' in event}"
        case "answer":
            return f"answer {sorted(came['query'])} {came['more']}"
        case "close":
            return f"close {came['reason']}"
        case other:
            return str(other)


def _text(cases: list[dict[str, Any]]) -> str:
    """A line for each thing that came, and for each row."""
    texts = ",\n".join(map(_case, cases))
    return f'{{\n  "about": {_line(_ABOUT)},\n  "cases": [\n{texts}\n  ]\n}}\n'


def _case(case: dict[str, Any]) -> str:
    readers = ", ".join(
        f'{{"pageSize": {reader["pageSize"]}, "steps": [{_lines(reader["steps"])}]}}'
        for reader in case["readers"]
    )
    return (
        f'    {{"name": {_line(case["name"])},\n     "steps": {_line(case["steps"])},\n'
        f'     "readers": [{readers}],\n     "rows": [{_lines(case["rows"])}]}}'
    )


def _lines(values: list[Any]) -> str:
    return ",".join(f"\n       {_line(value)}" for value in values)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    FILE.write_text(_text(_chosen()), "utf-8")
