import { readEntity } from "../timeline/entities";
import type { TextPart } from "../timeline/store";
import { AGENT_HANDLERS } from "./agents";
import { isRecord } from "./frames";
import { type SemHandler, SemRegistry } from "./registry";
import { create, grow, lay, pick, seqOf, start } from "./rows";

/** The fold of frames into rows: the same as the host's projection, held to the same golden file. */
export function standardRegistry(): SemRegistry {
  const registry = new SemRegistry();
  for (const family of ["llm", "llm.thinking"]) {
    registry.register(`${family}.start`, startText(family === "llm" ? "assistant" : "thinking"));
    registry.register(`${family}.delta`, growText);
    registry.register(`${family}.final`, endText);
  }
  registry.register("tool.start", startTool);
  registry.register("tool.delta", changeTool);
  registry.register("tool.result", (event, store) => create(event, store, "tool_result", event.data));
  registry.register("tool.done", (event, store) =>
    store.patchEntity(event.id, seqOf(event), { status: event.data.status ?? "completed", done: true }),
  );
  for (const state of ["queued", "started", "finished", "stopped", "failed"]) {
    registry.register(`run.${state}`, changeRun(state));
  }
  registry.register("log", (event, store) => create(event, store, "log", event.data));
  registry.register("error", addError);
  for (const [type, handler] of Object.entries(AGENT_HANDLERS)) registry.register(type, handler);
  registry.register("timeline.upsert", upsert);
  return registry;
}

const startText =
  (role: string): SemHandler =>
  (event, store) =>
    start(event, store, "message", {
      role: event.data.role ?? role,
      content: "",
      streaming: true,
      status: "streaming",
      ...pick(event.metadata, "model"),
    });

const growText: SemHandler = (event, store) => {
  const { delta, cumulative, offset } = event.data;
  let part: TextPart | undefined;
  if (typeof offset === "number" && typeof delta === "string") part = { prop: "content", offset, delta };
  else if (typeof cumulative === "string") part = { prop: "content", offset: 0, delta: cumulative };
  else if (typeof delta === "string") part = { prop: "content", offset: undefined, delta };
  return store.appendText(event.id, seqOf(event), part ? [part] : []);
};

const endText: SemHandler = (event, store) => {
  const { text, status } = event.data;
  return store.patchEntity(event.id, seqOf(event), {
    // an empty text is "nothing to add": the end never blanks what a person has read
    ...(typeof text === "string" && text !== "" ? { content: text } : {}),
    streaming: false,
    status: status ?? "complete",
    ...pick(event.metadata, "model", "usage"),
  });
};

const startTool: SemHandler = (event, store) => {
  const { name, input } = event.data;
  return start(event, store, "tool_call", { name, input, status: "running", done: false });
};

const changeTool: SemHandler = (event, store) =>
  grow(event, store, isRecord(event.data.patch) ? event.data.patch : {});

const changeRun =
  (state: string): SemHandler =>
  (event, store) => {
    const { runId: _, ...props } = event.data;
    return create(event, store, "run", { status: state, ...props });
  };

const addError: SemHandler = (event, store) => {
  const { error, code, retryable } = event.data;
  return create(event, store, "error", { message: error, code, retryable });
};

const upsert: SemHandler = (event, store) => {
  const entity = readEntity(event.data.entity);
  if (!entity) return "stale";
  const seq = seqOf(event);
  const createdSeq = entity.createdSeq ?? event.createdSeq ?? seq;
  return lay(store, { ...entity, createdSeq, version: seq });
};
