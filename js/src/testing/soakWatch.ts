import { isLocal } from "../session/outbox";
import { type Entity, isTerminal } from "../timeline/entities";
import type { Row, TimelineStore } from "../timeline/store";

/** A host that crashed may take the last words back, and says so. */
const CUT = new Set<unknown>(["interrupted", "error"]);

/**
 * Reads along as a person does, at each change of the screen: tells of every row that goes back, goes on after its end,
 * vanishes or stands in another place.
 */
export class SoakWatch {
  readonly #store: TimelineStore;
  readonly #tell: (what: string) => void;
  readonly #seen = new Map<string, Entity>();
  readonly #watched = new Map<symbol, () => void>();
  readonly #end: () => void;

  constructor(store: TimelineStore, tell: (what: string) => void) {
    this.#store = store;
    this.#tell = tell;
    this.#end = store.order.subscribe((rows) => this.#ordered(rows));
  }

  close(): void {
    this.#end();
    for (const end of this.#watched.values()) end();
  }

  #ordered(rows: readonly Row[]): void {
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, end] of this.#watched) {
      if (keys.has(key)) continue;
      end();
      this.#watched.delete(key);
    }
    for (const { key, entity } of rows) {
      if (!this.#watched.has(key))
        this.#watched.set(
          key,
          entity.subscribe((now) => this.#read(now)),
        );
    }
    const shown = rows.map(({ entity }) => entity.peek()).filter((row) => !isLocal(row));
    const ids = new Set(shown.map(({ id }) => id));
    for (const { id, createdSeq = 0 } of this.#seen.values()) {
      if (!ids.has(id) && createdSeq >= this.#store.floor) this.#broken(id, "has vanished");
    }
    let last = 0;
    for (const { id, createdSeq = 0 } of shown) {
      if (createdSeq <= last) this.#broken(id, "is out of its order");
      last = createdSeq;
    }
  }

  #read(now: Entity): void {
    if (isLocal(now)) return;
    const before = this.#seen.get(now.id);
    this.#seen.set(now.id, now);
    if (!before) return;
    const { id, kind, props, version } = now;
    if (version < before.version) this.#broken(id, `goes back: ${JSON.stringify([before, now])}`);
    if (now.createdSeq !== before.createdSeq) this.#broken(id, "has another place");
    if (isTerminal(kind, before.props) && JSON.stringify(props) !== JSON.stringify(before.props)) {
      this.#broken(id, `has ended and changes: ${JSON.stringify([before.props, props])}`);
    }
    const [old, text] = [String(before.props.content ?? ""), String(props.content ?? "")];
    if (!text.startsWith(old) && !(CUT.has(props.status) && old.startsWith(text))) {
      this.#broken(id, `reads otherwise: ${JSON.stringify([old, text])}`);
    }
  }

  #broken(id: string, what: string): void {
    this.#seen.delete(id); // once is enough
    this.#tell(`${id} ${what}`);
  }
}
