import type { Picture } from "../http/replies";
import { newKey } from "../ids";
import type { Entity } from "../timeline/entities";
import type { TimelineStore } from "../timeline/store";
import { asFailure, type Failure, type Transport } from "../transport/transport";

/** Is this row a prompt that only this page knows yet? Its id is its idempotency key. */
export function isLocal(entity: Entity): boolean {
  return entity.kind === "message" && entity.props.local === true;
}

/** A prompt of this page's that its host knows nothing of yet, as far as the page can tell. */
export function isOurs(entity: Entity): boolean {
  return isLocal(entity) && entity.props.status !== "queued";
}

/** A prompt that its session never saw arrive. */
export interface Unsettled {
  readonly key: string;
  readonly prompt: string;
  readonly profile: string;
  readonly pictures: readonly Picture[];
  /** Why it was not sent, where a person is to decide what becomes of it. */
  readonly error: unknown;
}

interface Waiting {
  readonly prompt: string;
  readonly profile: string;
  readonly pictures: readonly Picture[];
  runId: string | null;
  /** Where the rows on the screen began when it was sent: its message comes after that. */
  readonly floor: number;
  /** The host was asked for what is new after it said that it has it. */
  sought: boolean;
  /** Left to us by a former session: its host may have taken it, and brought it to ours. */
  inherited: boolean;
  /** Refused by a host that has no say any more. */
  moved: boolean;
}

/**
 * Prompts on their way. Each shows at once as a row that sorts last; the user message that carries its key
 * takes the row over, so it never flickers. One that could not be sent stays, with the reason, and Retry sends
 * it again under the same key: the server makes one run of it, however often it arrives.
 */
export class Outbox {
  readonly #transport: Transport;
  readonly #store: TimelineStore;
  readonly #convId: string;
  readonly #answered: (failure: Failure | null) => void;
  readonly #waiting = new Map<string, Waiting>();
  readonly #closing = new AbortController();

  /** `answered` hears what came of each attempt to send a prompt. */
  constructor(
    transport: Transport,
    store: TimelineStore,
    convId: string,
    answered: (failure: Failure | null) => void = () => {},
  ) {
    this.#answered = answered;
    this.#transport = transport;
    this.#store = store;
    this.#convId = convId;
  }

  send(prompt: string, profile: string, pictures: readonly Picture[] = []): void {
    const key = newKey();
    this.#add({ key, prompt, profile, pictures, error: undefined }, this.#store.floor);
    void this.#post(key);
  }

  /** What another session of the conversation may have to care for: all that has not arrived. */
  unsettled(): Unsettled[] {
    return [...this.#waiting].flatMap(([key, { prompt, profile, pictures, moved }]) => {
      const row = this.#store.get(key);
      if (!row) return [];
      const failed = row.props.status === "failed" && !moved;
      return [{ key, prompt, profile, pictures, error: failed ? row.props.error : undefined }];
    });
  }

  /**
   * Takes over what a former session left. It shows at once; what was not refused is sent again under its key
   * by `sendInherited`, when the rows have told that it did not arrive: hosts do not know each other's keys.
   */
  inherit(left: readonly Unsettled[]): void {
    for (const each of left) if (!this.#waiting.has(each.key)) this.#add(each, 0, each.error === undefined);
  }

  /** To be called when the host's rows are here. */
  sendInherited(): void {
    for (const [key, waiting] of this.#waiting) {
      if (!waiting.inherited) continue;
      waiting.inherited = false;
      if (this.#status(key) === "pending") void this.#post(key);
    }
  }

  retry(key: string): void {
    if (this.#status(key) !== "failed") return;
    this.#mark(key, { status: "pending", error: undefined });
    void this.#post(key);
  }

  /** Takes a prompt that failed off the screen. */
  discard(key: string): void {
    if (this.#status(key) === "failed") this.#drop(key);
  }

  /** The row on the screen that shows this queued run's prompt, where it is one of our own; its id. */
  rowOf(run: Entity): string | null {
    const key = run.props.idempotencyKey;
    return typeof key === "string" && this.#waiting.has(key) && this.#store.has(key) ? key : null;
  }

  /** Hands rows over to the messages and runs that have arrived for them. */
  settle(): void {
    if (this.#waiting.size === 0) return;
    const arrived = new Map<unknown, Entity>();
    const runs = new Map<unknown, Entity>();
    for (const entity of this.#store.snapshot().slice(-500)) {
      if (typeof entity.props.idempotencyKey !== "string") continue;
      if (entity.kind === "message") arrived.set(entity.props.idempotencyKey, entity);
      if (entity.kind === "run") runs.set(entity.props.idempotencyKey, entity);
    }
    for (const [key, { runId }] of this.#waiting) {
      const message = arrived.get(key);
      if (message) {
        this.#waiting.delete(key);
        this.#store.rekeyEntity(key, message.id);
        continue;
      }
      const run = runId === null ? runs.get(key) : this.#store.get(runId);
      if (run?.props.status === "queued") {
        this.#mark(key, { status: "queued", queuePosition: run.props.queuePosition, runId: run.id });
      } else if (run && (run.props.status !== "started" || this.#isAbove(run))) {
        this.#drop(key); // taken out of the queue before it ran, or its message stands further up
      }
    }
  }

  /** To be called when the host is about to be asked for what is new: of what it has taken it will know. */
  seek(): void {
    for (const waiting of this.#waiting.values()) waiting.sought = waiting.runId !== null;
  }

  /**
   * To be called when all of that is here. What was taken and is unknown all the same stands above the first row, where
   * another history has come meanwhile. Returns whether the host has to be asked for more to say so.
   */
  sought(): boolean {
    let unsure = false;
    for (const [key, { runId, floor, sought }] of this.#waiting) {
      if (runId === null || this.#store.has(runId) || this.#store.floor <= floor) continue;
      if (sought) this.#drop(key);
      else unsure = true;
    }
    return unsure;
  }

  close(): void {
    this.#closing.abort();
  }

  async #post(key: string): Promise<void> {
    const waiting = this.#waiting.get(key);
    if (!waiting) return;
    const { prompt, profile, pictures } = waiting;
    waiting.moved = false;
    const { signal } = this.#closing;
    try {
      const request = { convId: this.#convId, profile, prompt, key, pictures };
      const reply = await this.#transport.chat(request, signal);
      if (signal.aborted) return;
      waiting.runId = reply.runId;
      if (reply.status === "queued" && this.#waiting.has(key)) {
        this.#mark(key, { status: "queued", queuePosition: reply.queuePosition, runId: reply.runId });
      }
      this.settle();
      this.#answered(null);
    } catch (error) {
      if (signal.aborted) return;
      const failure = asFailure(error);
      waiting.moved = failure.kind === "moved";
      this.#mark(key, { status: "failed", error: failure.message });
      this.#answered(failure);
    }
  }

  #add({ key, prompt, profile, pictures, error }: Unsettled, floor: number, inherited = false): void {
    const known = { runId: null, floor, sought: false, inherited, moved: false };
    this.#waiting.set(key, { prompt, profile, pictures, ...known });
    const status = error === undefined ? "pending" : "failed";
    this.#store.addEntity({
      id: key,
      kind: "message",
      props: { role: "user", content: prompt, images: pictures, status, error, local: true },
    });
  }

  #drop(key: string): void {
    this.#waiting.delete(key);
    this.#store.removeEntity(key);
  }

  #isAbove({ createdSeq = Infinity }: Entity): boolean {
    return createdSeq < this.#store.floor;
  }

  #status(key: string): unknown {
    return this.#store.get(key)?.props.status;
  }

  #mark(key: string, props: Record<string, unknown>): void {
    const row = this.#store.get(key);
    if (!row || !isLocal(row)) return;
    if (Object.entries(props).every(([name, value]) => row.props[name] === value)) return;
    this.#store.upsertEntity({ id: key, kind: "message", props });
  }
}
