import {
  ApiError,
  type Approval,
  type ChatReply,
  type ChatRequest,
  type FailureKind,
  type Health,
  type Profile,
  record,
  type TimelinePage,
  type TimelineQuery,
} from "../http/replies";
import { standardRegistry } from "../sem/handlers";
import { type Entity, isTerminal } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import type { Channel, ChannelEvents, CloseReason, MathModule, Transport } from "../transport/transport";

/** Frames that make a row or change one that is there, and then say where it was made. */
const MAKE_AND_CHANGE = /^(run\.|timeline\.upsert$|agent\.mode$|debugger\.pause$|tool\.result$|log$|error$)/;

/** What becomes of a frame on its way: `late`, it comes after the next one. */
export type Fault = "none" | "lose" | "twice" | "late";

interface Socket {
  events: ChannelEvents;
  n: number;
  late: unknown[];
}

/** Text is on disk so long after it was said. */
const FLUSH_MS = 250;

/** A host in memory, for tests: the same fold, real numbering, and as many faults as a test asks for. */
export class FakeHost implements Transport {
  readonly name = "server";
  readonly pictureBytes = 15_000_000;
  readonly store = new TimelineStore(() => {});
  readonly registry = standardRegistry();
  readonly sockets: Socket[] = [];
  readonly requests: TimelineQuery[] = [];
  readonly chats: ChatRequest[] = [];
  readonly stops: (string | undefined)[] = [];
  readonly approvals: Approval[] = [];
  readonly resumed: string[] = [];
  profileList: readonly Profile[] = [{ slug: "default", name: "Default" }];
  epoch = "one";
  seq = 0;
  opened = 0;
  probes = 0;
  /** Thrown by the next calls, one each. */
  failProbe: Error[] = [];
  failTimeline: Error[] = [];
  failChat: Error[] = [];
  failApprove: Error[] = [];
  failResume: Error[] = [];
  /** The next streams are refused. */
  refuse = 0;
  /** Waits before a snapshot is answered; it is taken when asked for. */
  delayMs = 0;
  /** The same for pages of earlier rows, on top. */
  earlierMs = 0;
  /** No answer has more rows. */
  mostRows = Infinity;
  /** So many frames are lost from now on. */
  loseNext = 0;
  /** What a crash may leave of a row: how it was when it was last stored at once, and how it grew since. */
  readonly #states = new Map<string, { at: number; row: Entity }[]>();
  reply: (request: ChatRequest) => ChatReply = () => ({
    status: "started",
    runId: "r1",
    queuePosition: null,
  });
  health: Health = {
    version: "0",
    protocol: 1,
    engine: "scripted",
    model: "test-model",
    capabilities: [],
    notices: [],
  };

  watch(): () => void {
    return () => {};
  }

  async probe(): Promise<Health> {
    this.probes += 1;
    const error = this.failProbe.shift();
    if (error) throw error;
    return this.health;
  }

  open(_convId: string, events: ChannelEvents): Channel {
    this.opened += 1;
    const socket: Socket = { events, n: 0, late: [] };
    if (this.refuse > 0) {
      this.refuse -= 1;
      queueMicrotask(() => events.close("refused"));
    } else {
      this.sockets.push(socket);
      queueMicrotask(() => this.#hello(socket));
    }
    return { close: () => this.#forget(socket) };
  }

  async timeline(query: TimelineQuery): Promise<TimelinePage> {
    this.requests.push(query);
    const error = this.failTimeline.shift();
    if (error) throw error;
    const page = this.#page(query);
    const delayMs = this.delayMs + (query.before === undefined ? 0 : this.earlierMs);
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    return page;
  }

  async chat(request: ChatRequest): Promise<ChatReply> {
    this.chats.push(request);
    const error = this.failChat.shift();
    if (error) throw error;
    return this.reply(request);
  }

  async stop(_convId: string, runId?: string): Promise<void> {
    this.stops.push(runId);
  }

  async approve(approval: Approval): Promise<void> {
    this.approvals.push(approval);
    const error = this.failApprove.shift();
    if (error) throw error;
    const { callId, decision, digest, reason } = approval;
    const asked = record(this.store.get(callId)?.props.approval);
    if (!asked) throw new ApiError("http", "There is no such call.", 404, "unknown_call");
    if (asked.state !== "pending" || asked.digest !== digest) {
      const message = "This call was decided already, or is another by now.";
      throw new ApiError("http", message, 409, "stale_approval");
    }
    const denied = decision === "deny";
    const state = denied ? "denied" : decision;
    const patch = { approval: { ...asked, state, reason }, status: denied ? "denied" : "running" };
    this.emit("tool.delta", callId, { patch });
    if (denied) this.emit("tool.done", callId, { status: "denied" });
  }

  async resume(_convId: string, pauseId: string): Promise<void> {
    this.resumed.push(pauseId);
    const error = this.failResume.shift();
    if (error) throw error;
    const row = this.store.get(pauseId);
    if (row?.kind !== "debugger_pause") {
      throw new ApiError("http", "There is no such pause.", 404, "unknown_pause");
    }
    this.emit("debugger.pause", pauseId, { ...row.props, status: "continued" });
  }

  async profiles(): Promise<readonly Profile[]> {
    return this.profileList;
  }

  loadMath(): Promise<MathModule> {
    return Promise.reject(new Error("no typesetter here"));
  }

  /** One event: into the host's own rows, and to all streams but those that `lose` it. */
  emit(type: string, id: string, data: object, fault: Fault = "none"): void {
    this.seq += 1;
    const createdSeq = MAKE_AND_CHANGE.test(type) ? this.store.get(id)?.createdSeq : undefined;
    const made = createdSeq === undefined ? {} : { createdSeq };
    const event = { type, id, seq: this.seq, ...made, data: data as Record<string, unknown> };
    this.registry.apply(event, this.store);
    this.#write(id, type.endsWith(".delta") || type.endsWith(".update"));
    for (const socket of [...this.sockets]) {
      socket.n += 1;
      const frame = { sem: true, n: socket.n, event };
      const times = this.loseNext > 0 ? 0 : { none: 1, lose: 0, twice: 2, late: 0 }[fault];
      const late = socket.late.splice(0);
      if (fault === "late") socket.late.push(frame);
      for (const each of [...Array(times).fill(frame), ...late]) {
        socket.events.message(structuredClone(each));
      }
    }
    this.loseNext = Math.max(0, this.loseNext - 1);
  }

  cut(reason: CloseReason = "lost"): void {
    for (const { events } of this.sockets.splice(0)) events.close(reason);
  }

  /** A restart that lost nothing: another epoch, the same rows. */
  restart(): void {
    this.epoch += "+";
    this.cut("restart");
  }

  /** A crash: the words of the last moments are gone; what was not finished is cut before anyone comes back. */
  crash(): void {
    this.epoch += "+";
    const cut = this.sockets.splice(0);
    const sure = Date.now() - FLUSH_MS;
    for (const [id, states] of this.#states) {
      const left = states.findLast(({ at }) => at <= sure) ?? states[0];
      if (left) this.#states.set(id, [{ at: 0, row: left.row }]);
    }
    this.store.replaceAll([...this.#states.values()].flatMap((states) => states.map(({ row }) => row)));
    for (const { id, kind, props } of this.store.snapshot()) {
      if (isTerminal(kind, props)) continue;
      if (props.streaming) this.emit("llm.final", id, { text: "", status: "interrupted" });
      if (kind === "tool_call") this.emit("tool.done", id, { status: "cancelled" });
      if (kind === "run") this.emit("run.failed", id, { runId: id, status: "failed" });
      if (kind === "thinking_mode") this.emit("thinking.mode.completed", id, { success: false });
      if (kind === "planning") this.emit("planning.complete", id, { finalDecision: "interrupted" });
      if (kind === "debugger_pause") this.emit("debugger.pause", id, { status: "cancelled" });
    }
    for (const { events } of cut) events.close("restart");
  }

  /** A start with an older file: the newest row is not in it. Returns what is gone. */
  restore(): string[] {
    const newest = this.store.snapshot().slice(-1);
    for (const { id } of newest) {
      this.store.removeEntity(id);
      this.#states.delete(id);
    }
    this.restart();
    return newest.map(({ id }) => id);
  }

  /** Lets the conversation go and reads it back: the same history, from the disk. */
  evict(): void {
    this.store.replaceAll(structuredClone(this.store.snapshot()));
  }

  hello(): Record<string, unknown> {
    return { protocol: 1, convId: "c", profile: "default", epoch: this.epoch, version: this.seq };
  }

  #page({ since, before, limit, unfinished }: TimelineQuery): TimelinePage {
    const all = this.store.snapshot();
    const base = { epoch: this.epoch };
    if (unfinished) {
      const rows = all.filter(isOpen);
      return { ...base, rows: structuredClone(rows), version: this.seq, more: false };
    }
    const most = Math.min(limit ?? Infinity, this.mostRows);
    if (since !== undefined) {
      const changed = all.filter((row) => row.version > since).sort((a, b) => a.version - b.version);
      const rows = changed.slice(0, most);
      const more = rows.length < changed.length;
      const version = more ? (rows.at(-1)?.version ?? since) : this.seq;
      return { ...base, rows: structuredClone(rows), version, more };
    }
    const older = before === undefined ? all : all.filter((row) => (row.createdSeq ?? 0) < before);
    const rows = older.slice(-Math.min(most, older.length));
    return { ...base, rows: structuredClone(rows), version: this.seq, more: rows.length < older.length };
  }

  #write(id: string, soft: boolean): void {
    const row = this.store.get(id);
    if (!row) return;
    const before = soft ? (this.#states.get(id) ?? []) : [];
    this.#states.set(id, [...before, { at: soft ? Date.now() : 0, row }]);
  }

  #hello(socket: Socket): void {
    if (!this.sockets.includes(socket)) return;
    socket.n += 1;
    const event = { type: "ws.hello", id: "ws.hello:c", data: this.hello() };
    socket.events.message({ sem: true, n: socket.n, event });
  }

  #forget(socket: Socket): void {
    const at = this.sockets.indexOf(socket);
    if (at >= 0) this.sockets.splice(at, 1);
  }
}

/** A run that has not ended, or what it has still to bring to its end. */
function isOpen({ kind, props }: Entity): boolean {
  if (kind === "message") return props.streaming === true;
  const ends = ["run", "tool_call", "planning", "thinking_mode", "debugger_pause"];
  return ends.includes(kind) && !isTerminal(kind, props);
}

/** An error as the HTTP side throws it. */
export function failure(kind: FailureKind, message: string = kind): Error {
  return Object.assign(new Error(message), { kind });
}
