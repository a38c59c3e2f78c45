import { isDeepStrictEqual } from "node:util";
import type { TimelinePage, TimelineQuery } from "../http/replies";
import { standardRegistry } from "../sem/handlers";
import type { Entity } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import type { ChannelEvents, CloseReason, Transport } from "../transport/transport";
import { WsManager } from "../ws/wsManager";

/** What came to a reader of the real host, in its order: tests/soak/model.py wrote it down. */
export type TapeStep =
  | { do: "open" }
  | { do: "frame"; frame: unknown }
  | { do: "close"; reason: CloseReason }
  | ({ do: "answer"; query: Query } & TimelinePage)
  | { do: "earlier" };

export interface Tape {
  readonly pageSize: number;
  readonly steps: readonly TapeStep[];
}

/** A schedule: its readers, and the rows that the host and all of them have in the end. */
export interface Played {
  readonly readers: readonly Tape[];
  readonly rows: readonly Entity[];
}

type Query = Omit<TimelineQuery, "convId">;

interface Request {
  readonly query: Query;
  answer(page: TimelinePage): void;
}

const ROUNDS = 20;

/** Plays a schedule to pages; says what a page does otherwise than the reader that it was written down for. */
export async function difference({ readers, rows }: Played): Promise<string | null> {
  for (const [index, tape] of readers.entries()) {
    try {
      const shown = await replay(tape);
      if (!isDeepStrictEqual(shown, rows)) {
        return `reader ${index} shows ${JSON.stringify(shown)}, and the host has ${JSON.stringify(rows)}`;
      }
    } catch (error) {
      return `reader ${index}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return null;
}

/** Plays a tape to a page of its own: the real manager, gate and store. Returns what it then shows. */
export async function replay({ pageSize, steps }: Tape): Promise<readonly Entity[]> {
  const line = new Line();
  const store = new TimelineStore(() => {});
  const registry = standardRegistry();
  const manager = new WsManager({ transport: line.transport, convId: "c", store, registry, pageSize });
  const restore = hurry();
  try {
    manager.start();
    for (const [at, step] of steps.entries()) {
      await line.play(step, manager).catch((error: Error) => {
        throw new Error(`at ${at}, ${step.do}: ${error.message}`);
      });
    }
    must(manager.status.value.phase === "live", `the page is ${manager.status.value.phase} in the end`);
    must(!manager.more.value, "the page says that there are rows further up");
    store.flush();
    return store.order.value.map((row) => row.entity.value);
  } finally {
    manager.stop();
    restore();
  }
}

/** A host that says what is on the tape, and wants to be asked for it. */
class Line {
  #events: ChannelEvents | null = null;
  #requests: Request[] = [];

  readonly transport = {
    name: "server",
    probe: async () => ({ notices: [] }),
    open: (_convId: string, events: ChannelEvents) => {
      this.#events = events;
      return { close: () => this.#hangUp() };
    },
    timeline: ({ convId: _, ...query }: TimelineQuery) => {
      // before it opens a stream again, a page may look if it is let in
      if (!this.#events) return Promise.resolve({ rows: [], version: 0, more: false, epoch: null });
      return new Promise<TimelinePage>((answer) => this.#requests.push({ query, answer }));
    },
  } as unknown as Transport;

  async play(step: TapeStep, manager: WsManager): Promise<void> {
    exact(step);
    if (step.do === "open") {
      await until(() => this.#events !== null, "the page opens no stream");
    } else if (step.do === "frame") {
      must(this.#events !== null, "the page has hung up");
      this.#events?.message(step.frame);
      if (isPong(step.frame)) await settled();
    } else if (step.do === "close") {
      const events = this.#events;
      this.#hangUp();
      events?.close(step.reason);
      await settled();
    } else if (step.do === "earlier") {
      void manager.loadEarlier();
    } else {
      const { query, rows, version, more, epoch } = step;
      const asked = () => this.#requests.find((request) => isDeepStrictEqual(request.query, query));
      await until(
        () => asked() !== undefined,
        () => `the page asks for ${JSON.stringify(this.#requests)}, not for ${JSON.stringify(query)}`,
      );
      const request = asked() as Request;
      this.#requests = this.#requests.filter((each) => each !== request);
      request.answer({ rows, version, more, epoch });
      await settled();
    }
  }

  #hangUp(): void {
    this.#events = null;
    this.#requests = [];
  }
}

/** Waits take no time from now on: what comes after them comes at once. Returns how to end that. */
function hurry(): () => void {
  const { setTimeout, clearTimeout } = globalThis;
  globalThis.setTimeout = ((then: () => void) => setImmediate(then)) as unknown as typeof setTimeout;
  globalThis.clearTimeout = ((id?: NodeJS.Immediate) => clearImmediate(id)) as unknown as typeof clearTimeout;
  return () => Object.assign(globalThis, { setTimeout, clearTimeout });
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** All that follows from what was said has happened: a wait, and what comes after it. */
async function settled(): Promise<void> {
  await turn();
  await turn();
}

async function until(holds: () => boolean, otherwise: string | (() => string)): Promise<void> {
  for (let round = 0; round < ROUNDS && !holds(); round += 1) await turn();
  must(holds(), typeof otherwise === "string" ? otherwise : otherwise());
}

/** Every integer that came over the wire is the one that was sent. */
function exact(value: unknown): void {
  if (typeof value === "number") {
    must(!Number.isInteger(value) || Number.isSafeInteger(value), `${value} is not exact`);
  } else if (typeof value === "object" && value !== null) {
    for (const each of Object.values(value)) exact(each);
  }
}

function isPong(frame: unknown): boolean {
  return (frame as { event: { type: string } }).event.type === "ws.pong";
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
