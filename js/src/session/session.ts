import { type ReadonlySignal, signal } from "@preact/signals-core";
import type { Approval, Health, Picture, Profile } from "../http/replies";
import { standardRegistry } from "../sem/handlers";
import type { Entity } from "../timeline/entities";
import { TimelineStore } from "../timeline/store";
import { asFailure, type Failure, type MathModule, type Transport } from "../transport/transport";
import { type Status, WsManager } from "../ws/wsManager";
import { nextFrame } from "./frame";
import { isLocal, isOurs, Outbox } from "./outbox";

/**
 * One conversation on this page, whatever number of views look at it: its rows, its connection, its prompts on
 * their way. Views read signals and call methods; they never see a socket.
 *
 * Views may come from other copies of this module (each widget brings its own), so they read the signals with
 * `subscribe` only: what one copy tracks by itself another copy cannot see.
 */
export class Session {
  readonly convId: string;
  readonly transportName: "server" | "kernel";
  /** Pictures that go with one prompt may have so many bytes together. */
  readonly pictureBytes: number;
  readonly store: TimelineStore;
  readonly outbox: Outbox;
  readonly #transport: Transport;
  readonly #manager: WsManager;
  readonly #open = new AbortController();
  readonly #notice = signal<string | null>(null);
  readonly #slow = signal<string | null>(null);
  readonly #profiles = signal<readonly Profile[]>([]);
  #unwatch = () => {};
  #asking = new AbortController();
  #math: Promise<MathModule> | null = null;

  constructor(transport: Transport, convId: string) {
    this.convId = convId;
    this.transportName = transport.name;
    this.pictureBytes = transport.pictureBytes;
    this.#transport = transport;
    this.store = new TimelineStore(nextFrame);
    this.outbox = new Outbox(transport, this.store, convId, (failure) => {
      this.#heard(failure);
      this.#seek();
    });
    this.#manager = new WsManager({
      transport,
      convId,
      store: this.store,
      registry: standardRegistry(),
      keep: isOurs,
      connected: () => this.askProfiles(),
      changed: () => {
        this.outbox.settle();
        this.outbox.sendInherited();
      },
      asking: () => this.outbox.seek(),
      live: () => this.#seek(),
    });
  }

  get status(): ReadonlySignal<Status> {
    return this.#manager.status;
  }

  get health(): ReadonlySignal<Health | null> {
    return this.#manager.health;
  }

  /** How far the conversation was when this connection began, and its health was asked for. */
  get since(): ReadonlySignal<number> {
    return this.#manager.since;
  }

  get more(): ReadonlySignal<boolean> {
    return this.#manager.more;
  }

  /** A sentence about something that a person asked for and that did not work. */
  get notice(): ReadonlySignal<string | null> {
    return this.#notice;
  }

  /** Why what was sent waits for its host, while it does. */
  get slow(): ReadonlySignal<string | null> {
    return this.#slow;
  }

  get runs(): ReadonlySignal<readonly Entity[]> {
    return this.store.ofKind("run");
  }

  get errors(): ReadonlySignal<readonly Entity[]> {
    return this.store.ofKind("error");
  }

  get calls(): ReadonlySignal<readonly Entity[]> {
    return this.store.ofKind("tool_call");
  }

  get pauses(): ReadonlySignal<readonly Entity[]> {
    return this.store.ofKind("debugger_pause");
  }

  /** What prompts may be sent to; empty as long as nobody has said. */
  get profiles(): ReadonlySignal<readonly Profile[]> {
    return this.#profiles;
  }

  start(): void {
    this.#unwatch = this.#transport.watch({
      back: () => this.retryNow(),
      slow: (why) => {
        this.#slow.value = why;
      },
    });
    this.#manager.start();
    // what a timer would find out a little later
    const { signal } = this.#open;
    globalThis.addEventListener?.("online", () => this.retryNow(), { signal });
  }

  close(): void {
    this.#open.abort();
    this.#manager.stop();
    this.outbox.close();
    this.#unwatch();
  }

  /**
   * The conversation has moved here from a session that is given up: its rows stay on the screen until those of the new
   * host are there, and what was on its way goes on here.
   */
  inherit(former: Session): void {
    const { store } = former;
    if (former.status.peek().hydrated && !this.status.peek().hydrated) {
      const rows = store.all().filter((row) => !isLocal(row));
      this.store.replaceAll(rows, isLocal, store.floor);
      this.#manager.inherit();
    }
    this.outbox.inherit(former.outbox.unsettled());
    if (this.status.peek().phase === "live") this.outbox.sendInherited();
  }

  retryNow(): void {
    this.#manager.retryNow();
  }

  send(prompt: string, profile: string, pictures: readonly Picture[] = []): void {
    this.#notice.value = null;
    this.outbox.send(prompt, profile, pictures);
  }

  /**
   * Says yes or no to a call that asks; its row tells what became of it. Returns why that did not work, else null.
   * A host that says no knows more than this page, which then asks for what it has missed.
   */
  approve(answer: Omit<Approval, "convId">): Promise<string | null> {
    return this.#answer((signal) => this.#transport.approve({ ...answer, convId: this.convId }, signal));
  }

  /** Lets a run that pauses go on; the same for the rest. */
  resume(pauseId: string): Promise<string | null> {
    return this.#answer((signal) => this.#transport.resume(this.convId, pauseId, signal));
  }

  /** Looks which profiles there are now. Where nobody answers, those that were known are as good as any. */
  askProfiles(): void {
    this.#asking.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#open.signal, this.#asking.signal]);
    this.#transport.profiles(this.convId, signal).then(
      (profiles) => {
        this.#profiles.value = profiles;
      },
      () => {},
    );
  }

  /** Stops the run that is going on. */
  async stop(runId?: string): Promise<void> {
    await this.#attempt(
      () => this.#transport.stop(this.convId, runId),
      (failure) => this.#unstopped(failure, "Stop", "Stopped"),
    );
  }

  /** Takes a prompt out of the queue. */
  async withdraw(runId: string): Promise<void> {
    await this.#attempt(
      () => this.#transport.stop(this.convId, runId),
      (failure) => this.#unstopped(failure, "Remove", "Removed"),
    );
  }

  async loadEarlier(): Promise<void> {
    await this.#attempt(
      () => this.#manager.loadEarlier(),
      () => "Earlier messages could not be loaded.",
    );
  }

  /** Loads earlier rows until this one is shown; does nothing where it is, or is not known. */
  async reveal(id: string): Promise<void> {
    const { store } = this;
    const { createdSeq = store.floor } = store.get(id) ?? {};
    while (createdSeq < store.floor) {
      const { floor } = store;
      await this.loadEarlier();
      if (store.floor === floor) return;
    }
    store.flush();
  }

  loadMath(): Promise<MathModule> {
    this.#math ??= this.#transport.loadMath().catch((error) => {
      this.#math = null; // the next formula tries again
      throw error;
    });
    return this.#math;
  }

  /** Looks for prompts that were taken, and of which nothing came here. */
  #seek(): void {
    if (this.status.peek().phase === "live" && this.outbox.sought()) this.#manager.refresh();
  }

  async #answer(say: (signal: AbortSignal) => Promise<void>): Promise<string | null> {
    try {
      await say(this.#open.signal);
      return null;
    } catch (error) {
      const { kind, message } = asFailure(error);
      if (kind === "http") this.#manager.refresh();
      return message;
    }
  }

  /** `what` says what a person asked for and did not get; the reason follows. */
  async #attempt(act: () => Promise<void>, what: (failure: Failure) => string): Promise<void> {
    this.#notice.value = null;
    try {
      await act();
      this.#heard(null);
    } catch (error) {
      const failure = asFailure(error);
      this.#notice.value = `${what(failure)} ${failure.message}`;
      this.#heard(failure);
    }
  }

  /** What became of a stop that did not go well. A host that can't store the end of a run has ended it. */
  #unstopped({ kind, code }: Failure, asked: string, done: string): string {
    if (code === "end_not_stored") return `${done}, but that could not be stored; it is tried again.`;
    if (kind === "http" || kind === "moved") return `${asked} was refused.`;
    return `${asked} did not reach the ${this.transportName}.`;
  }

  /** What the host says of its timeline may be over by now, or be new. */
  #heard(failure: Failure | null): void {
    const known = (this.health.peek()?.notices.length ?? 0) > 0;
    if (failure ? failure.kind === "http" : known) void this.#manager.askHealth();
  }
}
