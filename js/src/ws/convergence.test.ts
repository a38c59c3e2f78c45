// @vitest-environment node
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { standardRegistry } from "../sem/handlers";
import { FakeHost } from "../testing/fakeHost";
import { FakeKernel } from "../testing/fakeKernel";
import { BUGS } from "../testing/plants";
import {
  calm,
  type PageSetup,
  play,
  type Reader,
  type Schedule,
  type Stage,
  schedule,
} from "../testing/schedule";
import { Watcher } from "../testing/watcher";
import { type Entity, isTerminal } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import { commTransport } from "../transport/comm";
import type { Transport } from "../transport/transport";
import { WsManager } from "./wsManager";

const numRuns = Number(process.env.WEBCHAT_SCHEDULES ?? 400);
const seed = Number(process.env.WEBCHAT_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** What is planted is found by the same schedule each time. */
const PLANTED = { numRuns: 2000, seed: Number(process.env.WEBCHAT_SEED ?? 2), endOnFailure: true };
const HOURS = 6 * 3600 * 1000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

type Wrap = (transport: Transport) => Transport;

function open(host: FakeHost, kernel: FakeKernel, { over, rows }: PageSetup, wrap: Wrap) {
  const transport = wrap(over === "socket" ? host : commTransport(kernel));
  const store = new TimelineStore(() => {});
  const registry = standardRegistry();
  const manager = new WsManager({ transport, convId: "c", store, registry, pageSize: rows });
  const unwatch = transport.watch({ back: () => manager.retryNow(), slow: () => {} });
  manager.start();
  const close = () => {
    manager.stop();
    unwatch();
  };
  const reader: Reader = {
    get floor() {
      return store.floor;
    },
    loadEarlier: () => manager.loadEarlier(),
    refresh: () => manager.refresh(),
  };
  return { store, manager, reader, close };
}

/** Plays a schedule to its pages: none goes back meanwhile, and all end as the host, and a fresh page, see it. */
async function converges({ pages, steps }: Schedule, wrap: Wrap = (transport) => transport): Promise<void> {
  const host = new FakeHost();
  const kernel = new FakeKernel(host);
  const opened = pages.map((setup) => open(host, kernel, setup, wrap));
  const stage: Stage = { host, kernel, pages: opened.map(({ reader }) => reader), gone: new Set() };
  const watchers = opened.map(({ store }) => new Watcher(store, stage.gone));
  try {
    for (const step of steps) {
      play(stage, step);
      if (step.do === "wait") await vi.advanceTimersByTimeAsync(step.ms);
      for (const watcher of watchers) watcher.look();
    }
    calm(stage, pages);
    await vi.advanceTimersByTimeAsync(120_000); // an answer to a ping may be lost, and the next one tells
    for (const watcher of watchers) watcher.look();
    const all = host.store.snapshot();
    const fresh = open(host, kernel, { over: "socket", rows: 1000 }, (transport) => transport);
    opened.push(fresh);
    await vi.advanceTimersByTimeAsync(1_000);
    for (const { store, manager } of opened) {
      expect(manager.status.value.phase).toBe("live");
      expect(store.snapshot()).toEqual(all.slice(all.length - store.size)); // no hole in what is shown
      expect(underWay(store)).toEqual(underWay(host.store)); // also where it began above the first page
      for (let left = all.length; manager.more.value && left > 0; left -= 1) await manager.loadEarlier();
      expect(store.snapshot()).toEqual(all);
      store.flush();
      expect(store.order.value.map((row) => row.entity.value)).toEqual(all);
    }
  } finally {
    for (const { close } of opened) close();
    vi.clearAllTimers();
  }
}

function underWay(store: TimelineStore): Entity[] {
  const runs = store.ofKind("run");
  store.flush();
  return runs.value.filter(({ kind, props }) => !isTerminal(kind, props));
}

it(
  "ends equal to a fresh page whatever is lost, doubled, late, cut, slow or restarted, and never goes back",
  async () => {
    const property = fc.asyncProperty(schedule, (each) => converges(each));
    await fc.assert(property, { numRuns, seed });
    console.log(`schedules: ${numRuns} of ${numRuns}, seed ${seed}, 0 differences`);
  },
  HOURS,
);

describe("a bug that is planted is found", () => {
  it.each(BUGS.map((bug) => [bug.name, bug] as const))(
    "%s",
    async (name, { plant, wrap }) => {
      const mend = plant?.();
      const property = fc.asyncProperty(schedule, (each) => converges(each, wrap));
      const found = await fc.check(property, PLANTED);
      mend?.();
      expect(found.failed).toBe(true);
      console.log(`planted: ${name}: found by schedule ${found.numRuns}`);
    },
    60_000,
  );
});
