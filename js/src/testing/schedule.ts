import fc from "fast-check";
import type { FakeHost, Fault } from "./fakeHost";
import { failure } from "./fakeHost";
import type { FakeKernel } from "./fakeKernel";

/**
 * What may happen to a conversation and to the pages that show it: the host says something, the network or the comm
 * misbehaves, a person scrolls up, time passes.
 */
export type Step =
  | { do: "text"; id: number; piece: string; fault: Fault }
  | { do: "final"; id: number; status: string; fault: Fault }
  | { do: "tool"; id: number; what: number; fault: Fault }
  | { do: "run"; id: number; state: string; fault: Fault }
  | { do: "custom"; id: number; value: number; fault: Fault }
  | { do: "agent"; id: number; what: number; fault: Fault }
  | { do: "log"; fault: Fault }
  | { do: "cut" }
  | { do: "restart" }
  | { do: "crash" }
  | { do: "restore" }
  | { do: "evict" }
  | { do: "fail" }
  | { do: "gap"; frames: number }
  | { do: "slow"; ms: number; earlier: boolean }
  | { do: "few"; rows: number }
  /** Scrolls up, and an old row changes while the answer is under way. */
  | { do: "earlier"; page: number; changes: number }
  | { do: "again"; page: number }
  | { do: "wait"; ms: number }
  // what only a comm can do
  | { do: "busy"; ms: number }
  | { do: "drop"; what: "replies" | "frames" | "all"; count: number }
  | { do: "pieces"; length: number }
  | { do: "doubled" }
  | { do: "batch"; ms: number }
  | { do: "forget" };

/** A page: over what it reads, and how many rows it asks for first. */
export interface PageSetup {
  readonly over: "socket" | "comm";
  readonly rows: number;
}

export interface Schedule {
  readonly pages: readonly PageSetup[];
  readonly steps: readonly Step[];
}

const fault = fc.constantFrom<Fault>("none", "none", "none", "none", "none", "none", "lose", "twice", "late");
const id = fc.nat(3);
const page = fc.nat(1);

function a<Kind extends Step["do"]>(
  kind: Kind,
  fields: { [Name in Exclude<keyof Extract<Step, { do: Kind }>, "do">]: fc.Arbitrary<unknown> },
): fc.Arbitrary<Step> {
  return fc.record({ do: fc.constant(kind), ...fields }) as fc.Arbitrary<Step>;
}

const words = fc.string({ minLength: 1, maxLength: 6, unit: "binary" });
const said: fc.MaybeWeightedArbitrary<Step>[] = [
  { weight: 8, arbitrary: a("text", { id, piece: words, fault }) },
  {
    weight: 2,
    arbitrary: a("final", { id, status: fc.constantFrom("complete", "stopped", "interrupted"), fault }),
  },
  { weight: 3, arbitrary: a("tool", { id, what: fc.nat(5), fault }) },
  {
    weight: 2,
    arbitrary: a("run", { id, state: fc.constantFrom("queued", "started", "finished", "failed"), fault }),
  },
  { weight: 2, arbitrary: a("custom", { id, value: fc.nat(9), fault }) },
  { weight: 4, arbitrary: a("agent", { id, what: fc.nat(8), fault }) },
  { weight: 2, arbitrary: a("log", { fault }) },
];
const happens: fc.MaybeWeightedArbitrary<Step>[] = [
  ...said,
  { weight: 1, arbitrary: a("cut", {}) },
  { weight: 1, arbitrary: a("restart", {}) },
  { weight: 1, arbitrary: a("crash", {}) },
  { weight: 1, arbitrary: a("restore", {}) },
  { weight: 1, arbitrary: a("evict", {}) },
  { weight: 1, arbitrary: a("fail", {}) },
  { weight: 1, arbitrary: a("gap", { frames: fc.integer({ min: 2, max: 6 }) }) },
  { weight: 2, arbitrary: a("slow", { ms: fc.constantFrom(0, 0, 30, 300), earlier: fc.boolean() }) },
  { weight: 2, arbitrary: a("few", { rows: fc.constantFrom(1, 2, 1000) }) },
  { weight: 4, arbitrary: a("earlier", { page, changes: fc.nat(5) }) },
  { weight: 1, arbitrary: a("again", { page }) },
  { weight: 5, arbitrary: a("wait", { ms: fc.constantFrom(0, 1, 20, 500, 3000) }) },
];
const commHappens: fc.MaybeWeightedArbitrary<Step>[] = [
  ...happens,
  { weight: 1, arbitrary: a("busy", { ms: fc.constantFrom(10, 2_000, 20_000) }) },
  {
    weight: 2,
    arbitrary: a("drop", {
      what: fc.constantFrom("replies", "frames", "all"),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 1, arbitrary: a("pieces", { length: fc.constantFrom(40, 300, 100_000) }) },
  { weight: 1, arbitrary: a("doubled", {}) },
  { weight: 1, arbitrary: a("batch", { ms: fc.constantFrom(0, 33) }) },
  { weight: 1, arbitrary: a("forget", {}) },
];

const rows = fc.constantFrom(400, 3);
const onSocket = fc.record({ over: fc.constant("socket" as const), rows });
const onComm = fc.record({ over: fc.constant("comm" as const), rows });
const steps = (...of: fc.MaybeWeightedArbitrary<Step>[]) =>
  fc.array(fc.oneof(...of), { minLength: 1, maxLength: 60, size: "max" });

/** One page or two, on the socket, on the comm, or one on each. */
export const schedule: fc.Arbitrary<Schedule> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      pages: fc.array(onSocket, { minLength: 1, maxLength: 2 }),
      steps: steps(...happens),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      pages: fc.array(onComm, { minLength: 1, maxLength: 2 }),
      steps: steps(...commHappens),
    }),
  },
  { weight: 1, arbitrary: fc.record({ pages: fc.tuple(onSocket, onComm), steps: steps(...commHappens) }) },
);

/** What a page can be asked to do, and where its rows begin. */
export interface Reader {
  readonly floor: number;
  loadEarlier(): Promise<void>;
  refresh(): void;
}

export interface Stage {
  readonly host: FakeHost;
  readonly kernel: FakeKernel;
  readonly pages: readonly Reader[];
  /** Rows that an older file does not have, and that pages had. */
  readonly gone: Set<string>;
}

/** Over a socket, the end of what was lost shows by the next frame; over a comm, the page asks. */
const LAST: Step = { do: "log", fault: "none" };

const ASKED = { digest: "d", expiresAt: 1, state: "pending" };

const players: { [Kind in Step["do"]]: (stage: Stage, step: Extract<Step, { do: Kind }>) => void } = {
  text({ host }, { id, piece, fault }) {
    const key = `m${id}`;
    if (!host.store.has(key)) host.emit("llm.start", key, { role: "assistant" }, fault);
    const { content, streaming } = host.store.get(key)?.props ?? {};
    if (streaming === false) return;
    host.emit("llm.delta", key, { delta: piece, offset: String(content).length }, fault);
  },
  final({ host }, { id, status, fault }) {
    if (host.store.has(`m${id}`)) host.emit("llm.final", `m${id}`, { text: "", status }, fault);
  },
  tool({ host }, { id, what, fault }) {
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
  run({ host }, { id, state, fault }) {
    const prompt = state === "queued" ? { prompt: "Hello" } : {};
    host.emit(`run.${state}`, `r${id}`, { runId: `r${id}`, status: state, ...prompt }, fault);
  },
  custom({ host }, { id, value, fault }) {
    const entity = { id: `c${id}`, kind: "note", props: { [`k${value % 3}`]: value, touched: 0 } };
    host.emit("timeline.upsert", entity.id, { entity }, fault);
  },
  agent({ host }, { id, what, fault }) {
    const [plan, phase, pause] = [`p${id}`, `h${id}`, `d${id}`];
    const reasoning = String(host.store.get(phase)?.props.reasoning ?? "");
    if (what === 0) host.emit("agent.mode", `a${id}`, { title: `mode ${host.seq}` }, fault);
    else if (what === 1) host.emit("debugger.pause", pause, { pauseId: pause, status: "paused" }, fault);
    else if (what === 2) host.emit("debugger.pause", pause, { pauseId: pause, status: "continued" }, fault);
    else if (what <= 4) {
      if (!host.store.has(phase)) host.emit("thinking.mode.started", phase, { mode: "deep" }, fault);
      const append = { reasoning: { offset: reasoning.length, delta: "hm " } };
      const ended = host.store.get(phase)?.props.status !== "active";
      if (what === 3 && !ended) host.emit("thinking.mode.update", phase, { append }, fault);
      else host.emit("thinking.mode.completed", phase, { success: true }, fault);
    } else if (!host.store.has(plan)) host.emit("planning.start", plan, { run: { provider: "x" } }, fault);
    else if (what === 5)
      host.emit("planning.iteration", plan, { iterationIndex: 1 + (host.seq % 3), action: "look" }, fault);
    else if (what === 6) host.emit("planning.complete", plan, { finalDecision: "execute" }, fault);
    else host.emit("execution.complete", plan, { status: what === 7 ? "completed" : "error" }, fault);
  },
  log: ({ host }, { fault }) => host.emit("log", `l${host.seq}`, { message: "x", touched: 0 }, fault),
  cut: ({ host }) => host.cut(),
  restart: ({ host }) => host.restart(),
  crash: ({ host }) => host.crash(),
  restore({ host, gone }) {
    for (const id of host.restore()) gone.add(id);
  },
  evict: ({ host }) => host.evict(),
  fail: ({ host }) => void host.failTimeline.push(failure("network")),
  gap({ host }, { frames }) {
    host.loseNext = frames;
  },
  slow({ host }, { ms, earlier }) {
    if (earlier) host.earlierMs = ms;
    else host.delayMs = ms;
  },
  few({ host }, { rows }) {
    host.mostRows = rows;
  },
  earlier({ host, pages }, { page, changes }) {
    const reader = pages[page % pages.length];
    reader?.loadEarlier().catch(() => {}); // what fails is asked for again
    const { floor = 0 } = reader ?? {};
    const old = host.store.snapshot().findLast(({ createdSeq = 0 }) => createdSeq < floor - changes);
    if (!old) return;
    const entity = { id: old.id, kind: old.kind, props: { touched: host.seq } };
    host.emit("timeline.upsert", old.id, { entity });
  },
  again: ({ pages }, { page }) => pages[page % pages.length]?.refresh(),
  wait() {},
  busy({ kernel }, { ms }) {
    kernel.deaf = true;
    setTimeout(() => {
      kernel.deaf = false;
    }, ms);
  },
  drop({ kernel }, { what, count }) {
    let left = count;
    kernel.lose = (message) => {
      const hit = what === "all" || (what === "frames") === "frames" in message;
      return hit && left-- > 0;
    };
  },
  pieces({ kernel }, { length }) {
    kernel.pieceLength = length;
  },
  doubled({ kernel }) {
    kernel.twice = !kernel.twice;
  },
  batch({ kernel }, { ms }) {
    kernel.batchMs = ms;
  },
  forget: ({ kernel }) => kernel.forget(),
};

export function play<Kind extends Step["do"]>(stage: Stage, step: Extract<Step, { do: Kind }>): void {
  players[step.do as Kind](stage, step);
}

/** Nothing disturbs any more. */
export function calm(stage: Stage, pages: readonly PageSetup[]): void {
  const { host, kernel } = stage;
  host.delayMs = 0;
  host.earlierMs = 0;
  host.failTimeline = [];
  host.mostRows = Infinity;
  host.loseNext = 0;
  kernel.deaf = false;
  kernel.lose = () => false;
  if (pages.some(({ over }) => over === "socket")) play(stage, LAST);
}
