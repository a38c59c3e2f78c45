import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../http/replies";
import { Session } from "../session/session";
import { FakeHost } from "../testing/fakeHost";
import { ChatWidget } from "./ChatWidget";

let host: FakeHost;
let session: Session;
let el: HTMLElement;

const settle = (ms = 500) => vi.advanceTimersByTimeAsync(ms);
const find = (part: string) => el.querySelector<HTMLElement>(`[data-part=${part}]`);
const prompts = () =>
  [...el.querySelectorAll("[data-role=user]")].map((turn) =>
    [...turn.querySelectorAll("[data-part=content], .wc-note > span")]
      .map((each) => each.textContent)
      .join(": "),
  );
const log = (id: string) => host.emit("log", id, { level: "info", message: id });
const started = (id: string) => host.emit("run.started", id, { runId: id, status: "started", prompt: id });
const queued = (id: string, queuePosition: number, idempotencyKey = id) =>
  host.emit("run.queued", id, { runId: id, status: "queued", prompt: id, queuePosition, idempotencyKey });

async function open(): Promise<void> {
  session = new Session(host, "c");
  session.start();
  render(<ChatWidget session={session} profile="default" />, el);
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  host = new FakeHost();
  el = document.createElement("div");
  document.body.append(el);
});

afterEach(() => {
  render(null, el);
  el.remove();
  session.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("the queue", () => {
  it("is as long as the status bar says", async () => {
    await open();
    started("r");
    await settle();
    expect(find("queue")).toBeNull();
    queued("a", 1);
    await settle();
    expect(find("queue")?.textContent).toBe("1 prompt waiting");
    queued("b", 2);
    await settle();
    expect(find("queue")?.textContent).toBe("2 prompts waiting");
    host.emit("run.stopped", "a", { runId: "a", status: "stopped" });
    queued("b", 1);
    await settle();
    expect(find("queue")?.textContent).toBe("1 prompt waiting");
  });

  it("stands below the reply that is awaited, in its own order, whoever sent the prompts", async () => {
    await open();
    started("r");
    host.emit("timeline.upsert", "r:user", {
      entity: { id: "r:user", kind: "message", props: { role: "user", content: "r" } },
    });
    host.reply = ({ prompt, key }) => {
      queued(prompt, 2, key);
      return { status: "queued", runId: prompt, queuePosition: 2 };
    };
    session.send("mine", "default");
    queued("first", 1);
    queued("last", 3);
    await settle();
    expect(prompts()).toEqual([
      "r",
      "first: Queued – next in line",
      "mine: Queued – number 2 in line",
      "last: Queued – number 3 in line",
    ]);
    const rows = [...(el.querySelector(".wc-column")?.children ?? [])].map((row) => row.className);
    expect(rows).toEqual(["wc-turn", "wc-dots", "wc-turn", "wc-turn", "wc-turn"]);
  });

  it("keeps the element of a prompt whose turn comes", async () => {
    await open();
    host.reply = ({ prompt, key }) => {
      queued(prompt, 1, key);
      return { status: "queued", runId: prompt, queuePosition: 1 };
    };
    session.send("mine", "default");
    await settle();
    const row = el.querySelector("[data-role=user]");
    const props = { role: "user", content: "mine", idempotencyKey: host.chats[0]?.key };
    started("mine");
    host.emit("timeline.upsert", "mine:user", { entity: { id: "mine:user", kind: "message", props } });
    await settle();
    expect(prompts()).toEqual(["mine"]);
    expect(el.querySelector("[data-role=user]")).toBe(row);
  });

  it("lets a prompt go, and says where that is not on disk", async () => {
    await open();
    started("r");
    queued("a", 1);
    await settle();
    find("remove-prompt")?.click();
    await settle();
    expect(host.stops).toEqual(["a"]);
    expect(document.activeElement).toBe(find("composer-input"));
    host.stop = () => Promise.reject(new ApiError("http", "The disk is full.", 503, "end_not_stored"));
    find("remove-prompt")?.click();
    await settle();
    expect(el.querySelector(".wc-strip")?.textContent).toBe(
      "Removed, but that could not be stored; it is tried again. The disk is full.",
    );
  });
});

describe("a run that began above the first page", () => {
  beforeEach(async () => {
    started("r");
    host.emit("tool.start", "r:call:1", { name: "f", input: {} });
    const approval = { digest: "d", expiresAt: Date.now() + 1e6, state: "pending" };
    host.emit("tool.delta", "r:call:1", { patch: { status: "asking", approval } });
    queued("a", 1);
    for (let at = 1; at <= 900; at += 1) log(`r:log:${at}`);
    await open();
  });

  it("can be stopped, and what waits behind it is there", async () => {
    expect(session.store.get("r:log:1")).toBeUndefined();
    expect(prompts()).toEqual(["a: Queued – next in line"]);
    expect(find("queue")?.textContent).toBe("1 prompt waiting");
    find("stop-button")?.click();
    await settle();
    expect(host.stops).toEqual(["r"]);
    host.emit("run.stopped", "r", { runId: "r", status: "stopped" });
    await settle();
    expect(find("stop-button")).toBeNull();
  });

  it("shows what it asks, which is loaded for that", async () => {
    expect(find("statusbar")?.textContent).toContain("Waiting for your answer");
    expect(find("approval")).toBeNull();
    find("show-approval")?.click();
    await settle();
    expect(document.activeElement).toBe(find("approval"));
  });
});
