import { type ReadonlySignal, signal } from "@preact/signals-core";
import type { Health } from "../http/replies";
import { readFrame, readHello, readPong, type SemFrame } from "../sem/frames";
import type { SemRegistry } from "../sem/registry";
import { type Entity, type EntityInput, readEntity } from "../timeline/entities";
import type { TimelineStore } from "../timeline/store";
import {
  asFailure,
  type Channel,
  type CloseReason,
  type Failure,
  type Transport,
} from "../transport/transport";
import { Backoff } from "./backoff";
import { type Gated, HydrationGate } from "./hydrationGate";

export type Phase =
  | "connecting"
  | "buffering"
  | "hydrating"
  | "replaying"
  | "live"
  | "reconnecting"
  | "offline"
  | "error";

export interface Status {
  readonly phase: Phase;
  /** What a person should know about it, in `offline` and `error`. */
  readonly failure: Failure | null;
  /** Was this conversation on the screen before? Then it stays there. */
  readonly hydrated: boolean;
}

export interface ManagerOptions {
  readonly transport: Transport;
  readonly convId: string;
  readonly store: TimelineStore;
  readonly registry: SemRegistry;
  /** Rows that only this page knows; they survive a change of history. */
  readonly keep?: (entity: Entity) => boolean;
  /** Called when the host has taken this page in, before its rows are here. */
  readonly connected?: () => void;
  /** Called after each batch of applied frames or rows. */
  readonly changed?: () => void;
  /** Called when the host is about to be asked for rows. */
  readonly asking?: () => void;
  /** Called when all is here that the host had said when it was asked last. */
  readonly live?: () => void;
  readonly backoff?: Backoff;
  readonly pageSize?: number;
}

const PROTOCOL = 1;
const SLOW_RETRY_MS = 20_000;
/** What a host has said may still be under way for so long. */
const UNDER_WAY_MS = 1_000;
const FIRST_PAGE = 400;
/** The least part of a page that is asked for where whole ones don't come through. */
const LEAST = 1 / 64;
/** So many refusals by a host that is otherwise well are no accident. */
const REFUSALS = 4;
/** So many answers of another history than the stream's are no accident either. */
const FOREIGN = 5;
/** What may be over in a moment. */
const PASSING: ReadonlySet<Failure["kind"]> = new Set(["network", "busy", "kernel", "moved"]);
const REFUSED =
  "The server answers but refuses the live connection of this chat. A proxy that lets no WebSocket through does that.";

interface Held extends Gated {
  readonly frame: SemFrame;
}

/**
 * Keeps one conversation in step with its host: opens the stream, hydrates behind the gate, watches for holes
 * and lost ends, comes back after a break. It alone owns the channel.
 */
export class WsManager {
  readonly #options: ManagerOptions;
  readonly #status = signal<Status>({ phase: "connecting", failure: null, hydrated: false });
  readonly #health = signal<Health | null>(null);
  readonly #since = signal(0);
  readonly #more = signal(false);
  readonly #gate = new HydrationGate<Held>();
  readonly #backoff: Backoff;
  #channel: Channel | null = null;
  /** Aborted when this connection is over, so that nothing of it acts on the next one. */
  #connection = new AbortController();
  #epoch: string | null = null;
  /** Has this stream said where it begins? */
  #greeted = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #stopped = true;

  constructor(options: ManagerOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff();
  }

  get status(): ReadonlySignal<Status> {
    return this.#status;
  }

  get health(): ReadonlySignal<Health | null> {
    return this.#health;
  }

  /** How far the conversation was when this connection began. */
  get since(): ReadonlySignal<number> {
    return this.#since;
  }

  /** Are there rows before the first one on the screen? */
  get more(): ReadonlySignal<boolean> {
    return this.#more;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    void this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#teardown();
  }

  /** The rows of another host are on the screen, and stay there until this one's are here. */
  inherit(): void {
    this.#more.value = this.#options.store.floor > 0;
    this.#status.value = { ...this.#status.value, hydrated: true };
  }

  /** A person (or the network's return) does not want to wait for the timer. */
  retryNow(): void {
    if (this.#stopped || this.#channel) return;
    this.#teardown();
    this.#enter(this.#status.value.hydrated ? "reconnecting" : "connecting");
    void this.#connect();
  }

  /** What the screen shows is not so any more, says the host: asks for what has changed. */
  refresh(): void {
    if (!this.#gate.open) return;
    this.#gate.shut();
    void this.#hydrate(this.#epoch ?? "", 0, this.#connection);
  }

  /** Asks the host how it is by now; where nobody answers, what was known stands. */
  async askHealth(): Promise<void> {
    const { signal } = this.#connection;
    const health = await this.#options.transport.probe(signal).catch(() => null);
    if (health && !signal.aborted) this.#health.value = health;
  }

  /** Fetches the page of rows before the first one. */
  async loadEarlier(): Promise<void> {
    const { transport, convId, store, changed, pageSize = FIRST_PAGE } = this.#options;
    const { floor } = store;
    if (floor === 0) return;
    const { signal } = this.#connection;
    const page = await transport.timeline({ convId, before: floor, limit: pageSize }, signal);
    if (signal.aborted || (page.epoch !== null && page.epoch !== this.#epoch)) return;
    if (store.floor !== floor) return; // another history, or the same page asked for twice
    const rows = readRows(page.rows);
    for (const row of rows) store.upsertEntity(row);
    store.lowerFloor(floorOf(page, rows));
    this.#more.value = store.floor > 0;
    changed?.();
  }

  /** Asks who is there each time: a host that comes back may have another engine. */
  async #connect(): Promise<void> {
    const { transport, convId } = this.#options;
    const connection = new AbortController();
    this.#connection = connection;
    try {
      const health = await transport.probe(connection.signal);
      if (connection.signal.aborted) return;
      this.#health.value = health;
      // refused again though the host is well: reading the rows tells why
      if (this.#backoff.attempt > 1) await transport.timeline({ convId, limit: 1 }, connection.signal);
      if (connection.signal.aborted) return;
      this.#gate.restart();
      this.#greeted = false;
      this.#channel = transport.open(convId, {
        message: (message) => {
          if (!connection.signal.aborted) this.#receive(message, connection);
        },
        close: (reason) => {
          if (!connection.signal.aborted) this.#closed(reason);
        },
        fail: (failure) => {
          if (!connection.signal.aborted) this.#failed(failure);
        },
      });
    } catch (error) {
      if (!connection.signal.aborted) this.#failed(asFailure(error));
    }
  }

  #receive(message: unknown, connection: AbortController): void {
    const frame = readFrame(message);
    if (!frame) return;
    const greets = frame.event.type === "ws.hello";
    if (greets && this.#greeted) return; // said twice: another look at the rows could bring older ones
    if (!greets && !this.#greeted) {
      this.#closed("lost"); // where it begins was lost on the way, and is said once
      return;
    }
    this.#greeted = true;
    if (frame.event.type === "ws.pong") {
      const { version, notices } = readPong(frame.event.data);
      this.#notice(notices);
      void this.#compare(version, connection);
    }
    if (greets) {
      const hello = readHello(frame.event.data);
      this.#gate.arrive(held(frame));
      if (hello.protocol !== PROTOCOL) {
        this.#failed({
          kind: "http",
          message: `The ${this.#options.transport.name} speaks version ${hello.protocol} of the chat protocol and this page version ${PROTOCOL}. Reload the page; if that does not help, update webchat-widget.`,
        });
        return;
      }
      this.#since.value = hello.version;
      this.#enter("buffering");
      this.#options.connected?.();
      void this.#hydrate(hello.epoch, hello.version, connection);
      return;
    }
    const item = held(frame);
    const verdict = this.#gate.arrive(item);
    if (verdict === "held") return;
    if (verdict === "apply") {
      if (this.#apply(item)) {
        this.#gate.applied(item);
        this.#options.changed?.();
        return;
      }
      this.#gate.refused(item);
    }
    void this.#hydrate(this.#epoch ?? "", 0, connection);
  }

  /**
   * Asks for what is missing until the gate opens. The screen keeps what it shows meanwhile; another epoch
   * takes its place in one swap.
   */
  async #hydrate(epoch: string, atLeast: number, connection: AbortController): Promise<void> {
    const { signal } = connection;
    const waits = new Backoff(200, 5_000);
    const swap = this.#epoch !== epoch;
    if (swap) this.#gate.forget();
    let full = swap;
    let failure: Failure | null = null;
    let foreign = 0;
    let share = 1;
    while (!signal.aborted) {
      this.#enter("hydrating", waits.attempt > 2 ? failure : null);
      try {
        this.#gate.asking();
        this.#options.asking?.();
        const done = full
          ? await this.#fetchAll(epoch, atLeast, share, signal)
          : await this.#fetchSince(epoch, share, signal);
        if (signal.aborted) return;
        if (!done && ++foreign === FOREIGN) {
          this.#closed("lost"); // of another history all the time: the end of this stream was lost
          return;
        }
        if (done && this.#gate.covered >= atLeast) {
          full = false;
          this.#epoch = epoch;
          this.#enter("replaying");
          const outcome = this.#gate.replay((item) => this.#apply(item));
          this.#options.changed?.();
          if (outcome === "open") {
            this.#backoff.reset();
            this.#options.store.flush();
            this.#enter("live");
            this.#options.live?.();
            return;
          }
          if (waits.attempt === 0) {
            waits.next();
            continue; // the first resync goes at once
          }
        }
      } catch (error) {
        if (signal.aborted) return;
        failure = asFailure(error);
        if (failure.kind === "login" || failure.kind === "missing" || failure.kind === "gone") {
          this.#failed(failure);
          return;
        }
        share = Math.max(share / 2, LEAST); // the stream is there, so the answer may be too much for its way
      }
      await sleep(waits.next(), signal);
    }
  }

  /**
   * The newest rows of another history, and from further up what has not ended. Nothing is shown of it unless it
   * belongs to the stream's epoch.
   */
  async #fetchAll(epoch: string, atLeast: number, share: number, signal: AbortSignal): Promise<boolean> {
    const { transport, convId, store, keep, pageSize = FIRST_PAGE } = this.#options;
    const page = await transport.timeline({ convId, limit: Math.ceil(pageSize * share) }, signal);
    if (signal.aborted || (page.epoch !== null && page.epoch !== epoch)) return false;
    if (page.version < atLeast) return false;
    const rows = readRows(page.rows);
    const floor = floorOf(page, rows);
    if (floor > 0) {
      const open = await transport.timeline({ convId, unfinished: true }, signal);
      if (signal.aborted || (open.epoch !== null && open.epoch !== epoch)) return false;
      rows.unshift(...readRows(open.rows).filter(({ createdSeq = floor }) => createdSeq < floor));
    }
    store.replaceAll(rows, keep, floor);
    this.#more.value = store.floor > 0;
    this.#gate.snapshot(page.version);
    return true;
  }

  /** What changed since `covered`, page by page. */
  async #fetchSince(epoch: string, share: number, signal: AbortSignal): Promise<boolean> {
    const { transport, convId, store } = this.#options;
    for (;;) {
      const since = this.#gate.covered;
      const page = await transport.timeline({ convId, since, limit: Math.ceil(1000 * share) }, signal);
      if (signal.aborted || (page.epoch !== null && page.epoch !== epoch)) return false;
      for (const row of readRows(page.rows)) store.upsertEntity(row);
      this.#gate.snapshot(page.version);
      if (!page.more || page.version <= since) return true;
    }
  }

  #apply(item: Held): boolean {
    const { event } = item.frame;
    if (event.type.startsWith("ws.")) return true;
    return this.#options.registry.apply(event, this.#options.store) !== "gap";
  }

  /** A host that is further than this page has said something that never came, and no hole has shown it. */
  async #compare(version: number, connection: AbortController): Promise<void> {
    if (version <= this.#gate.covered) return;
    await sleep(UNDER_WAY_MS, connection.signal);
    if (connection.signal.aborted || !this.#gate.open || version <= this.#gate.covered) return;
    this.#gate.shut();
    await this.#hydrate(this.#epoch ?? "", 0, connection);
  }

  /** A disk fails, and works again, while pages are open. */
  #notice(notices: readonly string[] | null): void {
    const health = this.#health.value;
    if (!health || !notices || String(notices) === String(health.notices)) return;
    this.#health.value = { ...health, notices };
  }

  #closed(reason: CloseReason): void {
    this.#teardown();
    if (reason === "deleted") {
      this.#options.store.replaceAll([]);
      this.#more.value = false;
      this.#epoch = null;
      this.#options.changed?.();
      this.#enter("error", {
        kind: "http",
        message: "This conversation was deleted. Retry to begin a new one in its place.",
      });
      return;
    }
    if (reason === "refused" && this.#backoff.attempt >= REFUSALS) {
      this.#enter("error", { kind: "http", message: REFUSED });
    } else {
      this.#enter(this.#status.value.hydrated || reason !== "refused" ? "reconnecting" : "connecting");
    }
    const wait = reason === "slow" ? 0 : this.#backoff.next();
    this.#later(wait);
  }

  #failed(failure: Failure): void {
    this.#teardown();
    const passing = PASSING.has(failure.kind);
    this.#enter(failure.kind === "network" ? "offline" : "error", failure);
    // someone may log in or switch the extension on in another tab: look again now and then
    this.#later(passing ? this.#backoff.next() : SLOW_RETRY_MS);
  }

  #later(ms: number): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#connect(), ms);
  }

  #teardown(): void {
    clearTimeout(this.#retry);
    this.#gate.shut(); // nothing asks for rows of a stream that has ended
    this.#connection.abort();
    this.#channel?.close();
    this.#channel = null;
  }

  #enter(phase: Phase, failure: Failure | null = null): void {
    const hydrated = phase === "live" || this.#status.value.hydrated;
    this.#status.value = { phase, failure, hydrated };
  }
}

function held(frame: SemFrame): Held {
  return { n: frame.n, seq: frame.event.seq, frame };
}

/** Where the rows of a page begin, if there are others before them. */
function floorOf(page: { readonly more: boolean }, rows: readonly EntityInput[]): number {
  return (page.more && rows.find((row) => row.createdSeq !== undefined)?.createdSeq) || 0;
}

function readRows(rows: readonly unknown[]): EntityInput[] {
  return rows.map(readEntity).filter((row): row is EntityInput => row !== null);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
