import type { EntityInput, Props } from "../timeline/entities";
import type { Outcome, TextPart, TimelineStore } from "../timeline/store";
import { isRecord, type SemEvent } from "./frames";

/** A start: makes the row, and changes nothing where it is there already. */
export function start(event: SemEvent, store: TimelineStore, kind: string, props: Props): Outcome {
  return store.addEntity({ id: event.id, kind, createdSeq: event.seq, version: seqOf(event), props });
}

/** A frame that says all there is to say: makes the row, or merges into it. */
export function create(event: SemEvent, store: TimelineStore, kind: string, props: Props): Outcome {
  const createdSeq = event.createdSeq ?? event.seq;
  return lay(store, { id: event.id, kind, createdSeq, version: seqOf(event), props });
}

/** Makes the row or merges into it; a gap where the row was made above the floor, and this is but a part of it. */
export function lay(store: TimelineStore, row: EntityInput): Outcome {
  if (!store.has(row.id) && (row.createdSeq ?? store.floor) < store.floor) return "gap";
  return store.upsertEntity(row);
}

/** Appends what the frame says to append, and lays props over the row in the same step. */
export function grow({ id, data, seq }: SemEvent, store: TimelineStore, props: Props = {}): Outcome {
  const parts: TextPart[] = [];
  for (const [prop, change] of Object.entries(isRecord(data.append) ? data.append : {})) {
    if (!isRecord(change) || typeof change.delta !== "string") continue;
    const offset = typeof change.offset === "number" ? change.offset : undefined;
    parts.push({ prop, offset, delta: change.delta });
  }
  return store.appendText(id, seq ?? 0, parts, props);
}

/** Only what is named: a frame sets no prop that it does not name. */
export function pick(from: Props | undefined, ...names: string[]): Props {
  const named = names.filter((name) => from?.[name] !== undefined && from[name] !== null);
  return Object.fromEntries(named.map((name) => [name, from?.[name]]));
}

export function seqOf(event: SemEvent): number {
  return event.seq ?? 0;
}
