// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { standardRegistry } from "../sem/handlers";
import { FakeHost, failure } from "../testing/fakeHost";
import { TimelineStore } from "../timeline/store";
import { Backoff } from "./backoff";
import { type Phase, WsManager } from "./wsManager";

let host: FakeHost;
let manager: WsManager;
let store: TimelineStore;
let phases: Phase[];

beforeEach(() => {
  vi.useFakeTimers();
  host = new FakeHost();
  store = new TimelineStore(() => {});
  manager = new WsManager({
    transport: host,
    convId: "c",
    store,
    registry: standardRegistry(),
    backoff: new Backoff(400, 15_000, () => 1),
  });
  phases = [];
  manager.status.subscribe(({ phase }) => {
    if (phases.at(-1) !== phase) phases.push(phase);
  });
});

afterEach(() => {
  manager.stop();
  vi.useRealTimers();
});

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const say = (text: string, id = "m") => {
  host.emit("llm.start", id, { role: "assistant" });
  host.emit("llm.delta", id, { delta: text, offset: 0 });
};
const same = () => expect(store.snapshot()).toEqual(host.store.snapshot());

describe("the connection", () => {
  it("goes through its states to live, with what was there and what comes", async () => {
    say("before");
    manager.start();
    await settle();
    expect(phases).toEqual(["connecting", "buffering", "hydrating", "replaying", "live"]);
    same();
    host.emit("llm.delta", "m", { delta: " and after", offset: 6 });
    same();
    expect(store.get("m")?.props.content).toBe("before and after");
  });

  it("holds frames that arrive during the hydrate, then replays them", async () => {
    host.delayMs = 100;
    say("one");
    manager.start();
    await settle(10);
    host.emit("llm.delta", "m", { delta: " two", offset: 3 });
    expect(store.size).toBe(0);
    await settle(200);
    same();
  });

  it("asks for what it missed when a frame is lost, and shows what it had meanwhile", async () => {
    manager.start();
    await settle();
    say("one");
    host.emit("llm.delta", "m", { delta: " two", offset: 3 }, "lose");
    host.emit("llm.delta", "m", { delta: " three", offset: 7 });
    expect(manager.status.value.phase).toBe("hydrating");
    expect(store.get("m")?.props.content).toBe("one");
    await settle();
    same();
    expect(host.requests.at(-1)).toEqual({ convId: "c", since: 2, limit: 1000 });
    expect(manager.status.value.phase).toBe("live");
  });

  it("follows the pages of a resync to their end", async () => {
    manager.start();
    await settle();
    for (let at = 0; at < 2300; at += 1) host.emit("log", `l${at}`, { message: "x" }, "lose");
    host.emit("log", "last", { message: "x" });
    await settle();
    same();
    expect(store.size).toBe(2301);
  });

  it("comes back after a cut with since_version, and keeps the screen meanwhile", async () => {
    manager.start();
    await settle();
    say("one");
    host.cut();
    expect(manager.status.value).toMatchObject({ phase: "reconnecting", hydrated: true });
    host.emit("llm.delta", "m", { delta: " two", offset: 3 });
    expect(store.get("m")?.props.content).toBe("one");
    await settle(500);
    same();
    expect(host.requests.at(-1)).toMatchObject({ since: 2 });
  });

  it("takes over another epoch in one swap", async () => {
    manager.start();
    await settle();
    say("one");
    say("gone", "x");
    host.store.removeEntity("x");
    store.flush();
    const sizes: number[] = [];
    store.order.subscribe((rows) => sizes.push(rows.length));
    host.restart();
    await settle(1000);
    same();
    expect(sizes).not.toContain(0);
    expect(host.requests.at(-1)?.since).toBeUndefined();
  });

  it("does not show a snapshot that is older than the hello, nor one of another epoch", async () => {
    say("one");
    const timeline = host.timeline.bind(host);
    const answers = [
      { rows: [], version: 0, epoch: "one", more: false },
      { rows: [], version: 99, epoch: "other", more: false },
    ];
    host.timeline = async (query) => answers.shift() ?? timeline(query);
    manager.start();
    await settle();
    expect(manager.status.value.phase).toBe("hydrating");
    await settle(2000);
    same();
    expect(manager.status.value.phase).toBe("live");
  });

  it("asks for fewer rows at a time where the answer does not come through", async () => {
    for (let at = 0; at < 300; at += 1) host.emit("log", `l${at}`, { message: "x" });
    const timeline = host.timeline.bind(host);
    host.timeline = async (query) => {
      const page = await timeline(query);
      if (page.rows.length > 50) throw failure("network");
      return page;
    };
    manager.start();
    await settle(10_000);
    expect(manager.status.value.phase).toBe("live");
    expect(store.size).toBe(50);
    host.cut();
    for (let at = 300; at < 500; at += 1) host.emit("log", `l${at}`, { message: "x" });
    await settle(20_000);
    expect(manager.status.value.phase).toBe("live");
    expect(store.size).toBe(250);
  });

  it("keeps the gate shut while the hydrate fails, and says so if it goes on failing", async () => {
    say("one");
    host.failTimeline = Array.from({ length: 6 }, () => failure("http", "The store is down."));
    manager.start();
    await settle(3000);
    expect(manager.status.value).toMatchObject({
      phase: "hydrating",
      failure: { message: "The store is down." },
    });
    expect(store.size).toBe(0);
    await settle(30_000);
    same();
    expect(manager.status.value).toMatchObject({ phase: "live", failure: null });
  });

  it("asks for what it missed when a pong tells that the last frames were lost", async () => {
    manager.start();
    await settle();
    say("one");
    host.emit("llm.delta", "m", { delta: " two", offset: 3 }, "lose");
    const pong = (version: number) =>
      host.sockets[0]?.events.message({ sem: true, event: { type: "ws.pong", id: "p", data: { version } } });
    pong(2);
    await settle(2_000);
    expect(host.requests).toHaveLength(1);
    pong(3);
    await settle(900);
    expect(host.requests).toHaveLength(1); // it may be under way
    await settle(200);
    same();
    expect(manager.status.value.phase).toBe("live");
  });

  it("says why a stream was lost for good, keeps the rows, and looks again now and then", async () => {
    manager.start();
    await settle();
    say("one");
    host.sockets.pop()?.events.fail({ kind: "gone", message: "Run the cell again." });
    expect(manager.status.value).toMatchObject({ phase: "error", failure: { kind: "gone" }, hydrated: true });
    same();
    await settle(20_100);
    expect(manager.status.value).toMatchObject({ phase: "live", failure: null });
  });

  it("asked to look again between two connections, it leaves that to the next one", async () => {
    say("one");
    manager.start();
    await settle();
    host.probe = () => new Promise((answer) => setTimeout(() => answer(host.health), 100));
    host.restart();
    await settle(410);
    manager.refresh();
    await settle(10_000);
    same();
    expect(manager.status.value.phase).toBe("live");
  });

  it("opens another stream where the host has begun anew and the end of this one was lost", async () => {
    say("one");
    manager.start();
    await settle();
    const [forgotten] = host.sockets.splice(0);
    host.epoch = "two";
    say("two", "m2");
    const hole = { type: "log", id: "l", seq: 3, data: {} };
    forgotten?.events.message({ sem: true, n: 9, event: hole });
    await settle(10_000);
    same();
    expect(manager.status.value.phase).toBe("live");
    expect(host.opened).toBe(2);
  });

  it("reconnects at once when it was too slow", async () => {
    manager.start();
    await settle();
    host.cut("slow");
    await settle(1);
    expect(host.opened).toBe(2);
  });

  it("a deleted conversation is empty, and says so; Retry begins anew", async () => {
    say("one");
    manager.start();
    await settle();
    host.cut("deleted");
    expect(store.size).toBe(0);
    expect(manager.status.value).toMatchObject({ phase: "error" });
    await settle(60_000);
    expect(host.opened).toBe(1);
    manager.retryNow();
    await settle();
    expect(manager.status.value.phase).toBe("live");
  });

  it("a host that is not there: says what kind of absence, and keeps looking", async () => {
    host.failProbe = [failure("missing")];
    manager.start();
    await settle();
    expect(manager.status.value).toMatchObject({ phase: "error", failure: { kind: "missing" } });
    manager.retryNow();
    await settle();
    expect(manager.status.value.phase).toBe("live");
  });

  it("a network that is down is offline, not an error, and comes back by itself", async () => {
    host.failProbe = [failure("network"), failure("network")];
    manager.start();
    await settle();
    expect(manager.status.value).toMatchObject({ phase: "offline", failure: { kind: "network" } });
    await settle(5_000);
    expect(manager.status.value.phase).toBe("live");
  });

  it("a refused stream asks the host why", async () => {
    manager.start();
    await settle();
    host.refuse = 1;
    host.failProbe = [failure("login", "Log in again.")];
    host.cut();
    await settle(500);
    host.cut("refused");
    await settle(2000);
    expect(manager.status.value).toMatchObject({ phase: "error", failure: { kind: "login" } });
  });

  it.each([
    ["lost", 2, 1],
    ["doubled", 1, 1],
  ] as const)("a stream of which the first frame is %s", async (fault, streams, fetches) => {
    const open = vi.spyOn(host, "open");
    const timeline = vi.spyOn(host, "timeline");
    open.mockImplementationOnce((convId, events) =>
      FakeHost.prototype.open.call(host, convId, {
        ...events,
        message: (message) => {
          const hello = JSON.stringify(message).includes("ws.hello");
          if (hello && fault === "lost") return;
          events.message(message);
          if (hello) events.message(message);
        },
      }),
    );
    manager.start();
    await settle();
    say("one");
    await settle(1000);
    expect(manager.status.value.phase).toBe("live");
    same();
    expect([open.mock.calls.length, timeline.mock.calls.length]).toEqual([streams, fetches]);
  });

  it("a protocol that it does not speak is an error with a sentence", async () => {
    host.hello = () => ({ protocol: 9, epoch: "one", version: 0 });
    manager.start();
    await settle();
    expect(manager.status.value.phase).toBe("error");
    expect(manager.status.value.failure?.message).toContain("version 9");
  });

  it("loads earlier rows a page at a time", async () => {
    for (let at = 0; at < 900; at += 1) host.emit("log", `l${at}`, { message: "x" });
    manager.start();
    await settle();
    expect(store.size).toBe(400);
    expect(manager.more.value).toBe(true);
    await manager.loadEarlier();
    await manager.loadEarlier();
    expect(manager.more.value).toBe(false);
    same();
  });

  describe("with rows before the first page", () => {
    const logs = (count: number, from = 0) => {
      for (let at = from; at < from + count; at += 1) host.emit("log", `l${at}`, { message: "x" });
    };
    const ids = () => store.snapshot().map(({ id }) => id);

    it("an old row that changes shows no hole: it waits for the rows around it", async () => {
      host.emit("tool.start", "old", { name: "f", input: {} });
      logs(450);
      manager.start();
      await settle();
      host.emit("tool.delta", "old", { patch: { status: "asking" } });
      await settle(1000);
      expect(manager.status.value.phase).toBe("live");
      expect(ids()[0]).toBe("l50");
      host.emit("tool.done", "old", { status: "completed" });
      expect(manager.status.value.phase).toBe("live"); // it is known, if not shown
      await manager.loadEarlier();
      expect(manager.more.value).toBe(false);
      same();
      expect(store.get("old")?.props.status).toBe("completed");
    });

    it("a row above it that is not known is fetched whole when a frame tells a part of it", async () => {
      const note = (props: object) =>
        host.emit("timeline.upsert", "n", { entity: { id: "n", kind: "note", props } });
      host.emit("run.queued", "r", { runId: "r", prompt: "Hello" });
      note({ a: 1 });
      logs(450);
      manager.start();
      await settle();
      note({ b: 2 });
      host.emit("run.finished", "r", { runId: "r", stopReason: "stop" });
      await settle(1000);
      expect(manager.status.value.phase).toBe("live");
      expect(ids()[0]).toBe("l50");
      expect(store.get("n")?.props).toEqual({ a: 1, b: 2 });
      expect(store.get("r")?.props).toMatchObject({ prompt: "Hello", stopReason: "stop" });
      await manager.loadEarlier();
      same();
    });

    it("a page that was asked for twice, or before another history came, opens no hole", async () => {
      logs(1300);
      manager.start();
      await settle();
      host.delayMs = 50;
      const twice = [manager.loadEarlier(), manager.loadEarlier()];
      await settle(100);
      await Promise.all(twice);
      expect(ids()).toHaveLength(800);
      expect(manager.more.value).toBe(true);

      host.delayMs = 0;
      host.epoch = "two";
      host.cut();
      const timeline = host.timeline.bind(host);
      let release = () => {};
      const released = new Promise<void>((resolve) => {
        release = resolve;
      });
      host.timeline = async (query) => {
        const page = await timeline(query);
        if (query.before !== undefined) await released;
        return page;
      };
      manager.retryNow();
      const asked = manager.loadEarlier();
      await settle(1000);
      logs(20, 1300);
      expect(ids()).toHaveLength(420);
      release();
      await asked;
      expect(ids()).toHaveLength(420);
      expect(manager.more.value).toBe(true);
      for (let page = 0; page < 3; page += 1) await manager.loadEarlier();
      same();
    });
  });

  it("leaves nothing behind when it stops", async () => {
    manager.start();
    await settle();
    manager.stop();
    expect(host.sockets).toHaveLength(0);
    expect(vi.getTimerCount()).toBe(0);
    host.failTimeline = [failure("http")];
    manager.start();
    await settle();
    manager.stop();
    await settle();
    expect(vi.getTimerCount()).toBe(0);
  });
});
