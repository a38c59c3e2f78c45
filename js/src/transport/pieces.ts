import { record } from "../http/replies";

/** So many unfinished messages are kept; there are more only where last pieces were lost. */
const KEPT = 4;

interface Begun {
  text: string;
  next: number;
}

/**
 * Joins large messages, whose pieces come in order. What can't be whole any more, because a piece is missing,
 * is dropped.
 */
export class Pieces {
  readonly #begun = new Map<string, Begun>();

  /** The message that is whole now; undefined where none is, yet or ever. */
  take(piece: unknown, text: unknown): unknown {
    const { of, index, count } = record(piece) ?? {};
    if (typeof of !== "string" || typeof text !== "string" || typeof count !== "number") return undefined;
    const begun = this.#begun.get(of) ?? (index === 0 ? this.#begin(of) : undefined);
    if (!begun || typeof index !== "number" || index < begun.next) return undefined; // came twice
    if (index !== begun.next) {
      this.#begun.delete(of);
      return undefined;
    }
    begun.text += text;
    begun.next += 1;
    if (begun.next < count) return undefined;
    this.#begun.delete(of);
    try {
      return JSON.parse(begun.text);
    } catch {
      return undefined;
    }
  }

  #begin(of: string): Begun {
    const begun = { text: "", next: 0 };
    this.#begun.set(of, begun);
    for (const oldest of this.#begun.keys()) if (this.#begun.size > KEPT) this.#begun.delete(oldest);
    return begun;
  }
}
