// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../http/replies";
import { FakeHost, failure } from "../testing/fakeHost";
import type { Entity } from "../timeline/entities";
import { Session } from "./session";

let host: FakeHost;
let session: Session;
const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const rows = () => session.store.snapshot();
const local = () => rows().filter((row) => row.props.local === true);

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  host = new FakeHost();
  session = new Session(host, "c");
  session.start();
  await settle();
});

afterEach(() => {
  session.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function arrive(run: string, prompt: string, key: string): void {
  host.emit("run.started", run, { runId: run, status: "started", prompt });
  const props = { role: "user", content: prompt, idempotencyKey: key };
  host.emit("timeline.upsert", `${run}:user`, { entity: { id: `${run}:user`, kind: "message", props } });
}

describe("a prompt on its way", () => {
  it("shows at once, last, under its key", () => {
    host.emit("log", "l", { message: "x" });
    session.send("hello", "default");
    const last = rows().at(-1) as Entity;
    expect(last).toMatchObject({ kind: "message", props: { content: "hello", status: "pending" } });
    expect(host.chats[0]).toMatchObject({ prompt: "hello", key: last.id });
    host.emit("log", "m", { message: "later" });
    expect(rows().at(-1)?.id).toBe(last.id);
  });

  it("becomes the user message that carries its key, in the same element", async () => {
    session.send("hello", "default");
    session.store.flush();
    const row = session.store.order.value.at(-1);
    arrive("r1", "hello", host.chats[0]?.key ?? "");
    await settle();
    session.store.flush();
    expect(local()).toEqual([]);
    expect(rows()).toEqual(host.store.snapshot());
    expect(session.store.order.value).toContain(row);
    expect(row?.entity.value.id).toBe("r1:user");
  });

  it("also where the message comes before the answer to the POST", async () => {
    host.reply = (request) => {
      arrive("r1", request.prompt, request.key);
      return { status: "started", runId: "r1", queuePosition: null };
    };
    session.send("hello", "default");
    await settle();
    expect(rows()).toEqual(host.store.snapshot());
  });

  it("stays with the server's sentence when it failed; Retry sends the same key", async () => {
    host.failChat = [failure("http", "The queue is full.")];
    session.send("hello", "default");
    await settle();
    const key = host.chats[0]?.key ?? "";
    expect(session.store.get(key)?.props).toMatchObject({ status: "failed", error: "The queue is full." });
    session.outbox.retry(key);
    expect(session.store.get(key)?.props).toMatchObject({ status: "pending" });
    arrive("r1", "hello", key);
    await settle();
    expect(host.chats.map((chat) => chat.key)).toEqual([key, key]);
    expect(rows()).toEqual(host.store.snapshot());
  });

  it("is not lost to a failed answer when the prompt had arrived all the same", async () => {
    host.failChat = [failure("network")];
    session.send("hello", "default");
    await settle();
    arrive("r1", "hello", host.chats[0]?.key ?? "");
    expect(rows()).toEqual(host.store.snapshot());
  });

  describe("that arrived though its answer was lost, before another history came", () => {
    const key = () => host.chats[0]?.key ?? "";
    const restart = async () => {
      host.mostRows = 4;
      host.restart();
      await settle(5000);
      expect(session.status.value.phase).toBe("live");
    };
    const run = () => {
      arrive("r1", "hello", key());
      host.emit("run.finished", "r1", { runId: "r1", status: "finished" });
    };
    const more = () => {
      for (let at = 0; at < 8; at += 1) host.emit("log", `l${at}`, { message: "x" });
    };

    beforeEach(async () => {
      host.failChat = [failure("network")];
      host.cut();
      session.send("hello", "default");
      await settle();
    });

    it.each(["started", "queued"] as const)(
      "goes to where its message stands, above the first row: the answer is %s",
      async (status) => {
        run();
        more();
        await restart();
        host.reply = () => ({ status, runId: "r1", queuePosition: 1 });
        session.outbox.retry(key());
        await settle(5000);
        expect(rows()).toEqual(host.store.snapshot().slice(-4));
        host.mostRows = Infinity;
        await session.loadEarlier();
        expect(rows().some(({ id }) => id === "r1:user")).toBe(true);
      },
    );

    it("goes there also while its run goes on", async () => {
      arrive("r1", "hello", key());
      more();
      await restart();
      session.outbox.retry(key());
      await settle(5000);
      expect(session.runs.value).toMatchObject([{ id: "r1", props: { status: "started" } }]);
      expect(local()).toEqual([]);
    });

    it("stays until its message is there, where that is only on its way", async () => {
      more();
      await restart();
      const asked = host.requests.length;
      host.delayMs = 100;
      session.outbox.retry(key());
      await settle();
      expect(local()).toMatchObject([{ id: key(), props: { status: "pending" } }]);
      run();
      await settle(5000);
      expect(session.store.has(key())).toBe(false);
      expect(rows().at(-1)?.id).toBe("r1:user");
      expect(host.requests.length - asked).toBeLessThan(3);
    });
  });

  it("costs no look at the rows, however many there are further up", async () => {
    for (let at = 0; at < 8; at += 1) host.emit("log", `l${at}`, { message: "x" });
    host.mostRows = 4;
    host.restart();
    await settle(5000);
    const asked = host.requests.length;
    session.send("hello", "default");
    await settle(100);
    arrive("r1", "hello", host.chats[0]?.key ?? "");
    expect(host.requests).toHaveLength(asked);
    expect(local()).toEqual([]);
  });

  it("can be taken back when it failed", async () => {
    host.failChat = [failure("network")];
    session.send("hello", "default");
    await settle();
    session.outbox.discard(host.chats[0]?.key ?? "");
    expect(rows()).toEqual([]);
  });

  it("waits in the queue as one row, whether the run or the answer comes first", async () => {
    host.reply = (request) => {
      host.emit("run.queued", "r2", {
        runId: "r2",
        status: "queued",
        prompt: request.prompt,
        queuePosition: 2,
        idempotencyKey: request.key,
      });
      const run = session.store.get("r2") as Entity;
      expect(session.outbox.rowOf(run)).toBe(request.key);
      return { status: "queued", runId: "r2", queuePosition: 2 };
    };
    session.send("second", "default");
    await settle();
    expect(local()).toHaveLength(1);
    expect(local()[0]?.props).toMatchObject({ status: "queued", queuePosition: 2, runId: "r2" });
    expect(session.outbox.rowOf(session.store.get("r2") as Entity)).toBe(local()[0]?.id);
    host.emit("run.queued", "r2", { runId: "r2", status: "queued", queuePosition: 1 });
    expect(local()[0]?.props.queuePosition).toBe(1);
    arrive("r2", "second", host.chats[0]?.key ?? "");
    expect(rows()).toEqual(host.store.snapshot());
  });

  it("leaves the queue when it is cancelled", async () => {
    host.reply = () => ({ status: "queued", runId: "r2", queuePosition: 1 });
    session.send("second", "default");
    await settle();
    host.emit("run.queued", "r2", { runId: "r2", status: "queued", prompt: "second", queuePosition: 1 });
    host.emit("run.stopped", "r2", { runId: "r2", status: "stopped" });
    expect(local()).toEqual([]);
  });

  it("does not claim a queued run that another page sent", () => {
    session.send("the same words", "default");
    const data = { runId: "r9", status: "queued", prompt: "the same words", queuePosition: 1 };
    host.emit("run.queued", "r9", { ...data, idempotencyKey: "theirs" });
    expect(session.outbox.rowOf(session.store.get("r9") as Entity)).toBeNull();
  });

  it("that waits is the host's after a restart, which knows it as its run", async () => {
    host.reply = ({ prompt, key }) => {
      const data = { runId: "r2", status: "queued", prompt, queuePosition: 1, idempotencyKey: key };
      host.emit("run.queued", "r2", data);
      return { status: "queued", runId: "r2", queuePosition: 1 };
    };
    session.send("second", "default");
    await settle();
    expect(local()).toHaveLength(1);
    host.restart();
    await settle(5000);
    expect(local()).toEqual([]);
    expect(session.runs.value).toMatchObject([{ id: "r2", props: { status: "queued", prompt: "second" } }]);
    arrive("r2", "second", host.chats[0]?.key ?? "");
    expect(rows()).toEqual(host.store.snapshot());
  });

  it("that is not answered yet stays over a restart", async () => {
    host.chat = () => new Promise(() => {});
    session.send("second", "default");
    host.restart();
    await settle(5000);
    expect(local()).toMatchObject([{ props: { status: "pending" } }]);
  });
});

describe("a conversation that moves", () => {
  let next: FakeHost;
  let heir: Session;
  const key = () => host.chats[0]?.key ?? "";
  const move = () => {
    heir.start();
    heir.inherit(session);
    session.close();
  };

  beforeEach(() => {
    next = new FakeHost();
    heir = new Session(next, "c");
  });
  afterEach(() => heir.close());

  it("shows its rows until those of the new host are there, and says that there are earlier ones", async () => {
    for (const id of ["a", "b", "c"]) host.emit("log", id, { message: "x" });
    host.mostRows = 2;
    host.restart();
    await settle(5000);
    next.emit("log", "b", { message: "x" });
    next.delayMs = 100;
    next.failProbe = [failure("busy")];
    const looks: string[] = [];
    move();
    heir.store.order.subscribe((rows) => looks.push(rows.map(({ entity }) => entity.peek().id).join(" ")));
    await settle();
    expect(heir.status.value).toMatchObject({ phase: "error", hydrated: true });
    expect(heir.more.value).toBe(true);
    void heir.loadEarlier();
    await settle(5000);
    expect(heir.status.value.phase).toBe("live");
    expect(heir.more.value).toBe(false);
    expect(heir.store.snapshot()).toEqual(next.store.snapshot());
    expect(looks).toEqual(["b c", "b"]);
  });

  it("prompts on their way: are there at once, and sent under their key when the rows do not have them", async () => {
    host.chat = (request) => {
      host.chats.push(request);
      return new Promise(() => {});
    };
    session.send("hello", "special");
    move();
    expect(heir.store.get(key())?.props).toMatchObject({ content: "hello", status: "pending" });
    expect(next.chats).toEqual([]);
    await settle();
    expect(next.chats).toMatchObject([{ prompt: "hello", profile: "special", key: key() }]);
    await settle(60_000);
    expect(next.chats).toHaveLength(1);
  });

  it("prompts that came along with the rows: are not sent a second time, for hosts know their own keys only", async () => {
    session.send("ran", "default");
    session.send("waits", "default");
    const [ran, waits] = host.chats.map((chat) => chat.key);
    const props = { role: "user", content: "ran", idempotencyKey: ran };
    next.emit("timeline.upsert", "r1:user", { entity: { id: "r1:user", kind: "message", props } });
    next.emit("run.queued", "r2", { status: "queued", queuePosition: 1, idempotencyKey: waits });
    move();
    await settle();
    expect(next.chats).toEqual([]);
    expect(heir.store.has("r1:user") && !heir.store.has(ran ?? "")).toBe(true);
    expect(heir.store.get(waits ?? "")?.props).toMatchObject({ status: "queued", runId: "r2" });
  });

  it("prompts that were not sent: keep their reason, and wait for a person", async () => {
    host.failChat = [failure("http", "The queue is full.")];
    session.send("hello", "default");
    await settle();
    move();
    await settle();
    expect(heir.store.get(key())?.props).toMatchObject({ status: "failed", error: "The queue is full." });
    expect(next.chats).toEqual([]);
    heir.outbox.retry(key());
    expect(next.chats).toMatchObject([{ prompt: "hello", key: key() }]);
  });

  it("prompts that came too late at the former host: are sent", async () => {
    host.failChat = [failure("moved", "This chat runs on the Jupyter server now.")];
    session.send("hello", "default");
    await settle();
    expect(local()[0]?.props).toMatchObject({
      status: "failed",
      error: expect.stringContaining("server now"),
    });
    move();
    await settle();
    expect(next.chats).toMatchObject([{ prompt: "hello", key: key() }]);
    expect(heir.store.get(key())?.props.status).toBe("pending");
  });

  it("prompts go to a session that is there already, each once", async () => {
    heir.start();
    await settle();
    session.send("hello", "default");
    heir.inherit(session);
    heir.inherit(session);
    expect(next.chats).toMatchObject([{ prompt: "hello", key: key() }]);
    expect(heir.store.snapshot()).toHaveLength(1);
  });
});

describe("pictures", () => {
  const pictures = [{ name: "a.png", mime: "image/png", data: "iVBO" }];

  it("show with their prompt at once, and are sent again with it", async () => {
    host.failChat = [failure("network")];
    session.send("look", "default", pictures);
    expect(local()[0]?.props.images).toEqual(pictures);
    await settle();
    session.outbox.retry(host.chats[0]?.key ?? "");
    expect(host.chats.map((chat) => chat.pictures)).toEqual([pictures, pictures]);
  });

  it("move with a prompt that is on its way", async () => {
    host.chat = () => new Promise(() => {});
    session.send("look", "default", pictures);
    const next = new FakeHost();
    const heir = new Session(next, "c");
    heir.start();
    heir.inherit(session);
    expect(heir.store.snapshot()[0]?.props.images).toEqual(pictures);
    await settle();
    expect(next.chats).toMatchObject([{ prompt: "look", pictures }]);
    heir.close();
  });
});

describe("an answer to a call that asks", () => {
  const approval = { digest: "d", expiresAt: 0, state: "pending" };
  const answer = { callId: "t", decision: "once", digest: "d" } as const;
  beforeEach(async () => {
    host.emit("tool.start", "t", { name: "f" });
    host.emit("tool.delta", "t", { patch: { status: "asking", approval } });
    await settle();
  });

  it("arrives", async () => {
    expect(await session.approve(answer)).toBeNull();
    expect(host.approvals).toEqual([{ ...answer, convId: "c" }]);
  });

  it("that the host refuses makes the page look for what it has missed", async () => {
    host.emit("tool.done", "t", { status: "cancelled" }, "lose");
    const asked = host.requests.length;
    host.failApprove = [failure("http", "It was decided already.")];
    expect(await session.approve(answer)).toBe("It was decided already.");
    await settle();
    expect(host.requests).toHaveLength(asked + 1);
    expect(session.store.get("t")?.props.status).toBe("cancelled");
    expect(session.status.value.phase).toBe("live");
  });

  it("that did not reach the host says so, and nothing more", async () => {
    const asked = host.requests.length;
    host.failApprove = [failure("network", "Jupyter cannot be reached.")];
    expect(await session.approve(answer)).toBe("Jupyter cannot be reached.");
    expect(host.requests).toHaveLength(asked);
  });
});

describe("a session", () => {
  it("says when Stop did not work", async () => {
    host.stop = () => Promise.reject(failure("network", "Jupyter cannot be reached."));
    await session.stop();
    expect(session.notice.value).toContain("Jupyter cannot be reached.");
    session.send("on", "default");
    expect(session.notice.value).toBeNull();
  });

  it.each([
    ["http", "end_not_stored", "Stopped, but that could not be stored; it is tried again. The disk is full."],
    ["http", "store_unavailable", "Stop was refused. The disk is full."],
    ["http", "conversation_held", "Stop was refused. The disk is full."],
    ["moved", "moved", "Stop was refused. The disk is full."],
  ] as const)("says what became of a Stop that did not go well: %s, %s", async (kind, code, sentence) => {
    host.stop = () => Promise.reject(new ApiError(kind, "The disk is full.", 503, code));
    await session.stop("r");
    expect(session.notice.value).toBe(sentence);
  });

  it("asks the host how it is when it refused, and when it takes again what it refused", async () => {
    const { probes } = host;
    session.send("one", "default");
    await settle();
    expect(host.probes).toBe(probes);
    host.health = { ...host.health, notices: ["The timeline can only be read."] };
    host.failChat = [failure("http", "The timeline can only be read.")];
    session.send("two", "default");
    await settle();
    expect(session.health.value?.notices).toEqual(["The timeline can only be read."]);
    host.health = { ...host.health, notices: [] };
    session.outbox.retry(host.chats[1]?.key ?? "");
    await settle();
    expect(session.health.value?.notices).toEqual([]);
  });

  it("renders many deltas as one change a frame", async () => {
    host.emit("llm.start", "m", { role: "assistant" });
    await settle(200);
    const row = session.store.order.value[0];
    let changes = -1;
    row?.entity.subscribe(() => (changes += 1));
    for (let at = 0; at < 50; at += 1) host.emit("llm.delta", "m", { delta: "x", offset: at });
    expect(changes).toBe(0);
    await settle(200);
    expect(changes).toBe(1);
    expect(row?.entity.value.props.content).toBe("x".repeat(50));
  });
});
