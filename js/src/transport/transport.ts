import type {
  Approval,
  ChatReply,
  ChatRequest,
  FailureKind,
  Health,
  Profile,
  TimelinePage,
  TimelineQuery,
} from "../http/replies";

/**
 * The way from this page to the host of the conversation, a server or a kernel. The rest of the page knows this
 * interface only.
 */
export interface Transport {
  readonly name: "server" | "kernel";
  /** Pictures that go with one prompt may have so many bytes together. */
  readonly pictureBytes: number;
  /** Begins to listen, and says what it notices by itself; returns how to end that. */
  watch(events: TransportEvents): () => void;
  /** Is the host there, and who is it? Throws a `Failure` that says what is wrong. */
  probe(signal?: AbortSignal): Promise<Health>;
  /** Opens the stream of frames, and watches over its silence. Nothing is called after `close()`. */
  open(convId: string, events: ChannelEvents): Channel;
  timeline(query: TimelineQuery, signal?: AbortSignal): Promise<TimelinePage>;
  chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatReply>;
  stop(convId: string, runId?: string, signal?: AbortSignal): Promise<void>;
  /** Says yes or no to a call that asks. */
  approve(approval: Approval, signal?: AbortSignal): Promise<void>;
  /** Lets a run that pauses go on. */
  resume(convId: string, pauseId: string, signal?: AbortSignal): Promise<void>;
  /** The profiles that prompts of a conversation may be sent to. */
  profiles(convId: string, signal?: AbortSignal): Promise<readonly Profile[]>;
  /** Loads the typesetter of formulas, which is too large to travel with every widget. */
  loadMath(): Promise<MathModule>;
}

export interface TransportEvents {
  /** The host was heard again after a time in which it did not answer. */
  back(): void;
  /** What was sent waits for the host, and why, as far as that is known; null: nothing does any more. */
  slow(why: string | null): void;
}

export interface ChannelEvents {
  message(message: unknown): void;
  /** The stream has ended: open another. */
  close(reason: CloseReason): void;
  /** It could not be opened or was lost, and to open another would not help: this is why. */
  fail(failure: Failure): void;
}

export interface Channel {
  close(): void;
}

/**
 * Why a stream ended: `refused` before it began (ask `probe` why), `slow` this page read too slowly, `deleted`
 * the conversation is gone, `login` log in again, `restart` the host restarts, `lost` anything else.
 */
export type CloseReason = "refused" | "slow" | "deleted" | "login" | "restart" | "lost";

const REASONS: Record<number, CloseReason> = {
  4408: "slow",
  4410: "deleted",
  4401: "login",
  1001: "restart",
};

/** What a host means by the code with which it ends a stream. */
export function closeReason(code: number): CloseReason {
  return REASONS[code] ?? "lost";
}

export interface MathModule {
  /** Draws a formula into an element; throws where the source cannot be read. */
  typeset(source: string, display: boolean, into: HTMLElement): void;
}

/** What errors of any transport look like. */
export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
  /** The host's word for it, where it is the host who says so. */
  readonly code?: string;
}

export function asFailure(error: unknown): Failure {
  if (error instanceof Error && "kind" in error && typeof error.kind === "string") {
    const code = "code" in error && typeof error.code === "string" ? error.code : "";
    return { kind: error.kind as FailureKind, message: error.message, code };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "http", message: `Something went wrong in the page: ${message}` };
}
