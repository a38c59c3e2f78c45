// @vitest-environment node
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { standardRegistry } from "../sem/handlers";
import { FakeHost, failure } from "../testing/fakeHost";
import { FakeKernel } from "../testing/fakeKernel";
import { isTerminal } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import { commTransport } from "../transport/comm";
import type { Transport } from "../transport/transport";
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
/** What only a comm can do: a kernel that is busy, messages that the server drops, streams that are forgotten. */
type CommStep =
  | { do: "busy"; ms: number }
  | { do: "drop"; what: "replies" | "frames" | "all"; count: number }
  | { do: "pieces"; length: number }
  | { do: "twice" }
  | { do: "batch"; ms: number }
  | { do: "forget" };
type Fault = "none" | "lose" | "twice";

const fault = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Fault>("none") },
  { weight: 1, arbitrary: fc.constant<Fault>("lose") },
  { weight: 1, arbitrary: fc.constant<Fault>("twice") },
);
const id = fc.integer({ min: 0, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("text" as const),
      id,
      piece: fc.string({ minLength: 1, maxLength: 6, unit: "binary" }),
      fault,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("final" as const),
      id,
      status: fc.constantFrom("complete", "stopped", "interrupted"),
      fault,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("tool" as const),
      id,
      what: fc.integer({ min: 0, max: 5 }),
      fault,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("run" as const),
      id,
      state: fc.constantFrom("queued", "started", "finished", "failed"),
      fault,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("custom" as const), id, value: fc.nat(9), fault }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("fail" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("slow" as const), ms: fc.constantFrom(0, 0, 30, 300) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(0, 1, 20, 500, 3000) }),
  },
);

const commStep: fc.Arbitrary<CommStep> = fc.oneof(
  fc.record({ do: fc.constant("busy" as const), ms: fc.constantFrom(10, 2_000, 20_000) }),
  fc.record({
    do: fc.constant("drop" as const),
    what: fc.constantFrom("replies" as const, "frames" as const, "all" as const),
    count: fc.integer({ min: 1, max: 4 }),
  }),
  fc.record({ do: fc.constant("pieces" as const), length: fc.constantFrom(40, 300, 100_000) }),
  fc.record({ do: fc.constant("twice" as const) }),
  fc.record({ do: fc.constant("batch" as const), ms: fc.constantFrom(0, 33) }),
  fc.record({ do: fc.constant("forget" as const) }),
);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const ASKED = { digest: "d", expiresAt: 1, state: "pending" };

const players: { [Kind in Step["do"]]: (host: FakeHost, step: Extract<Step, { do: Kind }>) => void } = {
  text(host, { id, piece, fault }) {
    const key = `m${id}`;
    if (!host.store.has(key)) host.emit("llm.start", key, { role: "assistant" }, fault);
    const { content, streaming } = host.store.get(key)?.props ?? {};
    if (streaming === false) return;
    host.emit("llm.delta", key, { delta: piece, offset: String(content).length }, fault);
  },
  final(host, { id, status, fault }) {
    if (host.store.has(`m${id}`)) host.emit("llm.final", `m${id}`, { text: "", status }, fault);
  },
  tool(host, { id, what, fault }) {
    const key = `t${id}`;
    const offset = String(host.store.get(key)?.props.stdout ?? "").length;
    if (!host.store.has(key)) host.emit("tool.start", key, { name: "f", input: {} }, fault);
    else if (what === 0) host.emit("tool.done", key, { status: "completed" }, fault);
    else if (what === 1) host.emit("tool.result", `${key}:result`, { toolCallId: key, result: "1" }, fault);
    else if (what === 2)
      host.emit("tool.delta", key, { patch: { status: "asking", approval: ASKED } }, fault);
    else if (what === 3) {
      const approval = { ...ASKED, state: "once" };
      const patch = { status: "running", approval, progress: { value: 0.5, text: "half" } };
      host.emit("tool.delta", key, { patch }, fault);
    } else host.emit("tool.delta", key, { append: { stdout: { offset, delta: "x\n" } } }, fault);
  },
  run: (host, { id, state, fault }) =>
    host.emit(`run.${state}`, `r${id}`, { runId: `r${id}`, status: state }, fault),
  custom(host, { id, value, fault }) {
    const entity = { id: `c${id}`, kind: "note", props: { [`k${value % 3}`]: value } };
    host.emit("timeline.upsert", entity.id, { entity }, fault);
  },
  cut: (host) => host.cut(),
  restart: (host) => host.restart(),
  fail: (host) => void host.failTimeline.push(failure("network")),
  slow(host, { ms }) {
    host.delayMs = ms;
  },
  wait() {},
};

function play<Kind extends Step["do"]>(host: FakeHost, step: Extract<Step, { do: Kind }>): void {
  players[step.do as Kind](host, step);
}

const commPlayers: {
  [Kind in CommStep["do"]]: (kernel: FakeKernel, step: Extract<CommStep, { do: Kind }>) => void;
} = {
  busy(kernel, { ms }) {
    kernel.deaf = true;
    setTimeout(() => {
      kernel.deaf = false;
    }, ms);
  },
  drop(kernel, { what, count }) {
    let left = count;
    kernel.lose = (message) => {
      const hit = what === "all" || (what === "frames") === "frames" in message;
      return hit && left-- > 0;
    };
  },
  pieces(kernel, { length }) {
    kernel.pieceLength = length;
  },
  twice(kernel) {
    kernel.twice = !kernel.twice;
  },
  batch(kernel, { ms }) {
    kernel.batchMs = ms;
  },
  forget: (kernel) => kernel.forget(),
};

function disturb<Kind extends CommStep["do"]>(
  kernel: FakeKernel,
  step: Extract<CommStep, { do: Kind }>,
): void {
  commPlayers[step.do as Kind](kernel, step);
}

function isCommStep(step: Step | CommStep): step is CommStep {
  return step.do in commPlayers;
}

/** Plays the steps to a page that reads `host` over `transport`; `calm` ends what disturbs. */
async function session<S extends { do: string; ms?: number }>(
  host: FakeHost,
  transport: Transport,
  steps: S[],
  act: (step: S) => void,
  calm: () => void,
): Promise<void> {
  const store = new TimelineStore(() => {});
  const manager = new WsManager({
    transport,
    convId: "c",
    store,
    registry: standardRegistry(),
  });
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
  const unwatch = transport.watch({ back: () => manager.retryNow(), slow: () => {} });
  manager.start();
  try {
    for (const step of steps) {
      act(step);
      if (step.do === "wait") await vi.advanceTimersByTimeAsync(step.ms ?? 0);
      neverBack();
    }
    host.delayMs = 0;
    host.failTimeline = [];
    calm();
    await vi.advanceTimersByTimeAsync(120_000); // an answer to a ping may be lost, and the next one tells
    expect(manager.status.value.phase).toBe("live");
    expect(store.snapshot()).toEqual(host.store.snapshot());
    store.flush();
    expect(store.order.value.map((row) => row.entity.value)).toEqual(host.store.snapshot());
  } finally {
    manager.stop();
    unwatch();
    vi.clearAllTimers();
  }
}

const numRuns = Number(process.env.WEBCHAT_SCHEDULES ?? 400);

it("ends equal to a fresh hydrate whatever is lost, doubled, cut, slow or restarted, and never goes back", async () => {
  const run = (steps: Step[]) => {
    const host = new FakeHost();
    // the last frame shows a hole before it
    const calm = () => host.emit("log", "end", { message: "x" });
    return session(host, host, steps, (each) => play(host, each), calm);
  };
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), run), { numRuns });
}, 600_000);

it("and over a comm, where answers are lost too, and last frames without a trace", async () => {
  const either = fc.oneof({ weight: 5, arbitrary: step }, { weight: 1, arbitrary: commStep });
  const run = (steps: (Step | CommStep)[]) => {
    const kernel = new FakeKernel();
    const { host } = kernel;
    const act = (each: Step | CommStep) => (isCommStep(each) ? disturb(kernel, each) : play(host, each));
    const calm = () => {
      kernel.deaf = false;
      kernel.lose = () => false;
    };
    return session(host, commTransport(kernel), steps, act, calm);
  };
  await fc.assert(fc.asyncProperty(fc.array(either, { minLength: 1, maxLength: 60 }), run), { numRuns });
}, 600_000);
