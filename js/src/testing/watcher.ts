import { type Entity, isTerminal } from "../timeline/entities";
import type { TimelineStore } from "../timeline/store";

const CUT = new Set<unknown>(["interrupted", "error"]);

/**
 * Looks at a page as a person does: what was read stays, in its order, and what has ended stays ended; only a crash takes
 * the last words back, and says so. Throws where it is not so.
 */
export class Watcher {
  readonly #store: TimelineStore;
  readonly #gone: ReadonlySet<string>;
  readonly #seen = new Map<string, Entity>();
  #emptied = false;

  /** `gone`: rows that a host took back, of which nothing is expected any more. */
  constructor(store: TimelineStore, gone: ReadonlySet<string>) {
    this.#store = store;
    this.#gone = gone;
    store.order.subscribe((rows) => {
      this.#emptied ||= rows.length === 0 && this.#expected().length > 0;
    });
  }

  look(): void {
    must(!this.#emptied, "the screen was empty for a moment");
    const shown = this.#store.snapshot();
    let last = 0;
    for (const entity of shown) {
      const before = this.#seen.get(entity.id);
      if (before && !this.#gone.has(entity.id)) same(before, entity);
      must((entity.createdSeq ?? 0) > last, `${entity.id} is out of its order`);
      last = entity.createdSeq ?? 0;
      this.#seen.set(entity.id, entity);
    }
    const ids = new Set(shown.map(({ id }) => id));
    for (const { id } of this.#expected()) must(ids.has(id), `${id} has vanished`);
  }

  /** What was seen and is not above the first row that is shown by now. */
  #expected(): Entity[] {
    const { floor } = this.#store;
    return [...this.#seen.values()].filter(
      ({ id, createdSeq = 0 }) => !this.#gone.has(id) && createdSeq >= floor,
    );
  }
}

function same(before: Entity, after: Entity): void {
  const { id, kind, props } = after;
  must(after.createdSeq === before.createdSeq, `${id} has another place`);
  must(!isTerminal(kind, before.props) || isTerminal(kind, props), `${id} goes on after its end`);
  const [old, now] = [text(before), text(after)];
  must(now.startsWith(old) || (CUT.has(props.status) && old.startsWith(now)), `${id} reads otherwise`);
}

function text({ props }: Entity): string {
  return String(props.content ?? props.reasoning ?? "");
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
