// @vitest-environment node
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { FakeKernel } from "../testing/fakeKernel";
import { commTransport } from "../transport/comm";
import { Session } from "./session";

let kernel: FakeKernel;
let session: Session;
const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const last = () => session.store.snapshot().at(-1);

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  kernel = new FakeKernel();
  session = new Session(commTransport(kernel), "c");
});

afterEach(() => {
  session.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("a chat in the kernel: rows, prompts, frames", async () => {
  kernel.host.emit("log", "before", { message: "x" });
  session.start();
  await settle();
  expect(session.transportName).toBe("kernel");
  expect(session.status.value.phase).toBe("live");
  session.send("hello", "default");
  await settle();
  expect(kernel.host.chats).toMatchObject([{ prompt: "hello", profile: "default" }]);
  kernel.host.emit("llm.start", "m", { role: "assistant" });
  expect(session.store.has("before") && session.store.has("m")).toBe(true);
});

it("a kernel that is busy at first: says so, and the chat appears with its first word", async () => {
  kernel.deaf = true;
  kernel.widget_manager = { kernel: { status: "busy", connectionStatus: "connected" } };
  session.start();
  await settle(2_600);
  expect(session.status.value).toMatchObject({ phase: "error", failure: { kind: "busy" } });
  await settle(300_000);
  kernel.deaf = false;
  await settle(10);
  expect(session.status.value).toMatchObject({ phase: "live", failure: null });
});

it("a page that its kernel knows nothing of: says so, and looks again now and then", async () => {
  kernel.silent = true;
  kernel.widget_manager = { kernel: { status: "idle", connectionStatus: "connected" } };
  session.start();
  await settle(2_600);
  expect(session.status.value).toMatchObject({
    phase: "error",
    failure: { kind: "gone", message: expect.stringContaining("no link") },
  });
  kernel.silent = false;
  await settle(20_100);
  expect(session.status.value).toMatchObject({ phase: "live", failure: null });
});

it("a prompt that waits for a busy kernel: its row is there, a word says why, and then no more", async () => {
  session.start();
  await settle();
  kernel.deaf = true;
  session.send("hello", "default");
  await settle(2_100);
  expect(session.slow.value).toContain("busy");
  expect(last()?.props).toMatchObject({ content: "hello", status: "pending" });
  kernel.deaf = false;
  await settle();
  expect(session.slow.value).toBeNull();
  expect(kernel.host.chats).toHaveLength(1);
});

it("a kernel that was restarted: rows stay, prompts on their way are not sent and keep their text", async () => {
  kernel.host.emit("log", "before", { message: "x" });
  session.start();
  await settle();
  kernel.silent = true;
  session.send("hello", "default");
  kernel.tell("comm_live_update");
  await settle(1_600);
  expect(session.status.value).toMatchObject({ phase: "error", hydrated: true, failure: { kind: "gone" } });
  expect(session.store.has("before")).toBe(true);
  expect(last()?.props).toMatchObject({
    content: "hello",
    status: "failed",
    error: expect.stringContaining("Run the cell again"),
  });
  session.outbox.retry(last()?.id ?? "");
  await settle();
  expect(last()?.props.status).toBe("failed");
  await settle(120_000);
  expect(session.status.value).toMatchObject({ phase: "error", failure: { kind: "gone" } });
});

it("a false alarm: it comes back by itself, and Retry sends under the same key", async () => {
  session.start();
  await settle();
  kernel.silent = true;
  session.send("hello", "default");
  kernel.tell("comm_live_update");
  await settle(1_600);
  kernel.silent = false;
  kernel.say({ frames: [] });
  await settle();
  expect(session.status.value.phase).toBe("live");
  session.outbox.retry(last()?.id ?? "");
  await settle();
  expect(kernel.host.chats).toMatchObject([{ prompt: "hello", key: last()?.id }]);
});

it("leaves nothing behind when it is closed", async () => {
  session.start();
  await settle();
  session.close();
  await settle();
  expect(kernel.listeners).toBe(0);
  expect(kernel.host.sockets).toHaveLength(0);
  expect(vi.getTimerCount()).toBe(0);
});
