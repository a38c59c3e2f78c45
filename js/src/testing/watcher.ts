import { expect } from "vitest";
import { type Entity, isTerminal } from "../timeline/entities";
import type { TimelineStore } from "../timeline/store";

const CUT = new Set<unknown>(["interrupted", "error"]);

/** Looks at a page as a person does: what was read stays, in its order; only a crash takes the last words back. */
export class Watcher {
  readonly #store: TimelineStore;
  readonly #seen = new Map<string, Entity>();
  #emptied = false;

  /** `gone`: rows that a host took back, of which nothing is expected any more. */
  constructor(
    store: TimelineStore,
    readonly gone: ReadonlySet<string>,
  ) {
    this.#store = store;
    store.order.subscribe((rows) => {
      const stays = [...this.#seen.keys()].some((id) => !gone.has(id));
      this.#emptied ||= stays && rows.length === 0;
    });
  }

  look(): void {
    expect(this.#emptied).toBe(false);
    let last = 0;
    for (const entity of this.#store.snapshot()) {
      const before = this.#seen.get(entity.id);
      if (before && !this.gone.has(entity.id)) this.#same(before, entity);
      expect(entity.createdSeq).toBeGreaterThan(last);
      last = entity.createdSeq ?? 0;
      this.#seen.set(entity.id, entity);
    }
  }

  #same(before: Entity, after: Entity): void {
    expect(after.createdSeq).toBe(before.createdSeq);
    expect(isTerminal(before.kind, before.props) && !isTerminal(after.kind, after.props)).toBe(false);
    const [old, now] = [before, after].map(({ props }) => String(props.content ?? props.reasoning ?? ""));
    if (CUT.has(after.props.status))
      expect(old?.startsWith(now ?? "") || now?.startsWith(old ?? "")).toBe(true);
    else expect(now?.startsWith(old ?? "")).toBe(true);
  }
}
