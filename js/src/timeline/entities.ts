/** One row of the timeline, as `/timeline` gives it and as the page keeps it. */
export type Props = Record<string, unknown>;

export interface Entity {
  readonly id: string;
  readonly kind: string;
  readonly createdAt?: number;
  readonly updatedAt?: number;
  readonly createdSeq?: number;
  readonly version: number;
  readonly props: Props;
}

/** What may come in: times are derived, `version` may be missing (it then counts as 0). */
export interface EntityInput {
  id: string;
  kind: string;
  createdSeq?: number | undefined;
  version?: number | undefined;
  props: Props;
}

const TERMINAL_RUNS = new Set<unknown>(["finished", "stopped", "failed"]);
const ENDED = new Set<unknown>(["completed", "error"]);

/** Has this row ended for good? Custom kinds never have: their props are theirs. */
export function isTerminal(kind: string, props: Props): boolean {
  switch (kind) {
    case "message":
      return props.streaming === false;
    case "tool_call":
      return props.done === true;
    case "run":
      return TERMINAL_RUNS.has(props.status);
    case "planning":
    case "thinking_mode":
      return ENDED.has(props.status);
    case "debugger_pause":
      return props.status !== "paused";
    default:
      return false;
  }
}

/** Times are never sent; both sides derive them: floor(seq / 1000) is Unix ms. */
export function withTimes(row: EntityInput & { version: number }): Entity {
  const { id, kind, createdSeq, version, props } = row;
  const updatedAt = Math.floor(version / 1000);
  if (createdSeq === undefined) return { id, kind, updatedAt, version, props };
  return { id, kind, createdAt: Math.floor(createdSeq / 1000), updatedAt, createdSeq, version, props };
}

/** A row from outside, or null where it has not even an id and a kind. */
export function readEntity(value: unknown): EntityInput | null {
  if (typeof value !== "object" || value === null) return null;
  const { id, kind, createdSeq, version, props } = value as Record<string, unknown>;
  if (typeof id !== "string" || id === "" || typeof kind !== "string") return null;
  return {
    id,
    kind,
    createdSeq: isSeq(createdSeq) ? createdSeq : undefined,
    version: isSeq(version) ? version : undefined,
    props: typeof props === "object" && props !== null && !Array.isArray(props) ? (props as Props) : {},
  };
}

export function isSeq(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
