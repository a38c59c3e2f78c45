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
import { TimelineStore } from "../timeline/store";
import type { Channel, ChannelEvents, CloseReason, MathModule, Transport } from "../transport/transport";

/** Frames that make a row or change one that is there, and then say where it was made. */
const MAKE_AND_CHANGE = /^(run\.|timeline\.upsert$|agent\.mode$|debugger\.pause$|tool\.result$)/;

interface Socket {
  events: ChannelEvents;
  n: number;
}

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
    const socket: Socket = { events, n: 0 };
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
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
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
  emit(type: string, id: string, data: object, fault: "none" | "lose" | "twice" = "none"): void {
    this.seq += 1;
    const createdSeq = MAKE_AND_CHANGE.test(type) ? this.store.get(id)?.createdSeq : undefined;
    const made = createdSeq === undefined ? {} : { createdSeq };
    const event = { type, id, seq: this.seq, ...made, data: data as Record<string, unknown> };
    this.registry.apply(event, this.store);
    for (const socket of [...this.sockets]) {
      socket.n += 1;
      const frame = { sem: true, n: socket.n, event };
      if (fault !== "lose") socket.events.message(structuredClone(frame));
      if (fault === "twice") socket.events.message(structuredClone(frame));
    }
  }

  cut(reason: CloseReason = "lost"): void {
    for (const { events } of this.sockets.splice(0)) events.close(reason);
  }

  /** A restart that lost the newest rows' last words: another epoch, the rows as given. */
  restart(): void {
    this.epoch += "+";
    this.cut("restart");
  }

  hello(): Record<string, unknown> {
    return { protocol: 1, convId: "c", profile: "default", epoch: this.epoch, version: this.seq };
  }

  #page({ since, before, limit }: TimelineQuery): TimelinePage {
    const all = this.store.snapshot();
    const base = { epoch: this.epoch };
    if (since !== undefined) {
      const changed = all.filter((row) => row.version > since).sort((a, b) => a.version - b.version);
      const rows = changed.slice(0, limit ?? changed.length);
      const more = rows.length < changed.length;
      const version = more ? (rows.at(-1)?.version ?? since) : this.seq;
      return { ...base, rows: structuredClone(rows), version, more };
    }
    const older = before === undefined ? all : all.filter((row) => (row.createdSeq ?? 0) < before);
    const rows = limit === undefined ? older : older.slice(-limit);
    return { ...base, rows: structuredClone(rows), version: this.seq, more: rows.length < older.length };
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

/** An error as the HTTP side throws it. */
export function failure(kind: FailureKind, message: string = kind): Error {
  return Object.assign(new Error(message), { kind });
}
