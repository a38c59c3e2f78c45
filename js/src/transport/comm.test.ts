// @vitest-environment node
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../http/replies";
import { readFrame } from "../sem/frames";
import { failure } from "../testing/fakeHost";
import { FakeKernel } from "../testing/fakeKernel";
import { commTransport } from "./comm";
import type { Channel, Failure, MathModule, Transport } from "./transport";

let kernel: FakeKernel;
let transport: Transport;
/** What the transport noticed by itself. */
let noticed: unknown[];
let unwatch: () => void;
/** What came over the stream. */
let heard: unknown[];
let channels: Channel[];

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const request = { convId: "c", profile: "default", prompt: "hi", key: "k" };
const typesetter: MathModule = { typeset: () => {} };
const sources: string[] = [];

function start(): void {
  noticed = [];
  heard = [];
  channels = [];
  transport = commTransport(kernel, async (source) => {
    sources.push(source);
    return typesetter;
  });
  unwatch = transport.watch({
    back: () => noticed.push("back"),
    slow: (why) => noticed.push(why),
  });
}

function open(): Channel {
  const channel = transport.open("c", {
    message: (message) => {
      const frame = readFrame(message);
      heard.push([frame?.n, frame?.event.type, frame?.event.id]);
    },
    close: (reason) => heard.push(reason),
    fail: ({ kind }) => heard.push(kind),
  });
  channels.push(channel);
  return channel;
}

/** How a promise ended, or that it has not. */
function outcome(promise: Promise<unknown>): { now: unknown } {
  const box: { now: unknown } = { now: "waiting" };
  promise.then(
    (value) => {
      box.now = value;
    },
    (error: Failure) => {
      box.now = { kind: error.kind, message: error.message };
    },
  );
  return box;
}

const log = (id: string, fault?: "lose" | "twice") => kernel.host.emit("log", id, { message: "x" }, fault);
const host = (status: string, connectionStatus = "connected") => ({ kernel: { status, connectionStatus } });

beforeEach(() => {
  vi.useFakeTimers();
  kernel = new FakeKernel();
  start();
});

afterEach(() => {
  for (const channel of channels) channel.close();
  unwatch();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

describe("questions and answers", () => {
  it("are those of HTTP", async () => {
    log("a");
    kernel.host.reply = () => ({ status: "queued", runId: "r", queuePosition: 2 });
    expect(await transport.probe()).toEqual(kernel.host.health);
    expect(await transport.timeline({ convId: "c", since: 0, limit: 5 })).toEqual({
      rows: kernel.host.store.snapshot(),
      version: 1,
      epoch: "one",
      more: false,
    });
    expect(await transport.chat(request)).toEqual({ status: "queued", runId: "r", queuePosition: 2 });
    await transport.stop("c", "r");
    await transport.stop("c");
    kernel.host.emit("debugger.pause", "r:pause:1", { phase: "after_tools", status: "paused" });
    await transport.resume("c", "r:pause:1");
    expect(await transport.profiles("c")).toEqual([{ slug: "default", name: "Default" }]);
    expect(await transport.loadMath()).toBe(typesetter);
    expect(kernel.asked.map(({ op, body }) => [op, body])).toEqual([
      ["health", {}],
      ["timeline", { conv_id: "c", since_version: 0, limit: 5 }],
      ["chat", { prompt: "hi", conv_id: "c", profile: "default", idempotency_key: "k" }],
      ["stop", { conv_id: "c", run_id: "r" }],
      ["stop", { conv_id: "c" }],
      ["resume", { conv_id: "c", pause_id: "r:pause:1" }],
      ["profiles", { conv_id: "c" }],
      ["math", {}],
    ]);
    expect(new Set(kernel.asked.map(({ rid }) => rid)).size).toBe(8);
    expect(sources).toEqual(["export const typeset = () => {};"]);
  });

  it("give the kernel's own sentence on", async () => {
    kernel.host.failChat = [failure("http", "The queue is full.")];
    await expect(transport.chat(request)).rejects.toMatchObject({
      kind: "http",
      message: "The queue is full.",
      status: 503,
      code: "test",
    });
  });

  it("know a chat that has moved", async () => {
    kernel.host.failChat = [new ApiError("http", "This chat runs on the Jupyter server now.", 404, "moved")];
    await expect(transport.chat(request)).rejects.toMatchObject({ kind: "moved", status: 404 });
  });

  it("of another page are none of ours", async () => {
    kernel.deaf = true;
    const chat = outcome(transport.chat(request));
    kernel.say({ rid: "another page's", status: 200, headers: {}, body: { run_id: "theirs" } });
    await settle();
    expect(chat.now).toBe("waiting");
    kernel.deaf = false;
    await settle();
    expect(chat.now).toMatchObject({ runId: "r1" });
  });

  it.each([
    ["no status", { headers: {}, body: {} }],
    ["a health without its marker", { status: 200, headers: {}, body: { version: "1" } }],
    ["a body of another kind", { status: 200, headers: [], body: "text" }],
  ])("with %s cannot be read", async (_name, answer) => {
    kernel.silent = true;
    const probe = outcome(transport.probe());
    kernel.say({ rid: kernel.asked[0]?.rid, ...answer });
    await settle();
    expect(probe.now).toEqual({ kind: "http", message: expect.stringContaining("cannot read") });
  });

  it("take names of headers as they come, and no timeline without a position", async () => {
    kernel.silent = true;
    const ask = (headers: unknown, body: unknown) => {
      const page = outcome(transport.timeline({ convId: "c" }));
      return settle().then(async () => {
        kernel.say({ rid: kernel.asked.at(-1)?.rid, status: 200, headers, body });
        await settle();
        return page.now;
      });
    };
    expect(await ask({ "x-timeline-version": "7" }, [])).toMatchObject({ version: 7, epoch: null });
    expect(await ask({}, [])).toMatchObject({ kind: "http" });
    expect(await ask({ "X-Timeline-Version": "7" }, {})).toMatchObject({ kind: "http" });
  });

  it("begin with a question that is asked twice where the first one came too early to be heard", async () => {
    kernel.silent = true;
    const first = outcome(transport.probe());
    await settle();
    kernel.silent = false;
    await settle(500);
    expect(first.now).toEqual(kernel.host.health);
    expect(new Set(kernel.asked.map(({ rid }) => rid)).size).toBe(1);
    kernel.silent = true;
    await Promise.all([expect(transport.probe()).rejects.toMatchObject({ kind: "kernel" }), settle(2_600)]);
    expect(kernel.ops()).toEqual(["health", "health", "health"]);
  });

  it("end with whoever asked", async () => {
    kernel.silent = true;
    const aborter = new AbortController();
    const page = outcome(transport.timeline({ convId: "c" }, aborter.signal));
    await settle();
    aborter.abort(new Error("no matter"));
    await settle();
    expect(page.now).toMatchObject({ message: "no matter" });
    await expect(transport.chat(request, aborter.signal)).rejects.toThrow("no matter");
    expect(kernel.ops()).toEqual(["timeline"]);
  });
});

describe("a stream", () => {
  it("begins with the hello as 1, whatever the widget has sent before", async () => {
    const first = open();
    await settle();
    log("a");
    log("b");
    heard = [];
    const second = open();
    await settle();
    log("c");
    expect(heard).toEqual([
      [1, "ws.hello", "ws.hello"],
      [4, "log", "c"],
      [2, "log", "c"],
    ]);
    first.close();
    second.close();
    await settle();
    expect(kernel.ops()).toEqual(["open", "open", "close", "close"]);
    expect(kernel.host.sockets).toHaveLength(0);
  });

  it("keeps what comes before its own beginning, and drops what is older", async () => {
    kernel.silent = true;
    open();
    await settle();
    const frame = (n: number) => ({ sem: true, n, event: { type: "log", id: `l${n}`, data: {} } });
    kernel.say({ frames: [frame(6), frame(7), frame(8)] });
    expect(heard).toEqual([]);
    const hello = { protocol: 1, epoch: "e", version: 0 };
    kernel.say({ rid: kernel.asked[0]?.rid, status: 200, headers: {}, body: { n: 7, hello } });
    await settle();
    kernel.say({ frames: [frame(7), "nonsense", {}, frame(9)] });
    expect(heard).toEqual([
      [1, "ws.hello", "ws.hello"],
      [2, "log", "l8"],
      [3, "log", "l9"],
    ]);
  });

  it.each([
    [1001, "restart"],
    [4408, "slow"],
    [4410, "deleted"],
    [1011, "lost"],
  ])("that ends with %i means %s", async (code, reason) => {
    open();
    kernel.say({ closed: 1001 }); // an earlier one
    await settle();
    heard = [];
    kernel.say({ closed: code });
    log("late");
    expect(heard).toEqual([reason]);
  });

  it("says nothing any more after close, and tells the kernel, also when it never began", async () => {
    kernel.deaf = true;
    const channel = open();
    await settle();
    channel.close();
    channel.close();
    kernel.deaf = false;
    await settle();
    log("late");
    kernel.say({ closed: 4408 });
    expect(heard).toEqual([]);
    expect(kernel.asked.map(({ op, body }) => [op, body.stream])).toEqual([
      ["open", undefined],
      ["close", kernel.asked[0]?.rid],
    ]);
    expect(kernel.host.sockets).toHaveLength(0);
  });

  it("that is refused says why", async () => {
    kernel.silent = true;
    open();
    await settle();
    const body = { message: "Another kernel has this conversation.", code: "held" };
    kernel.say({ rid: kernel.asked[0]?.rid, status: 503, headers: {}, body });
    await settle();
    expect(heard).toEqual(["http"]);
  });

  it("is asked for every 30 s, and lost where the kernel forgot it", async () => {
    open();
    await settle(30_000);
    await settle(30_000);
    expect(kernel.ops()).toEqual(["open", "ping", "ping"]);
    expect(kernel.asked[1]?.body).toEqual({ stream: kernel.asked[0]?.rid });
    expect(heard.at(-1)).toEqual([undefined, "ws.pong", "ws.pong"]);
    kernel.forget();
    await settle(30_000);
    expect(heard.at(-1)).toBe("lost");
  });

  it("is asked for while frames come without a pause, too", async () => {
    open();
    await settle();
    for (let at = 0; at < 31; at += 1) {
      log(`l${at}`);
      await settle(1_000);
    }
    expect(kernel.ops()).toEqual(["open", "ping"]);
  });

  it("is another one where the numbers begin again", async () => {
    open();
    await settle();
    for (let at = 0; at < 3; at += 1) log(`l${at}`);
    const frame = (n: number) => ({ sem: true, n, event: { type: "log", id: `m${n}`, data: {} } });
    kernel.say({ frames: [frame(5), frame(2), frame(3)] });
    expect(heard.slice(-2)).toEqual([[5, "log", "m5"], "lost"]);
  });

  it("is asked 3 s after its last frame whether that was the last one", async () => {
    const channel = open();
    await settle();
    for (let at = 0; at < 5; at += 1) {
      log(`l${at}`);
      await settle(2_000);
    }
    expect(kernel.ops()).toEqual(["open"]);
    await settle(1_100);
    expect(kernel.ops()).toEqual(["open", "ping"]);
    channel.close();
  });
});

describe("a message in pieces", () => {
  const rows = () => transport.timeline({ convId: "c" }).then((page) => page.rows.length);

  it("is one message", async () => {
    for (let at = 0; at < 20; at += 1) log(`l${at}`);
    kernel.pieceLength = 100;
    expect(await rows()).toBe(20);
    kernel.twice = true;
    expect(await rows()).toBe(20);
  });

  it("is nothing where one is missing, and does not disturb the next", async () => {
    for (let at = 0; at < 20; at += 1) log(`l${at}`);
    kernel.pieceLength = 100;
    for (const missing of [0, 3]) {
      kernel.lose = ({ piece }) => (piece as { index: number }).index === missing;
      const page = outcome(transport.timeline({ convId: "c" }));
      await settle(7_900);
      expect(page.now).toBe("waiting");
      await settle(200);
      expect(page.now).toMatchObject({ kind: "kernel" });
      kernel.lose = () => false;
      expect(await rows()).toBe(20);
    }
  });

  it("gives time to what waits for it", async () => {
    const page = outcome(transport.timeline({ convId: "c" }));
    kernel.silent = true;
    await settle(6_000);
    kernel.say({ piece: { of: "x", index: 0, count: 2 }, text: "{" });
    await settle(6_000);
    expect(page.now).not.toMatchObject({ kind: "kernel" });
  });
});

describe("a kernel that does not hear", () => {
  it.each([
    ["busy", host("busy"), "busy", /busy with a cell.*appears by itself/],
    ["idle", host("idle"), "gone", /no link to this chat.*ChatWidget\(\) again/],
    ["dead", host("dead", "disconnected"), "kernel", /restarted or is gone.*Run this cell again/],
    ["out of reach", host("busy", "connecting"), "kernel", /Either.*busy.*run this cell again/],
    ["of a notebook that says nothing", undefined, "kernel", /Either.*busy.*run this cell again/],
    ["of a notebook that says nonsense", { kernel: 7 }, "kernel", /Either.*busy.*run this cell again/],
  ])("and is %s says so within 3 s", async (_name, manager, kind, words) => {
    kernel.widget_manager = manager;
    kernel.silent = true;
    const probe = outcome(transport.probe());
    await settle(2_600);
    expect(probe.now).toEqual({ kind, message: expect.stringMatching(words) });
  });

  it("and is idle, but says how it is, is not gone", async () => {
    kernel.widget_manager = host("idle");
    kernel.lose = ({ body }) => Array.isArray(body); // its rows get lost
    const page = outcome(transport.timeline({ convId: "c" }));
    await settle(8_100);
    expect(kernel.ops()).toEqual(["timeline", "health"]);
    expect(page.now).toMatchObject({ kind: "kernel" });
  });

  it("of a notebook that throws is not asked about", async () => {
    kernel.widget_manager = {
      get kernel() {
        throw new Error("disposed");
      },
    };
    kernel.silent = true;
    const probe = outcome(transport.probe());
    await settle(2_600);
    expect(probe.now).toMatchObject({ kind: "kernel" });
  });

  it("is back with its first answer, whoever asked; frames are no answer", async () => {
    kernel.silent = true;
    outcome(transport.probe());
    await settle(2_600);
    kernel.say({ frames: [] });
    expect(noticed).toEqual([]);
    kernel.say({ rid: "another page's", status: 200, headers: {}, body: {} });
    expect(noticed).toEqual(["back"]);
    kernel.say({ rid: "another page's", status: 200, headers: {}, body: {} });
    expect(noticed).toEqual(["back"]);
  });

  it("keeps what was sent, for an hour, and says calmly that it waits", async () => {
    kernel.widget_manager = host("busy");
    kernel.deaf = true;
    const chat = outcome(transport.chat(request));
    await settle(1_900);
    expect(noticed).toEqual([]);
    await settle(200);
    expect(noticed).toEqual([expect.stringContaining("kernel is busy")]);
    await settle(3_600_000);
    expect(chat.now).toBe("waiting");
    kernel.deaf = false;
    await settle();
    expect(chat.now).toMatchObject({ runId: "r1" });
    expect(noticed.slice(1)).toEqual([null]);
    expect(kernel.ops()).toEqual(["chat"]);
  });

  it("says so until everything is answered", async () => {
    kernel.lose = () => true;
    const lost = outcome(transport.stop("c"));
    await settle(2_100);
    kernel.lose = () => false;
    await transport.chat(request);
    expect(noticed).toEqual([expect.any(String)]);
    expect(lost.now).toBe("waiting");
    kernel.say({ rid: kernel.asked[0]?.rid, status: 200, headers: {}, body: {} });
    expect(noticed).toEqual([expect.any(String), null]);
  });

  it("is asked one large question only, however often the page tries", async () => {
    kernel.deaf = true;
    const first = outcome(transport.timeline({ convId: "c" }));
    await settle(8_100);
    expect(first.now).toMatchObject({ kind: "kernel" });
    const second = outcome(transport.timeline({ convId: "c" }));
    await settle(60_000);
    expect(second.now).toBe("waiting");
    expect(kernel.ops().filter((op) => op === "timeline")).toHaveLength(1);
    kernel.deaf = false;
    await settle();
    expect(second.now).toMatchObject({ rows: [] });
  });

  it("does not end a stream: its frames come all the same", async () => {
    open();
    await settle();
    kernel.deaf = true;
    await settle(300_000);
    log("still here");
    expect(heard.at(-1)).toEqual([2, "log", "still here"]);
    expect(heard).toHaveLength(2);
    kernel.deaf = false;
    await settle();
  });
});

describe("a comm that is dead", () => {
  const waitingPrompt = async () => {
    open();
    await settle();
    kernel.silent = true;
    return outcome(transport.chat(request));
  };
  const labKernel = () => {
    const signal = () => {
      const slots = new Set<() => void>();
      return {
        slots,
        connect: (slot: () => void) => void slots.add(slot),
        disconnect: (slot: () => void) => void slots.delete(slot),
        emit: () => {
          for (const slot of slots) slot();
        },
      };
    };
    const [statusChanged, connectionStatusChanged] = [signal(), signal()];
    const state = { status: "idle", connectionStatus: "connected", statusChanged, connectionStatusChanged };
    kernel.widget_manager = { kernel: state };
    unwatch();
    start();
    return state;
  };
  const gone = { kind: "gone", message: expect.stringContaining("Run the cell again") };

  it.each([false, true])("is known at once where sending fails (as a promise: %s)", async (promises) => {
    kernel.promises = promises;
    const chat = await waitingPrompt();
    kernel.dead = true;
    const stop = outcome(transport.stop("c"));
    await settle();
    expect([chat.now, stop.now]).toEqual([gone, gone]);
    expect(heard.at(-1)).toBe("gone");
    await expect(transport.probe()).rejects.toMatchObject(gone);
    await expect(transport.chat(request)).rejects.toMatchObject(gone);
    expect(kernel.ops()).toEqual(["open", "chat"]);
  });

  it("is known at once where the notebook says that it was closed", async () => {
    const chat = await waitingPrompt();
    kernel.tell("comm:close");
    await settle();
    expect(chat.now).toEqual(gone);
    expect(heard.at(-1)).toBe("gone");
  });

  it("is known 1.5 s after the kernel has taken leave", async () => {
    kernel.widget_manager = host("unknown", "connecting");
    const chat = await waitingPrompt();
    kernel.say({ closed: 1001 });
    await settle(1_600);
    expect(heard.at(-1)).toBe("restart");
    expect(chat.now).toEqual(gone);
  });

  it("is known 1.5 s after the notebook doubts it, also where it says that it is busy", async () => {
    kernel.widget_manager = host("busy");
    const chat = await waitingPrompt();
    kernel.tell("comm_live_update");
    await settle(1_400);
    expect(chat.now).toBe("waiting");
    await settle(200);
    expect(chat.now).toEqual(gone);
  });

  it("is not what it seemed where it answers", async () => {
    open();
    await settle();
    kernel.tell("comm_live_update");
    await settle(5_000);
    expect(heard).toEqual([[1, "ws.hello", "ws.hello"]]);
    expect(noticed).toEqual([]);
  });

  it("is known where the kernel's state says so", async () => {
    const state = labKernel();
    const chat = await waitingPrompt();
    for (const status of ["busy", "autorestarting", "idle"]) {
      state.status = status;
      state.statusChanged.emit();
    }
    await settle(1_600);
    expect(chat.now).toEqual(gone);
    unwatch();
    expect(state.statusChanged.slots.size + state.connectionStatusChanged.slots.size).toBe(0);
  });

  it("is known where the notebook has taken another kernel, but not where it lost its connection", async () => {
    const state = labKernel();
    open();
    await settle();
    kernel.silent = true;
    state.connectionStatus = "connecting";
    state.connectionStatusChanged.emit();
    await settle(60_000);
    expect(heard.at(-1)).toEqual([1, "ws.hello", "ws.hello"]);
    kernel.dead = true;
    state.connectionStatusChanged.emit();
    await settle();
    expect(heard.at(-1)).toBe("gone");
  });

  it("is known where a kernel with nothing to do answers nothing", async () => {
    kernel.widget_manager = host("idle");
    const chat = await waitingPrompt();
    await settle(9_000);
    expect(chat.now).toBe("waiting"); // it has answered before, and may be slow
    await settle(1_100);
    expect(chat.now).toEqual(gone);
    expect(noticed).toEqual([expect.any(String), null]);
  });

  it("is not assumed of a kernel that begins a cell meanwhile", async () => {
    kernel.widget_manager = host("idle");
    const chat = await waitingPrompt();
    await settle(3_000);
    kernel.widget_manager = host("busy");
    await settle(60_000);
    expect(chat.now).toBe("waiting");
  });

  it("answers nothing until it is seen to live, then all is as before", async () => {
    await waitingPrompt();
    kernel.tell("comm:close");
    await settle();
    const probe = outcome(transport.probe());
    await settle(2_600);
    expect(probe.now).toEqual(gone);
    kernel.silent = false;
    await transport.probe();
    expect(noticed).toEqual(["back"]);
    expect(await transport.chat(request)).toMatchObject({ runId: "r1" });
  });
});

it("whatever comes over the comm, nothing is thrown and the chat goes on", async () => {
  const thrown: unknown[] = [];
  vi.stubGlobal("reportError", (error: unknown) => thrown.push(error));
  open();
  await settle();
  const rid = kernel.asked[0]?.rid;
  const odd = fc.oneof(
    fc.anything(),
    fc.record({ frames: fc.oneof(fc.anything(), fc.array(fc.anything())) }),
    fc.record({
      frames: fc.array(
        fc.record({ sem: fc.boolean(), n: fc.oneof(fc.nat(), fc.anything()), event: fc.anything() }),
      ),
    }),
    fc.record({ rid: fc.oneof(fc.constant(rid), fc.anything()), status: fc.anything(), body: fc.anything() }),
    fc.record({
      piece: fc.oneof(
        fc.anything(),
        fc.record({ of: fc.constantFrom("a", "b"), index: fc.nat(2), count: fc.nat(3) }),
      ),
      text: fc.oneof(fc.anything(), fc.json()),
    }),
  );
  fc.assert(
    fc.property(odd, (message) => kernel.say(message)),
    { numRuns: 1_000 },
  );
  await settle();
  expect(thrown).toEqual([]);
  expect(await transport.chat(request)).toMatchObject({ runId: "r1" });
  vi.unstubAllGlobals();
});

it("leaves nothing behind when nobody watches any more", async () => {
  kernel.silent = true;
  const chat = outcome(transport.chat(request));
  const channel = open();
  await settle(3_000);
  channel.close();
  unwatch();
  await settle();
  expect(chat.now).toMatchObject({ message: expect.any(String) });
  expect(kernel.listeners).toBe(0);
});

describe("answers and pictures over a comm", () => {
  const pending = { digest: "d", expiresAt: 0, state: "pending" };
  const approval = { convId: "c", callId: "t", decision: "deny", digest: "d", reason: "no" } as const;

  it("carries an answer to a call that asks, and the host's no", async () => {
    kernel.host.emit("tool.start", "t", { name: "f" });
    kernel.host.emit("tool.delta", "t", { patch: { status: "asking", approval: pending } });
    const first = outcome(transport.approve(approval));
    await settle();
    expect(first.now).toBeUndefined();
    expect(kernel.asked.at(-1)).toMatchObject({
      op: "approve",
      body: { conv_id: "c", call_id: "t", decision: "deny", digest: "d", reason: "no" },
    });
    expect(kernel.host.approvals).toEqual([approval]);
    const again = outcome(transport.approve({ ...approval, digest: "other" }));
    await settle();
    expect(again.now).toMatchObject({ kind: "http", message: expect.stringContaining("decided already") });
  });

  it("waits with it for a kernel that runs a cell, for as long as it takes", async () => {
    kernel.host.emit("tool.start", "t", { name: "f" });
    kernel.host.emit("tool.delta", "t", { patch: { approval: pending } });
    kernel.deaf = true;
    const answer = outcome(transport.approve(approval));
    await settle(3_600_000);
    expect(answer.now).toBe("waiting");
    expect(noticed.at(-1)).toContain("kernel");
    kernel.deaf = false;
    await settle();
    expect(answer.now).toBeUndefined();
  });

  it("carries pictures, and refuses more of them than a message may hold", async () => {
    const pictures = [{ name: "a", mime: "image/png", data: "iVBO" }];
    await Promise.all([transport.chat({ ...request, pictures }), settle()]);
    expect(kernel.host.chats[0]?.pictures).toEqual(pictures);
    const large = { ...request, pictures: [{ name: "b", mime: "image/png", data: "x".repeat(9_400_000) }] };
    const sent = kernel.asked.length;
    const refused = outcome(transport.chat(large));
    await settle();
    expect(refused.now).toMatchObject({ kind: "http", message: expect.stringContaining("7 MB") });
    expect(kernel.asked).toHaveLength(sent);
  });
});
