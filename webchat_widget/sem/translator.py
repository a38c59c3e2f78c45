"""Run events into SEM frames: a function per event, and nothing else (docs/contract.md, 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webchat_widget import events as ev
from webchat_widget.typing import JSONObject, SemEvent

__all__ = ["translate"]

Translation = tuple[str, str, JSONObject, JSONObject]
"""type, id, data, metadata (empty: none)."""


def translate(event: ev.RunEvent, seq: int) -> SemEvent:
    """The SEM event for `event` at position `seq`."""
    type_, id_, data, metadata = _TRANSLATORS[type(event)](event)
    frame: SemEvent = {"type": type_, "id": id_, "seq": seq, "data": data}
    if metadata:
        frame["metadata"] = metadata
    return frame


def _named(**values: Any) -> JSONObject:
    """Only what is known: a frame names no field that it does not set."""
    return {key: value for key, value in values.items() if value is not None}


def _llm(role: str, phase: str) -> str:
    return f"llm.thinking.{phase}" if role == "thinking" else f"llm.{phase}"


def _run(e: ev.RunChanged) -> Translation:
    data = _named(
        runId=e.id,
        status=e.status,
        prompt=e.prompt,
        queuePosition=e.queue_position,
        idempotencyKey=e.idempotency_key,
        profile=e.profile,
        model=e.model,
        usage=e.usage,
        stopReason=e.stop_reason,
        error=e.error,
    )
    return f"run.{e.status}", e.id, data, {}


def _text_started(e: ev.TextStarted) -> Translation:
    return _llm(e.role, "start"), e.id, {"role": e.role}, _named(model=e.model)


def _text_ended(e: ev.TextEnded) -> Translation:
    metadata = _named(model=e.model, usage=e.usage, stopReason=e.stop_reason, durationMs=e.duration_ms)
    return _llm(e.role, "final"), e.id, _named(text=e.text, status=e.status), metadata


def _call_started(e: ev.CallStarted) -> Translation:
    return "tool.start", e.id, {"name": e.name, "input": e.input}, {}


def _call_delta(e: ev.CallDelta) -> Translation:
    return "tool.delta", e.id, {"patch": e.patch}, {}


def _call_result(e: ev.CallResult) -> Translation:
    data = _named(toolCallId=e.call_id, result=e.result, mime=e.mime, error=e.error)
    return "tool.result", f"{e.call_id}:result", data, {}


def _call_done(e: ev.CallDone) -> Translation:
    return "tool.done", e.id, {"status": e.status, "durationMs": e.duration_ms}, {}


def _log(e: ev.LogWritten) -> Translation:
    return "log", e.id, {"level": e.level, "message": e.message, "fields": e.fields}, {}


def _error(e: ev.ErrorRaised) -> Translation:
    return "error", e.id, {"error": e.message, "code": e.code, "retryable": e.retryable}, {}


def _agent_mode(e: ev.AgentModeChanged) -> Translation:
    return "agent.mode", e.id, {"title": e.title, "data": e.data}, {}


def _thinking_mode_started(e: ev.ThinkingModeStarted) -> Translation:
    return "thinking.mode.started", e.id, {"mode": e.mode, "phase": e.phase}, {}


def _thinking_mode_ended(e: ev.ThinkingModeEnded) -> Translation:
    return "thinking.mode.completed", e.id, _named(success=e.success, error=e.error), {}


def _planning_started(e: ev.PlanningStarted) -> Translation:
    run = _named(
        runId=e.run_id, provider=e.provider, plannerModel=e.planner_model, maxIterations=e.max_iterations
    )
    return "planning.start", e.id, {"run": run}, {}


def _plan_stepped(e: ev.PlanStepped) -> Translation:
    data = _named(
        iterationIndex=e.index,
        action=e.action,
        reasoning=e.reasoning,
        strategy=e.strategy,
        progress=e.progress,
        toolName=e.tool_name,
    )
    return "planning.iteration", e.id, data, {}


def _plan_reflected(e: ev.PlanReflected) -> Translation:
    data = _named(iterationIndex=e.index, reflectionText=e.text, progressScore=e.progress_score)
    return "planning.reflection", e.id, data, {}


def _planning_ended(e: ev.PlanningEnded) -> Translation:
    data = {
        "totalIterations": e.total_iterations,
        "finalDecision": e.final_decision,
        "statusReason": e.status_reason,
        "finalDirective": e.final_directive,
    }
    return "planning.complete", e.id, data, {}


def _execution_started(e: ev.ExecutionStarted) -> Translation:
    return "execution.start", e.id, _named(executorModel=e.executor_model, directive=e.directive), {}


def _execution_ended(e: ev.ExecutionEnded) -> Translation:
    data = _named(
        status=e.status,
        errorMessage=e.error_message,
        tokensUsed=e.tokens_used,
        responseLength=e.response_length,
    )
    return "execution.complete", e.id, data, {}


def _paused(e: ev.Paused) -> Translation:
    data = {
        "pauseId": e.id,
        "phase": e.phase,
        "summary": e.summary,
        "deadlineMs": e.deadline_ms,
        "status": e.status,
    }
    return "debugger.pause", e.id, data, {}


def _upsert(e: ev.Upserted) -> Translation:
    return "timeline.upsert", e.id, {"entity": {"id": e.id, "kind": e.kind, "props": e.props}}, {}


_TRANSLATORS: dict[type, Callable[[Any], Translation]] = {
    ev.RunChanged: _run,
    ev.TextStarted: _text_started,
    ev.TextEnded: _text_ended,
    ev.CallStarted: _call_started,
    ev.CallDelta: _call_delta,
    ev.CallResult: _call_result,
    ev.CallDone: _call_done,
    ev.LogWritten: _log,
    ev.ErrorRaised: _error,
    ev.AgentModeChanged: _agent_mode,
    ev.ThinkingModeStarted: _thinking_mode_started,
    ev.ThinkingModeEnded: _thinking_mode_ended,
    ev.PlanningStarted: _planning_started,
    ev.PlanStepped: _plan_stepped,
    ev.PlanReflected: _plan_reflected,
    ev.PlanningEnded: _planning_ended,
    ev.ExecutionStarted: _execution_started,
    ev.ExecutionEnded: _execution_ended,
    ev.Paused: _paused,
    ev.Upserted: _upsert,
}
