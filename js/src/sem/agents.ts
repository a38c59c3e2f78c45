import type { Props } from "../timeline/entities";
import { isRecord } from "./frames";
import type { SemHandler } from "./registry";
import { create, grow, pick, seqOf, start } from "./rows";

const startPhase: SemHandler = (event, store) => {
  const { reasoning = "" } = event.data;
  const props = { ...pick(event.data, "mode", "phase"), reasoning, status: "active" };
  return start(event, store, "thinking_mode", props);
};

const changePhase: SemHandler = (event, store) =>
  "append" in event.data
    ? grow(event, store)
    : store.patchEntity(event.id, seqOf(event), pick(event.data, "mode", "phase", "reasoning"));

const endPhase: SemHandler = (event, store) =>
  store.patchEntity(event.id, seqOf(event), {
    ...pick(event.data, "mode", "phase", "reasoning", "success", "error"),
    status: event.data.success === false ? "error" : "completed",
  });

const startPlan: SemHandler = (event, store) => {
  const run = isRecord(event.data.run) ? event.data.run : {};
  return start(event, store, "planning", { ...run, iterations: [], status: "planning" });
};

/** The steps with one more, or with more of one, in the order of their indices. */
const stepPlan: SemHandler = (event, store) =>
  store.foldEntity(event.id, seqOf(event), (old) => {
    const index = Number(event.data.iterationIndex ?? 0);
    const steps = (Array.isArray(old.iterations) ? old.iterations : []) as Props[];
    const others = steps.filter((step) => step.iterationIndex !== index);
    const known = steps.find((step) => step.iterationIndex === index);
    const step: Props = { ...known, ...event.data, iterationIndex: index };
    const ordered = [...others, step].sort((a, b) => Number(a.iterationIndex) - Number(b.iterationIndex));
    return { iterations: ordered };
  });

const endPlan: SemHandler = (event, store) =>
  store.patchEntity(event.id, seqOf(event), {
    completed: event.data,
    ...(event.data.finalDecision === "execute" ? {} : { status: "error" }),
  });

/** Its start and its end: what is done with a plan is told by the plan's own row. */
const executePlan: SemHandler = (event, store) =>
  store.foldEntity(event.id, seqOf(event), (old) => ({
    execution: { ...(isRecord(old.execution) ? old.execution : {}), ...event.data },
    status: statusOf(event.data.status),
  }));

function statusOf(execution: unknown): string {
  if (execution === undefined || execution === null) return "executing";
  return execution === "completed" ? "completed" : "error";
}

/** What agents tell of their work, beside their words. */
export const AGENT_HANDLERS: Record<string, SemHandler> = {
  "agent.mode": (event, store) => create(event, store, "agent_mode", pick(event.data, "title", "data")),
  "thinking.mode.started": startPhase,
  "thinking.mode.update": changePhase,
  "thinking.mode.completed": endPhase,
  "planning.start": startPlan,
  "planning.iteration": stepPlan,
  "planning.reflection": stepPlan,
  "planning.complete": endPlan,
  "execution.start": executePlan,
  "execution.complete": executePlan,
  "debugger.pause": (event, store) => create(event, store, "debugger_pause", event.data),
};
