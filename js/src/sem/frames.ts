/** SEM frames as they come over the wire: words only. */
export interface SemEvent {
  readonly type: string;
  readonly id: string;
  readonly seq?: number | undefined;
  /** Where its row was made, in a frame that may make one and finds it there. */
  readonly createdSeq?: number | undefined;
  readonly data: Record<string, unknown>;
  readonly metadata?: Record<string, unknown> | undefined;
}

export interface SemFrame {
  /** Counts 1, 2, 3 … per channel; a hole in it is a gap. */
  readonly n?: number | undefined;
  readonly event: SemEvent;
}

export interface Hello {
  readonly protocol: number;
  readonly epoch: string;
  readonly version: number;
}

/** The frame in a parsed message, or null where it is none: such a message is skipped, never fatal. */
export function readFrame(message: unknown): SemFrame | null {
  if (!isRecord(message) || message.sem !== true || !isRecord(message.event)) return null;
  const { type, id, seq, createdSeq, data, metadata } = message.event;
  if (typeof type !== "string" || typeof id !== "string") return null;
  return {
    n: isCount(message.n) ? message.n : undefined,
    event: {
      type,
      id,
      seq: isCount(seq) ? seq : undefined,
      createdSeq: isCount(createdSeq) ? createdSeq : undefined,
      data: isRecord(data) ? data : {},
      metadata: isRecord(metadata) ? metadata : undefined,
    },
  };
}

export function readHello(data: Record<string, unknown>): Hello {
  return {
    protocol: typeof data.protocol === "number" ? data.protocol : 0,
    epoch: typeof data.epoch === "string" ? data.epoch : "",
    version: isCount(data.version) ? data.version : 0,
  };
}

export interface Pong {
  readonly version: number;
  /** What a person should know of the host's timeline by now; null where the host does not say. */
  readonly notices: readonly string[] | null;
}

export function readPong(data: Record<string, unknown>): Pong {
  const { version, notices } = data;
  return {
    version: isCount(version) ? version : 0,
    notices: Array.isArray(notices) ? notices.map(String) : null,
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
