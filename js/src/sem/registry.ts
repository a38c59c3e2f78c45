import type { Outcome, TimelineStore } from "../timeline/store";
import type { SemEvent } from "./frames";

/** What became of an event; `ignored`: nobody knows its type. */
export type Applied = Outcome | "ignored";

export type SemHandler = (event: SemEvent, store: TimelineStore) => Outcome;

/** Routes events to the handler of their type. Unknown types are counted, never fatal. */
export class SemRegistry {
  readonly #handlers = new Map<string, SemHandler>();
  ignored = 0;

  /** Registers the handler of a type; returns how to take it back. */
  register(type: string, handler: SemHandler): () => void {
    this.#handlers.set(type, handler);
    return () => {
      if (this.#handlers.get(type) === handler) this.#handlers.delete(type);
    };
  }

  apply(event: SemEvent, store: TimelineStore): Applied {
    const handler = this.#handlers.get(event.type);
    if (!handler) {
      this.ignored += 1;
      return "ignored";
    }
    return handler(event, store);
  }
}
