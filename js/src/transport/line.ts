import { ApiError, type Reply, record } from "../http/replies";
import { newKey } from "../ids";
import { type KernelState, kernelState, watchKernel } from "./kernel";
import { Pieces } from "./pieces";
import type { Failure, TransportEvents } from "./transport";

/** What this needs of an anywidget model. */
export interface Wire {
  send(content: unknown): unknown;
  on(event: string, listener: (content?: unknown) => void): void;
  off(event: string, listener: (content?: unknown) => void): void;
  readonly widget_manager?: unknown;
}

export interface Question {
  readonly op: string;
  readonly body: Record<string, unknown>;
  readonly rid?: string;
  /** After that it counts as lost. Without, it waits for as long as the kernel may be there. */
  readonly timeoutMs?: number;
  /** Said once more after that, where no answer has come. */
  readonly againMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Asked by the page for itself: nobody needs to be told that it waits. */
  readonly quiet?: boolean;
}

/** Who hears what the kernel says unasked. */
export interface Listener {
  frames?(frames: readonly unknown[]): void;
  closed?(code: number): void;
  /** What own kinds of rows are drawn with has changed. */
  renderers?(): void;
  /** The comm is dead. */
  gone?(failure: Failure): void;
}

interface Waiting {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: unknown) => void;
  /** Aborted when it waits no more. */
  readonly over: AbortController;
  readonly prolong: () => void;
  /** It has waited for longer than a moment, and a person should know. */
  late: boolean;
}

/** The code with which a kernel that ends takes leave. */
const LEAVES = 1001;
const LATE_MS = 2_000;
const CHECK_MS = 1_500;
const LOST_MS = 8_000;

/**
 * Questions and answers over a widget's comm, and what can be known about a comm: whether the kernel hears (one
 * that runs a cell may not, and what is sent waits), and whether there is one (after a restart sending fails, or
 * leads nowhere without a word).
 *
 * What the kernel says reaches every page that shows the widget, and is not to be trusted: what is not ours, or
 * makes no sense, is passed over.
 */
export class Line {
  readonly #wire: Wire;
  readonly #waiting = new Map<string, Waiting>();
  readonly #listeners = new Set<Listener>();
  readonly #pieces = new Pieces();
  #events: TransportEvents | null = null;
  /** A question was not answered in time, and none has been since. */
  #doubt = false;
  #dead = false;
  /** It has answered, ever. */
  #known = false;
  #slow = false;
  /** A look whether anyone is there is under way; `firm`: there is every reason to think that nobody is. */
  #look: { firm: boolean } | null = null;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /** Begins to listen; returns how to end that, and with it what still waits. */
  watch(events: TransportEvents): () => void {
    this.#events = events;
    const wire = this.#wire;
    const hears: Record<string, (content?: unknown) => void> = {
      "msg:custom": (content) => this.#receive(content),
      "comm:close": () => this.#die(),
      comm_live_update: () => this.#check(true),
    };
    for (const [name, listener] of Object.entries(hears)) wire.on(name, listener);
    const unwatch = watchKernel(wire.widget_manager, (firm) => this.#check(firm));
    return () => {
      unwatch();
      for (const [name, listener] of Object.entries(hears)) wire.off(name, listener);
      this.#events = null;
      for (const rid of this.#waiting.keys()) this.#settle(rid)?.reject(new Error("nobody listens any more"));
    };
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Asks the kernel. Throws `busy` or `kernel` where it did not answer in time, `gone` where there is none. */
  ask({ op, body, rid = newKey(), timeoutMs, againMs, signal, quiet = false }: Question): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      // only a look at its health can find that it lives after all
      if (this.#dead && op !== "health") return reject(gone());
      const over = new AbortController();
      const late = quiet ? undefined : setTimeout(() => this.#late(rid), LATE_MS);
      let deadline: ReturnType<typeof setTimeout> | undefined;
      const prolong = () => {
        clearTimeout(deadline);
        if (timeoutMs !== undefined) deadline = setTimeout(() => this.#unanswered(rid, op), timeoutMs);
      };
      const say = () => {
        try {
          const sent = this.#wire.send({ op, rid, body });
          if (sent instanceof Promise) sent.catch(() => this.#die()); // as marimo's does
        } catch {
          this.#die();
        }
      };
      const again = againMs === undefined ? undefined : setTimeout(say, againMs);
      over.signal.addEventListener("abort", () => {
        clearTimeout(late);
        clearTimeout(again);
        clearTimeout(deadline);
      });
      signal?.addEventListener("abort", () => this.#settle(rid)?.reject(signal.reason), {
        signal: over.signal,
      });
      prolong();
      this.#waiting.set(rid, { resolve, reject, over, prolong, late: false });
      say();
    });
  }

  /**
   * Done when the kernel is known to hear. Large questions wait for that: one that runs a cell for an hour would
   * have to answer each of a hundred that were given up.
   */
  async hearing(signal?: AbortSignal): Promise<void> {
    while (this.#doubt) {
      const look = this.ask({ op: "health", body: {}, timeoutMs: LOST_MS, signal, quiet: true });
      await look.catch((error) => {
        if (signal?.aborted || this.#dead || this.#events === null) throw error;
      });
    }
  }

  #receive(content: unknown): void {
    try {
      let message = record(content);
      if (message?.piece !== undefined) {
        for (const { prolong } of this.#waiting.values()) prolong();
        message = record(this.#pieces.take(message.piece, message.text));
      }
      this.#take(message);
    } catch (error) {
      // whoever calls this is in the middle of the comm's own work
      globalThis.reportError?.(error);
    }
  }

  #take(message: Record<string, unknown> | undefined): void {
    if (typeof message?.rid === "string") {
      this.#answered(message.rid, message);
      return;
    }
    const { frames, closed, renderers } = message ?? {};
    const tell: ((listener: Listener) => void) | null = Array.isArray(frames)
      ? (listener) => listener.frames?.(frames)
      : typeof closed === "number"
        ? (listener) => listener.closed?.(closed)
        : renderers === true
          ? (listener) => listener.renderers?.()
          : null;
    if (tell === null) return;
    this.#heard(false);
    for (const listener of [...this.#listeners]) tell(listener);
    if (closed === LEAVES) this.#check(true);
  }

  #answered(rid: string, { status, headers, body }: Record<string, unknown>): void {
    const asked = this.#settle(rid);
    if (Number.isInteger(status)) {
      const names = Object.entries(record(headers) ?? {});
      asked?.resolve({
        from: "kernel",
        status: status as number,
        body,
        header: (name) => {
          const found = names.find(([each]) => each.toLowerCase() === name.toLowerCase());
          return typeof found?.[1] === "string" ? found[1] : null;
        },
      });
    } else {
      asked?.reject(new ApiError("http", "The kernel sent an answer that this page cannot read."));
    }
    if (![...this.#waiting.values()].some((each) => each.late)) this.#tell(null);
    this.#heard(true);
  }

  /** There is a kernel; where it answered, whichever page, it also hears. */
  #heard(answer: boolean): void {
    const back = this.#dead || (answer && this.#doubt);
    this.#dead = false;
    if (answer) {
      this.#doubt = false;
      this.#known = true;
    }
    if (back) this.#events?.back();
  }

  #late(rid: string): void {
    const waiting = this.#waiting.get(rid);
    if (!waiting) return;
    waiting.late = true;
    const state = this.#state();
    this.#tell(slow(state));
    if (state === "idle") this.#check(false); // it has nothing else to do
  }

  #unanswered(rid: string, op: string): void {
    this.#doubt = true;
    this.#settle(rid)?.reject(this.#dead ? gone() : unanswered(this.#state(), op));
  }

  /** Looks whether anyone is there, where there is a reason to ask. */
  #check(firm: boolean): void {
    if (this.#dead) return;
    if (this.#look) {
      this.#look.firm ||= firm;
      return;
    }
    const look = { firm };
    this.#look = look;
    // One that has answered before is more likely to be slow: with subshells, the notebook calls a kernel idle
    // while a cell of it computes.
    const timeoutMs = firm || !this.#known ? CHECK_MS : LOST_MS;
    this.ask({ op: "health", body: {}, timeoutMs, quiet: true })
      .catch(() => {
        // a cell may have been started meanwhile
        if (this.#events !== null && (look.firm || this.#state() === "idle")) this.#die();
      })
      .finally(() => {
        this.#look = null;
      });
  }

  #die(): void {
    const before = this.#dead;
    this.#dead = true;
    const failure = gone();
    for (const rid of this.#waiting.keys()) this.#settle(rid)?.reject(failure);
    this.#tell(null);
    if (!before) for (const listener of [...this.#listeners]) listener.gone?.(failure);
  }

  #settle(rid: string): Waiting | undefined {
    const waiting = this.#waiting.get(rid);
    this.#waiting.delete(rid);
    waiting?.over.abort();
    return waiting;
  }

  #tell(why: string | null): void {
    if (why === null && !this.#slow) return;
    this.#slow = why !== null;
    this.#events?.slow(why);
  }

  #state(): KernelState {
    return kernelState(this.#wire.widget_manager);
  }
}

function gone(): ApiError {
  return new ApiError(
    "gone",
    "The kernel was restarted or has ended, so this view has lost its chat. Run the cell again: what is kept on disk is there.",
  );
}

function unanswered(state: KernelState, op: string): ApiError {
  switch (state) {
    case "busy":
      return new ApiError(
        "busy",
        "The kernel is busy with a cell. The chat appears by itself as soon as the cell has ended.",
      );
    case "unknown":
      return new ApiError(
        "kernel",
        "Either the kernel is busy with a cell, then the chat appears by itself as soon as the cell has ended; or it was restarted, then run this cell again: what is kept on disk is there.",
      );
    case "gone":
      return new ApiError(
        "kernel",
        "The kernel was restarted or is gone. Run this cell again: what is kept on disk is there.",
      );
    case "idle":
      // one that is linked to this page and has nothing to do says at least how it is
      return op === "health" ? unlinked() : new ApiError("kernel", "The page asks again by itself.");
  }
}

/** The notebook knows a kernel that is well, and nobody there knows us: said of what only looks as if it lived. */
function unlinked(): ApiError {
  return new ApiError(
    "gone",
    "This page has no link to this chat: the kernel was restarted, or the widget was made before this page could show it. Run the cell that makes ChatWidget() again: what is kept on disk is there.",
  );
}

function slow(state: KernelState): string {
  return state === "busy"
    ? "The kernel is busy with a cell – what you sent waits for its end"
    : "The kernel does not answer yet: it is busy with a cell, or was restarted (then run this cell again)";
}
