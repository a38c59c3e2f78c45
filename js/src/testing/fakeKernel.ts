import { ApiError, type Decision, type Picture, record } from "../http/replies";
import type { Wire } from "../transport/line";
import type { Channel, CloseReason } from "../transport/transport";
import { FakeHost } from "./fakeHost";

type Message = Record<string, unknown>;
type Hears = (content?: unknown) => void;

const CODES: Partial<Record<CloseReason, number>> = { slow: 4408, deleted: 4410, restart: 1001 };

/** The kernel's end of a widget's comm, for tests: a `FakeHost` behind the protocol, and the faults of comms. */
export class FakeKernel implements Wire {
  /** What the page has sent, whether it was heard or not. */
  readonly asked: { op: string; rid: string; body: Message }[] = [];
  /** What own kinds of rows are drawn with, by kind. */
  renderers: unknown = {};
  /** Sending fails, as after a restart. */
  dead = false;
  /** Sending gives a promise. */
  promises = false;
  /** Sending leads nowhere, as on a widget that was revived from a saved notebook. */
  silent = false;
  /** What is lost on its way to the page. */
  lose: (message: Message) => boolean = () => false;
  /** Everything comes twice. */
  twice = false;
  /** Longer messages come in pieces. */
  pieceLength = 256 * 1024;
  /** Frames wait for so long, and go together. */
  batchMs = 0;
  widget_manager: unknown = undefined;
  readonly #hears = new Map<string, Set<Hears>>();
  readonly #streams = new Set<string>();
  readonly #inbox: Message[] = [];
  #deaf = false;
  #channel: Channel | null = null;
  #batch: unknown[] = [];
  #before = 0;
  #n = 0;
  #pieces = 0;

  constructor(readonly host: FakeHost = new FakeHost()) {}

  on(event: string, listener: Hears): void {
    const heard = this.#hears.get(event) ?? new Set();
    this.#hears.set(event, heard.add(listener));
  }

  off(event: string, listener: Hears): void {
    this.#hears.get(event)?.delete(listener);
  }

  get listeners(): number {
    return [...this.#hears.values()].reduce((sum, each) => sum + each.size, 0);
  }

  send(content: unknown): unknown {
    if (this.dead) {
      const error = new Error("Comm is disposed");
      if (this.promises) return Promise.reject(error);
      throw error;
    }
    const { op, rid, body } = structuredClone(content) as { op: string; rid: string; body: Message };
    this.asked.push({ op, rid, body });
    if (!this.silent) {
      this.#inbox.push({ op, rid, body });
      if (!this.#deaf) queueMicrotask(() => this.#work());
    }
    return this.promises ? Promise.resolve() : undefined;
  }

  /** A cell runs: nothing that the page sends is handled before it has ended. */
  set deaf(deaf: boolean) {
    this.#deaf = deaf;
    if (!deaf) this.#work();
  }

  ops(): string[] {
    return this.asked.map(({ op }) => op);
  }

  /** What the notebook around says about the comm. */
  tell(event: string): void {
    for (const listener of [...(this.#hears.get(event) ?? [])]) listener();
  }

  /** A message to the page. */
  say(message: unknown): void {
    const text = JSON.stringify(message);
    if (text === undefined || text.length <= this.pieceLength) {
      this.#pass(message);
      return;
    }
    const count = Math.ceil(text.length / this.pieceLength);
    const of = `whole-${++this.#pieces}`;
    for (let index = 0; index < count; index += 1) {
      const from = index * this.pieceLength;
      this.#pass({ piece: { of, index, count }, text: text.slice(from, from + this.pieceLength) });
    }
  }

  /** It knows no stream any more, and says nothing. */
  forget(): void {
    this.#streams.clear();
    this.#close();
  }

  #pass(message: unknown): void {
    if (this.lose(record(message) ?? {})) return;
    for (const listener of [...(this.#hears.get("msg:custom") ?? [])]) {
      listener(structuredClone(message));
      if (this.twice) listener(structuredClone(message));
    }
  }

  #work(): void {
    for (const { op, rid, body } of this.#inbox.splice(0))
      void this.#handle(`${op}`, `${rid}`, record(body) ?? {});
  }

  async #handle(op: string, rid: string, body: Message): Promise<void> {
    try {
      const [status, answer, headers] = await this.#answer(op, rid, body);
      this.say({ rid, status, headers: headers ?? {}, body: answer });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const { status, code } = error instanceof ApiError ? error : { status: 503, code: "test" };
      this.say({ rid, status, headers: {}, body: { message, reason: "Unavailable", code } });
    }
  }

  async #answer(op: string, rid: string, body: Message): Promise<[number, unknown, Record<string, string>?]> {
    const convId = String(body.conv_id);
    switch (op) {
      case "health":
        return [200, { webchat: true, ...(await this.host.probe()) }];
      case "open":
        this.#open(rid, convId);
        return [200, { n: this.#n, hello: this.host.hello() }];
      case "close":
        this.#streams.delete(String(body.stream));
        if (this.#streams.size === 0) this.#close();
        return [200, {}];
      case "ping":
        if (!this.#streams.has(String(body.stream))) return [410, { message: "No such stream." }];
        return [200, { version: this.host.seq, notices: this.host.health.notices }];
      case "timeline": {
        const named = Object.entries({ since: body.since_version, limit: body.limit, before: body.before });
        const numbers = named.filter((each) => typeof each[1] === "number");
        const unfinished = body.unfinished === "true";
        const page = await this.host.timeline({ convId, unfinished, ...Object.fromEntries(numbers) });
        const headers = {
          "X-Timeline-Version": String(page.version),
          "X-Timeline-Epoch": String(page.epoch),
          "X-Timeline-More": String(page.more),
        };
        return [200, page.rows, headers];
      }
      case "chat": {
        const { prompt, profile, idempotency_key: key } = body;
        const pictures = (body.attachments ?? []) as Picture[];
        const request = { convId, prompt: String(prompt), profile: String(profile), key: String(key) };
        const { status, runId, queuePosition } = await this.host.chat({ ...request, pictures });
        const code = status === "queued" ? 202 : 200;
        return [code, { status, run_id: runId, conv_id: convId, queue_position: queuePosition }];
      }
      case "stop":
        await this.host.stop(convId, typeof body.run_id === "string" ? body.run_id : undefined);
        return [200, {}];
      case "approve": {
        const { call_id: callId, decision, digest, reason } = body;
        const answer = { callId: String(callId), decision: decision as Decision, digest: String(digest) };
        await this.host.approve({ ...answer, convId, ...(reason ? { reason: String(reason) } : {}) });
        return [200, { status: decision === "deny" ? "denied" : decision, call_id: callId }];
      }
      case "resume":
        await this.host.resume(convId, String(body.pause_id));
        return [200, { status: "continued", pause_id: body.pause_id }];
      case "profiles": {
        const profiles = await this.host.profiles();
        return [200, profiles.map(({ slug, name }) => ({ slug, display_name: name }))];
      }
      case "renderers":
        return [200, this.renderers];
      case "math":
        return [200, "export const typeset = () => {};"];
      default:
        return [400, { message: `What is ${op}?` }];
    }
  }

  #open(rid: string, convId: string): void {
    this.#streams.add(rid);
    if (this.#channel) return;
    this.#before = this.#n;
    this.#n += 1; // the host's hello: a hole to a page that is forgotten and still listens
    this.#channel = this.host.open(convId, {
      message: (message) => {
        const frame = record(message);
        if (record(frame?.event)?.type === "ws.hello") return; // it goes with the answer
        this.#frame({ ...frame, n: this.#before + Number(frame?.n) });
      },
      close: (reason) => {
        this.#streams.clear();
        this.#channel = null;
        this.say({ closed: CODES[reason] ?? 1011 });
      },
      fail: () => {},
    });
  }

  #frame(frame: { n: number }): void {
    this.#n = Math.max(this.#n, frame.n);
    this.#batch.push(frame);
    const send = () => this.say({ frames: this.#batch.splice(0) });
    if (this.batchMs === 0) send();
    else if (this.#batch.length === 1) setTimeout(send, this.batchMs);
  }

  #close(): void {
    this.#channel?.close();
    this.#channel = null;
  }
}
