import { batch, type ReadonlySignal, type Signal, signal } from "@preact/signals-core";
import { type Entity, type EntityInput, type Props, withTimes } from "./entities";
import { foldText } from "./fold";
import { merge } from "./merge";

/**
 * One row on the screen. `key` outlives a rekey, so the element (and a selection in it) stays; no row of another store has
 * it, for a view may go from one to the other.
 */
export interface Row {
  readonly key: symbol;
  readonly entity: ReadonlySignal<Entity>;
}

export type Outcome = "applied" | "stale" | "gap";

interface Slot extends Row {
  readonly entity: Signal<Entity>;
  current: Entity;
  dirty: boolean;
  /** Sort key: createdSeq; rows without one come after all others, by arrival. */
  place: number;
}

const ARRIVAL = Number.MAX_SAFE_INTEGER + 1;

/**
 * The timeline of one conversation: a signal per row, and an `order` that changes only when rows come, go or
 * move. Writes land at once in the rows' `current` state; signals follow on `flush`, which `schedule` puts
 * off to the next frame, so however many deltas arrive a card renders once.
 */
export class TimelineStore {
  readonly #slots = new Map<string, Slot>();
  readonly #order = signal<readonly Row[]>([]);
  readonly #kinds = new Map<string, Signal<readonly Entity[]>>();
  readonly #schedule: (flush: () => void) => void;
  #rows: Slot[] = [];
  #dirty = new Set<Slot>();
  #dirtyKinds = new Set<string>();
  #orderDirty = false;
  #scheduled = false;
  #arrivals = 0;
  #floor = 0;

  constructor(schedule: (flush: () => void) => void = queueMicrotask) {
    this.#schedule = schedule;
  }

  get order(): ReadonlySignal<readonly Row[]> {
    return this.#order;
  }

  /** All rows of a kind, shown or not, as one signal: for the few that are looked at together (runs). */
  ofKind(kind: string): ReadonlySignal<readonly Entity[]> {
    let found = this.#kinds.get(kind);
    if (!found) {
      found = signal(this.#collect(kind));
      this.#kinds.set(kind, found);
    }
    return found;
  }

  get(id: string): Entity | undefined {
    return this.#slots.get(id)?.current;
  }

  has(id: string): boolean {
    return this.#slots.has(id);
  }

  /** How many rows are shown. */
  get size(): number {
    return this.#rows.length;
  }

  /**
   * Rows with a lower `createdSeq` are kept up to date but not shown: what lies between them and those on the screen
   * is not here yet. 0: all are shown.
   */
  get floor(): number {
    return this.#floor;
  }

  /** Shows rows from further up; what was kept of them comes too. A higher floor than the one there is changes nothing. */
  lowerFloor(floor: number): void {
    if (floor >= this.#floor) return;
    this.#floor = floor;
    this.#seatAll();
    this.#flushSoon();
  }

  /** The rows that are shown, as plain data, in order. */
  snapshot(): Entity[] {
    return this.#rows.map((slot) => slot.current);
  }

  /** All rows, shown or not, as plain data. */
  all(): Entity[] {
    return [...this.#slots.values()].map((slot) => slot.current);
  }

  /** Adds a row; does nothing where the id exists. */
  addEntity(input: EntityInput): Outcome {
    if (this.#slots.has(input.id)) return "stale";
    this.#insert(withTimes({ ...input, version: input.version ?? 0 }));
    return "applied";
  }

  /** Adds a row, or merges into the one that is there. */
  upsertEntity(input: EntityInput): Outcome {
    const slot = this.#slots.get(input.id);
    if (!slot) return this.addEntity(input);
    const merged = merge<EntityInput>(slot.current, input);
    if (merged === slot.current) return "stale";
    this.#write(slot, withTimes({ ...merged, version: merged.version ?? 0 }));
    return "applied";
  }

  /** Lays props over a row that must exist; a gap where it does not. */
  patchEntity(id: string, version: number, props: Props): Outcome {
    return this.foldEntity(id, version, () => props);
  }

  /** The same with props that follow from those that the row has. */
  foldEntity(id: string, version: number, fold: (old: Props) => Props): Outcome {
    const current = this.get(id);
    if (!current) return "gap";
    return this.upsertEntity({ id, kind: current.kind, version, props: fold(current.props) });
  }

  /** Appends to text props of one row: all of them or, on a gap, none. */
  appendText(id: string, version: number, parts: readonly TextPart[], props: Props = {}): Outcome {
    const slot = this.#slots.get(id);
    if (!slot) return "gap";
    if (version <= slot.current.version) return "stale";
    const grown: Props = { ...props };
    for (const { prop, offset, delta } of parts) {
      const old = slot.current.props[prop];
      const content = typeof old === "string" ? old : "";
      const folded = foldText(content, offset ?? content.length, delta);
      if (folded === "gap") return "gap";
      grown[prop] = folded.content;
    }
    return this.upsertEntity({ id, kind: slot.current.kind, version, props: grown });
  }

  /** Gives a row another id. It keeps its place and its element; a row already under `to` is merged into it. */
  rekeyEntity(from: string, to: string): void {
    const slot = this.#slots.get(from);
    if (!slot || from === to) return;
    const other = this.#slots.get(to);
    if (other) {
      this.removeEntity(to);
      this.#slots.delete(from);
      this.#slots.set(to, slot);
      this.#write(slot, other.current);
      return;
    }
    this.#slots.delete(from);
    this.#slots.set(to, slot);
    this.#write(slot, { ...slot.current, id: to });
  }

  removeEntity(id: string): void {
    const slot = this.#slots.get(id);
    if (!slot) return;
    this.#slots.delete(id);
    const shown = this.#unseat(slot);
    this.#dirty.delete(slot);
    this.#touch(slot.current.kind, shown);
  }

  clear(): void {
    this.replaceAll([]);
  }

  /**
   * Another history takes the place of this one, in one swap, with the floor that it begins at. Rows that `keep` names
   * (prompts on their way) stay; rows that are in both keep their elements.
   */
  replaceAll(
    inputs: readonly EntityInput[],
    keep: (entity: Entity) => boolean = () => false,
    floor = 0,
  ): void {
    const coming = new Map<string, EntityInput>();
    for (const input of inputs) coming.set(input.id, merge(coming.get(input.id), input));
    for (const slot of [...this.#slots.values()]) {
      const { id } = slot.current;
      if (!coming.has(id) && !keep(slot.current)) this.removeEntity(id);
    }
    this.#floor = floor;
    for (const input of coming.values()) {
      const entity = withTimes({ ...input, version: input.version ?? 0 });
      const slot = this.#slots.get(input.id);
      if (slot) this.#write(slot, entity);
      else this.#insert(entity);
    }
    this.#seatAll();
    this.flush();
  }

  /** Lets the signals catch up with the rows, all in one batch. */
  flush(): void {
    this.#scheduled = false;
    batch(() => {
      for (const slot of this.#dirty) {
        slot.dirty = false;
        slot.entity.value = slot.current;
      }
      this.#dirty.clear();
      for (const kind of this.#dirtyKinds) {
        const watched = this.#kinds.get(kind);
        if (watched) watched.value = this.#collect(kind);
      }
      this.#dirtyKinds.clear();
      if (this.#orderDirty) {
        this.#orderDirty = false;
        this.#order.value = [...this.#rows];
      }
    });
  }

  #collect(kind: string): readonly Entity[] {
    const found = [...this.#slots.values()].filter((slot) => slot.current.kind === kind);
    return found.sort((a, b) => a.place - b.place).map((slot) => slot.current);
  }

  #insert(entity: Entity): void {
    const slot: Slot = {
      key: Symbol(),
      entity: signal(entity),
      current: entity,
      dirty: false,
      place: this.#placeOf(entity),
    };
    this.#slots.set(entity.id, slot);
    this.#touch(entity.kind, this.#seat(slot));
  }

  #write(slot: Slot, entity: Entity): void {
    const moved = entity.createdSeq !== slot.current.createdSeq;
    const kinds = [slot.current.kind, entity.kind];
    slot.current = entity;
    if (moved) {
      this.#unseat(slot);
      slot.place = this.#placeOf(entity);
      this.#seat(slot);
    }
    slot.dirty = true;
    this.#dirty.add(slot);
    for (const kind of kinds) this.#touch(kind, moved);
  }

  #placeOf(entity: Entity): number {
    return entity.createdSeq ?? ARRIVAL + 2 * this.#arrivals++;
  }

  /** Is it shown? Binary search from the right: new rows nearly always come last. */
  #seat(slot: Slot): boolean {
    if (slot.place < this.#floor) return false;
    const rows = this.#rows;
    let low = 0;
    let high = rows.length;
    if (high > 0 && (rows[high - 1] as Slot).place <= slot.place) low = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((rows[middle] as Slot).place <= slot.place) low = middle + 1;
      else high = middle;
    }
    rows.splice(low, 0, slot);
    return true;
  }

  /** Was it shown? */
  #unseat(slot: Slot): boolean {
    const at = this.#rows.indexOf(slot);
    if (at < 0) return false;
    this.#rows.splice(at, 1);
    return true;
  }

  #seatAll(): void {
    const shown = [...this.#slots.values()].filter(({ place }) => place >= this.#floor);
    this.#rows = shown.sort((a, b) => a.place - b.place);
    for (const kind of this.#kinds.keys()) this.#dirtyKinds.add(kind);
    this.#orderDirty = true;
  }

  #touch(kind: string, order: boolean): void {
    if (this.#kinds.has(kind)) this.#dirtyKinds.add(kind);
    this.#orderDirty ||= order;
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }
}

export interface TextPart {
  readonly prop: string;
  /** Where the delta begins; missing: at the end. */
  readonly offset: number | undefined;
  readonly delta: string;
}
