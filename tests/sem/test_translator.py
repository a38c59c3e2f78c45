"""What a run tells becomes a frame, and the frame the row that a person sees."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from webchat_widget import events as ev
from webchat_widget.sem import translator
from webchat_widget.sem.translator import translate
from webchat_widget.timeline.projector import Applied, Projector
from webchat_widget.typing import Usage

_USAGE = Usage(inputTokens=7, outputTokens=2, cachedTokens=0)

# event, frame (without its seq), row that it leaves on a timeline of one message m, one call c, one run r
_CASES: dict[str, tuple[ev.RunEvent, dict[str, Any], tuple[str, str, dict[str, Any]]]] = {
    "a queued run": (
        ev.RunChanged(id="q", status="queued", prompt="hi", queue_position=2),
        {
            "type": "run.queued",
            "id": "q",
            "data": {"runId": "q", "status": "queued", "prompt": "hi", "queuePosition": 2},
        },
        ("q", "run", {"status": "queued", "prompt": "hi", "queuePosition": 2}),
    ),
    "a run at the head of the queue: 0 is a place too": (
        ev.RunChanged(id="q", status="started", prompt="hi", queue_position=0),
        {
            "type": "run.started",
            "id": "q",
            "data": {"runId": "q", "status": "started", "prompt": "hi", "queuePosition": 0},
        },
        ("q", "run", {"status": "started", "prompt": "hi", "queuePosition": 0}),
    ),
    "a run of another profile than the default one": (
        ev.RunChanged(id="q", status="started", profile="sql"),
        {"type": "run.started", "id": "q", "data": {"runId": "q", "status": "started", "profile": "sql"}},
        ("q", "run", {"status": "started", "profile": "sql"}),
    ),
    "a run that failed": (
        ev.RunChanged(id="r", status="failed", usage=_USAGE, stop_reason="error", error="It broke."),
        {
            "type": "run.failed",
            "id": "r",
            "data": {
                "runId": "r",
                "status": "failed",
                "usage": _USAGE,
                "stopReason": "error",
                "error": "It broke.",
            },
        },
        (
            "r",
            "run",
            {
                "status": "failed",
                "prompt": "hi",
                "usage": _USAGE,
                "stopReason": "error",
                "error": "It broke.",
            },
        ),
    ),
    "an agent changes its mode": (
        ev.AgentModeChanged(id="n", title="Critic", data={"to": "critic"}),
        {"type": "agent.mode", "id": "n", "data": {"title": "Critic", "data": {"to": "critic"}}},
        ("n", "agent_mode", {"title": "Critic", "data": {"to": "critic"}}),
    ),
    "a phase of thinking begins": (
        ev.ThinkingModeStarted(id="n", mode="careful", phase="check"),
        {"type": "thinking.mode.started", "id": "n", "data": {"mode": "careful", "phase": "check"}},
        ("n", "thinking_mode", {"mode": "careful", "phase": "check", "reasoning": "", "status": "active"}),
    ),
    "a phase of thinking ends": (
        ev.ThinkingModeEnded(id="t", success=False, error="Cut."),
        {"type": "thinking.mode.completed", "id": "t", "data": {"success": False, "error": "Cut."}},
        ("t", "thinking_mode", {"reasoning": "", "status": "error", "success": False, "error": "Cut."}),
    ),
    "a plan begins": (
        ev.PlanningStarted(id="n", run_id="r", provider="openai", planner_model=None, max_iterations=3),
        {
            "type": "planning.start",
            "id": "n",
            "data": {"run": {"runId": "r", "provider": "openai", "maxIterations": 3}},
        },
        (
            "n",
            "planning",
            {"runId": "r", "provider": "openai", "maxIterations": 3, "iterations": [], "status": "planning"},
        ),
    ),
    "a step of a plan": (
        ev.PlanStepped(id="p", index=1, action="look", tool_name="find"),
        {
            "type": "planning.iteration",
            "id": "p",
            "data": {"iterationIndex": 1, "action": "look", "toolName": "find"},
        },
        (
            "p",
            "planning",
            {
                "iterations": [{"iterationIndex": 1, "action": "look", "toolName": "find"}],
                "status": "planning",
            },
        ),
    ),
    "a look back": (
        ev.PlanReflected(id="p", index=1, text="good", progress_score=0.5),
        {
            "type": "planning.reflection",
            "id": "p",
            "data": {"iterationIndex": 1, "reflectionText": "good", "progressScore": 0.5},
        },
        (
            "p",
            "planning",
            {
                "iterations": [{"iterationIndex": 1, "reflectionText": "good", "progressScore": 0.5}],
                "status": "planning",
            },
        ),
    ),
    "a plan is made": (
        ev.PlanningEnded(id="p", total_iterations=1, final_decision="execute", final_directive="Go."),
        {
            "type": "planning.complete",
            "id": "p",
            "data": {
                "totalIterations": 1,
                "finalDecision": "execute",
                "statusReason": "",
                "finalDirective": "Go.",
            },
        },
        (
            "p",
            "planning",
            {
                "iterations": [],
                "status": "planning",
                "completed": {
                    "totalIterations": 1,
                    "finalDecision": "execute",
                    "statusReason": "",
                    "finalDirective": "Go.",
                },
            },
        ),
    ),
    "a plan is carried out": (
        ev.ExecutionStarted(id="p", executor_model=None, directive="Go."),
        {"type": "execution.start", "id": "p", "data": {"directive": "Go."}},
        ("p", "planning", {"iterations": [], "status": "executing", "execution": {"directive": "Go."}}),
    ),
    "a plan was carried out": (
        ev.ExecutionEnded(id="p", status="completed", tokens_used=7, response_length=9),
        {
            "type": "execution.complete",
            "id": "p",
            "data": {"status": "completed", "tokensUsed": 7, "responseLength": 9},
        },
        (
            "p",
            "planning",
            {
                "iterations": [],
                "status": "completed",
                "execution": {"status": "completed", "tokensUsed": 7, "responseLength": 9},
            },
        ),
    ),
    "a run waits for a look": (
        ev.Paused(id="n", phase="after_tools", summary="2 results", deadline_ms=9, status="paused"),
        {
            "type": "debugger.pause",
            "id": "n",
            "data": {
                "pauseId": "n",
                "phase": "after_tools",
                "summary": "2 results",
                "deadlineMs": 9,
                "status": "paused",
            },
        },
        (
            "n",
            "debugger_pause",
            {
                "pauseId": "n",
                "phase": "after_tools",
                "summary": "2 results",
                "deadlineMs": 9,
                "status": "paused",
            },
        ),
    ),
    "an answer begins": (
        ev.TextStarted(id="n", role="assistant", model="gpt"),
        {"type": "llm.start", "id": "n", "data": {"role": "assistant"}, "metadata": {"model": "gpt"}},
        (
            "n",
            "message",
            {"role": "assistant", "content": "", "streaming": True, "status": "streaming", "model": "gpt"},
        ),
    ),
    "thinking begins, of an unknown model": (
        ev.TextStarted(id="n", role="thinking"),
        {"type": "llm.thinking.start", "id": "n", "data": {"role": "thinking"}},
        ("n", "message", {"role": "thinking", "content": "", "streaming": True, "status": "streaming"}),
    ),
    "an answer ends": (
        ev.TextEnded(
            id="m",
            role="assistant",
            status="complete",
            text="Hi",
            model="gpt",
            usage=_USAGE,
            stop_reason="stop",
            duration_ms=0,
        ),
        {
            "type": "llm.final",
            "id": "m",
            "data": {"text": "Hi", "status": "complete"},
            "metadata": {"model": "gpt", "usage": _USAGE, "stopReason": "stop", "durationMs": 0},
        },
        (
            "m",
            "message",
            {
                "role": "assistant",
                "content": "Hi",
                "streaming": False,
                "status": "complete",
                "model": "gpt",
                "usage": _USAGE,
            },
        ),
    ),
    "an end that leaves the text as it is": (
        ev.TextEnded(id="m", role="assistant", status="interrupted"),
        {"type": "llm.final", "id": "m", "data": {"status": "interrupted"}},
        (
            "m",
            "message",
            {"role": "assistant", "content": "so far", "streaming": False, "status": "interrupted"},
        ),
    ),
    "thinking ends": (
        ev.TextEnded(id="m", role="thinking", status="complete", text="hm"),
        {"type": "llm.thinking.final", "id": "m", "data": {"text": "hm", "status": "complete"}},
        ("m", "message", {"role": "assistant", "content": "hm", "streaming": False, "status": "complete"}),
    ),
    "a call begins": (
        ev.CallStarted(id="d", name="calculate", input={"expression": "1+1"}),
        {"type": "tool.start", "id": "d", "data": {"name": "calculate", "input": {"expression": "1+1"}}},
        (
            "d",
            "tool_call",
            {"name": "calculate", "input": {"expression": "1+1"}, "status": "running", "done": False},
        ),
    ),
    "a call with arguments that did not parse": (
        ev.CallStarted(id="d", name="calculate", input="{oops"),
        {"type": "tool.start", "id": "d", "data": {"name": "calculate", "input": "{oops"}},
        ("d", "tool_call", {"name": "calculate", "input": "{oops", "status": "running", "done": False}),
    ),
    "a call goes on": (
        ev.CallDelta(id="c", patch={"progress": 0.5}),
        {"type": "tool.delta", "id": "c", "data": {"patch": {"progress": 0.5}}},
        ("c", "tool_call", {"name": "t", "input": {}, "status": "running", "done": False, "progress": 0.5}),
    ),
    "a result": (
        ev.CallResult(call_id="c", result=""),
        {"type": "tool.result", "id": "c:result", "data": {"toolCallId": "c", "result": ""}},
        ("c:result", "tool_result", {"toolCallId": "c", "result": ""}),
    ),
    "a result that is an error": (
        ev.CallResult(call_id="c", result="no", error="no"),
        {"type": "tool.result", "id": "c:result", "data": {"toolCallId": "c", "result": "no", "error": "no"}},
        ("c:result", "tool_result", {"toolCallId": "c", "result": "no", "error": "no"}),
    ),
    "a result with forms for a card": (
        ev.CallResult(call_id="c", result="t", mime={"text/html": "<b>t</b>"}),
        {
            "type": "tool.result",
            "id": "c:result",
            "data": {"toolCallId": "c", "result": "t", "mime": {"text/html": "<b>t</b>"}},
        },
        (
            "c:result",
            "tool_result",
            {"toolCallId": "c", "result": "t", "mime": {"text/html": "<b>t</b>"}},
        ),
    ),
    "a call asks": (
        ev.CallDelta(id="c", patch={"status": "asking", "approval": {"state": "pending"}}),
        {
            "type": "tool.delta",
            "id": "c",
            "data": {"patch": {"status": "asking", "approval": {"state": "pending"}}},
        },
        (
            "c",
            "tool_call",
            {
                "name": "t",
                "input": {},
                "status": "asking",
                "done": False,
                "approval": {"state": "pending"},
            },
        ),
    ),
    "a call ends": (
        ev.CallDone(id="c", status="timed_out", duration_ms=0),
        {"type": "tool.done", "id": "c", "data": {"status": "timed_out", "durationMs": 0}},
        ("c", "tool_call", {"name": "t", "input": {}, "status": "timed_out", "done": True}),
    ),
    "a log line": (
        ev.LogWritten(id="l", level="warning", message="Look.", fields={"n": 1}),
        {"type": "log", "id": "l", "data": {"level": "warning", "message": "Look.", "fields": {"n": 1}}},
        ("l", "log", {"level": "warning", "message": "Look.", "fields": {"n": 1}}),
    ),
    "an error": (
        ev.ErrorRaised(id="r:error", message="It broke.", code="broken", retryable=False),
        {
            "type": "error",
            "id": "r:error",
            "data": {"error": "It broke.", "code": "broken", "retryable": False},
        },
        ("r:error", "error", {"message": "It broke.", "code": "broken", "retryable": False}),
    ),
    "a whole entity": (
        ev.Upserted(id="r:user", kind="message", props={"role": "user", "content": "hi"}),
        {
            "type": "timeline.upsert",
            "id": "r:user",
            "data": {
                "entity": {"id": "r:user", "kind": "message", "props": {"role": "user", "content": "hi"}}
            },
        },
        ("r:user", "message", {"role": "user", "content": "hi"}),
    ),
}

_each = pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())


def a_timeline() -> Projector:
    timeline = Projector()
    before: list[ev.RunEvent] = [
        ev.RunChanged(id="r", status="started", prompt="hi"),
        ev.TextStarted(id="m", role="assistant"),
        ev.CallStarted(id="c", name="t", input={}),
        ev.Upserted(id="t", kind="thinking_mode", props={"reasoning": "", "status": "active"}),
        ev.Upserted(id="p", kind="planning", props={"iterations": [], "status": "planning"}),
    ]
    for seq, event in enumerate(before, 1000):
        timeline.apply(translate(event, seq))
    timeline.append("m", 1500, "so far")
    return timeline


@_each
def test_an_event_is_one_frame(case: tuple[ev.RunEvent, dict[str, Any], Any]) -> None:
    event, frame, _ = case
    assert translate(event, 2000) == {**frame, "seq": 2000}


@_each
def test_its_frame_changes_one_row_and_no_other(case: tuple[ev.RunEvent, Any, Any]) -> None:
    event, _, (id, kind, props) = case
    timeline = a_timeline()
    before = {row["id"]: {**row, "props": dict(row["props"])} for row in timeline.rows()}
    assert timeline.apply(translate(event, 2000)) is Applied.CHANGED
    after = {row["id"]: row for row in timeline.rows()}
    changed = after.pop(id)
    made_at = before.pop(id)["createdSeq"] if id in before else 2000
    assert changed == {"id": id, "kind": kind, "createdSeq": made_at, "version": 2000, "props": props}
    assert after == before


def test_every_event_but_a_delta_has_a_frame_and_an_example_here() -> None:
    """The coordinator makes deltas itself, for they may be merged."""
    events = set(get_args(ev.RunEvent)) - {ev.TextDelta, ev.CallOutput, ev.ThinkingModeDelta}
    assert set(translator._TRANSLATORS) == events
    assert {type(event) for event, _, _ in _CASES.values()} == events
