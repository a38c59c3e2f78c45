import type { ChatReply, ChatRequest, FailureKind, Health, TimelinePage, TimelineQuery } from "../http/api";

/**
 * The way from this page to the host of the conversation. The rest of the page knows this interface only, so a
 * kernel can take the server's place.
 */
export interface Transport {
  readonly name: "server" | "kernel";
  /** Is the host there, and who is it? Throws a `Failure` that says what is wrong. */
  probe(signal?: AbortSignal): Promise<Health>;
  /** Opens the stream of frames. Nothing is called after `close()`. */
  open(convId: string, profile: string, events: ChannelEvents): Channel;
  timeline(query: TimelineQuery, signal?: AbortSignal): Promise<TimelinePage>;
  chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatReply>;
  stop(convId: string, runId?: string, signal?: AbortSignal): Promise<void>;
  /** Loads the typesetter of formulas, which is too large to travel with every widget. */
  loadMath(): Promise<MathModule>;
}

export interface ChannelEvents {
  message(message: unknown): void;
  close(reason: CloseReason): void;
}

export interface Channel {
  send(message: unknown): void;
  close(): void;
}

/**
 * Why a stream ended: `refused` before it began (ask `probe` why), `slow` this page read too slowly, `deleted`
 * the conversation is gone, `login` log in again, `restart` the host restarts, `lost` anything else.
 */
export type CloseReason = "refused" | "slow" | "deleted" | "login" | "restart" | "lost";

export interface MathModule {
  /** Draws a formula into an element; throws where the source cannot be read. */
  typeset(source: string, display: boolean, into: HTMLElement): void;
}

/** What errors of any transport look like. */
export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
}

export function asFailure(error: unknown): Failure {
  if (error instanceof Error && "kind" in error && typeof error.kind === "string") {
    return { kind: error.kind as FailureKind, message: error.message };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "http", message: `Something went wrong in the page: ${message}` };
}
