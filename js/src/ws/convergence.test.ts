// @vitest-environment node
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { standardRegistry } from "../sem/handlers";
import { FakeHost, failure } from "../testing/fakeHost";
import { isTerminal } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import { WsManager } from "./wsManager";

/** A step of a schedule: the host says something, the network misbehaves, or time passes. */
type Step =
  | { do: "text"; id: number; piece: string; fault: Fault }
  | { do: "final"; id: number; status: string; fault: Fault }
  | { do: "tool"; id: number; what: number; fault: Fault }
  | { do: "run"; id: number; state: string; fault: Fault }
  | { do: "custom"; id: number; value: number; fault: Fault }
  | { do: "cut" }
  | { do: "restart" }
  | { do: "fail" }
  | { do: "slow"; ms: number }
  | { do: "wait"; ms: number };
type Fault = "none" | "lose" | "twice";

const fault = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Fault>("none") },
  { weight: 1, arbitrary: fc.constant<Fault>("lose") },
  { weight: 1, arbitrary: fc.constant<Fault>("twice") },
);
const id = fc.integer({ min: 0, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("text" as const), id, piece: fc.string({ minLength: 1, maxLength: 6, unit: "binary" }), fault }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("final" as const), id, status: fc.constantFrom("complete", "stopped", "interrupted"), fault }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("tool" as const), id, what: fc.integer({ min: 0, max: 3 }), fault }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("run" as const), id, state: fc.constantFrom("queued", "started", "finished", "failed"), fault }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("custom" as const), id, value: fc.nat(9), fault }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("fail" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("slow" as const), ms: fc.constantFrom(0, 0, 30, 300) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(0, 1, 20, 500, 3000) }) },
);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function play(host: FakeHost, each: Step): void {
  const has = (key: string) => host.store.has(key);
  switch (each.do) {
    case "text": {
      const key = `m${each.id}`;
      if (!has(key)) host.emit("llm.start", key, { role: "assistant" }, each.fault);
      if (host.store.get(key)?.props.streaming === false) return;
      const offset = String(host.store.get(key)?.props.content).length;
      return host.emit("llm.delta", key, { delta: each.piece, offset }, each.fault);
    }
    case "final":
      if (has(`m${each.id}`)) host.emit("llm.final", `m${each.id}`, { text: "", status: each.status }, each.fault);
      return;
    case "tool": {
      const key = `t${each.id}`;
      if (!has(key)) return host.emit("tool.start", key, { name: "f", input: {} }, each.fault);
      if (each.what === 0) return host.emit("tool.done", key, { status: "completed" }, each.fault);
      if (each.what === 1) return host.emit("tool.result", `${key}:result`, { toolCallId: key, result: "1" }, each.fault);
      const offset = String(host.store.get(key)?.props.stdout ?? "").length;
      return host.emit("tool.delta", key, { append: { stdout: { offset, delta: "x\n" } } }, each.fault);
    }
    case "run":
      return host.emit(`run.${each.state}`, `r${each.id}`, { runId: `r${each.id}`, status: each.state }, each.fault);
    case "custom":
      return host.emit("timeline.upsert", `c${each.id}`, { entity: { id: `c${each.id}`, kind: "note", props: { [`k${each.value % 3}`]: each.value } } }, each.fault);
    case "cut":
      return host.cut();
    case "restart":
      return host.restart();
    case "fail":
      return void host.failTimeline.push(failure("network"));
    case "slow":
      host.delayMs = each.ms;
      return;
    case "wait":
      return;
  }
}

async function session(steps: Step[]): Promise<void> {
  const host = new FakeHost();
  const store = new TimelineStore(() => {});
  const manager = new WsManager({ transport: host, convId: "c", profile: "default", store, registry: standardRegistry() });
  const seen = new Map<string, { text: string; ended: boolean }>();
  const neverBack = () => {
    for (const { id: key, kind, props } of store.snapshot()) {
      const text = typeof props.content === "string" ? props.content : "";
      const before = seen.get(key);
      expect(before === undefined || text.startsWith(before.text)).toBe(true);
      const ended = isTerminal(kind, props);
      expect(before?.ended === true && !ended).toBe(false);
      seen.set(key, { text, ended });
    }
  };
  manager.start();
  try {
    for (const each of steps) {
      play(host, each);
      if (each.do === "wait") await vi.advanceTimersByTimeAsync(each.ms);
      neverBack();
    }
    host.delayMs = 0;
    host.failTimeline = [];
    host.emit("log", "end", { message: "the last frame shows a hole before it" });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(manager.status.value.phase).toBe("live");
    expect(store.snapshot()).toEqual(host.store.snapshot());
    store.flush();
    expect(store.order.value.map((row) => row.entity.value)).toEqual(host.store.snapshot());
  } finally {
    manager.stop();
  }
}

it("ends equal to a fresh hydrate whatever is lost, doubled, cut, slow or restarted, and never goes back", async () => {
  const numRuns = Number(process.env.WEBCHAT_SCHEDULES ?? 400);
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), session), { numRuns });
}, 600_000);
