import { newKey } from "../ids";
import type { Entity } from "../timeline/entities";
import type { TimelineStore } from "../timeline/store";
import { asFailure, type Transport } from "../transport/transport";

/** Is this row a prompt that only this page knows yet? Its id is its idempotency key. */
export function isLocal(entity: Entity): boolean {
  return entity.kind === "message" && entity.props.local === true;
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
  readonly #waiting = new Map<string, { prompt: string; profile: string; runId: string | null }>();
  readonly #closing = new AbortController();

  constructor(transport: Transport, store: TimelineStore, convId: string) {
    this.#transport = transport;
    this.#store = store;
    this.#convId = convId;
  }

  send(prompt: string, profile: string): void {
    const key = newKey();
    this.#waiting.set(key, { prompt, profile, runId: null });
    this.#store.addEntity({
      id: key,
      kind: "message",
      props: { role: "user", content: prompt, status: "pending", local: true },
    });
    void this.#post(key);
  }

  retry(key: string): void {
    if (this.#status(key) !== "failed") return;
    this.#mark(key, { status: "pending", error: undefined });
    void this.#post(key);
  }

  /** Takes a prompt that failed off the screen. */
  discard(key: string): void {
    if (this.#status(key) !== "failed") return;
    this.#waiting.delete(key);
    this.#store.removeEntity(key);
  }

  /** Is this queued run's prompt on the screen as one of our own rows? */
  showsRun(run: Entity): boolean {
    const key = run.props.idempotencyKey;
    return typeof key === "string" && this.#waiting.has(key) && this.#store.has(key);
  }

  /** Hands rows over to the messages and runs that have arrived for them. */
  settle(): void {
    if (this.#waiting.size === 0) return;
    const arrived = new Map<unknown, Entity>();
    for (const entity of this.#store.snapshot().slice(-500)) {
      if (entity.kind === "message" && typeof entity.props.idempotencyKey === "string") {
        arrived.set(entity.props.idempotencyKey, entity);
      }
    }
    for (const [key, { runId }] of this.#waiting) {
      const message = arrived.get(key);
      if (message) {
        this.#waiting.delete(key);
        this.#store.rekeyEntity(key, message.id);
        continue;
      }
      const run = runId === null ? undefined : this.#store.get(runId);
      if (run?.props.status === "queued") {
        this.#mark(key, { status: "queued", queuePosition: run.props.queuePosition, runId });
      } else if (run && run.props.status !== "started") {
        this.#waiting.delete(key); // taken out of the queue before it ran
        this.#store.removeEntity(key);
      }
    }
  }

  close(): void {
    this.#closing.abort();
  }

  async #post(key: string): Promise<void> {
    const waiting = this.#waiting.get(key);
    if (!waiting) return;
    const { prompt, profile } = waiting;
    const { signal } = this.#closing;
    try {
      const reply = await this.#transport.chat({ convId: this.#convId, profile, prompt, key }, signal);
      if (signal.aborted) return;
      waiting.runId = reply.runId;
      if (reply.status === "queued" && this.#waiting.has(key)) {
        this.#mark(key, { status: "queued", queuePosition: reply.queuePosition, runId: reply.runId });
      }
      this.settle();
    } catch (error) {
      if (!signal.aborted) this.#mark(key, { status: "failed", error: asFailure(error).message });
    }
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
