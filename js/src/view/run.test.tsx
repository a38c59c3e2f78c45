import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeHost } from "../testing/fakeHost";
import { ChatWidget } from "./ChatWidget";

let host: FakeHost;
let session: Session;
let el: HTMLElement;

const settle = (ms = 500) => vi.advanceTimersByTimeAsync(ms);
const find = (part: string) => el.querySelector<HTMLElement>(`[data-part=${part}]`);
const ids = () => [...el.querySelectorAll<HTMLElement>("[data-part=turn]")].map(({ dataset }) => dataset.id);
const log = (id: string) => host.emit("log", id, { level: "info", message: id });
const started = (id: string) => host.emit("run.started", id, { runId: id, status: "started", prompt: id });

async function open(): Promise<void> {
  session = new Session(host, "c");
  session.start();
  render(<ChatWidget session={session} profile="default" onProfile={() => {}} run="r" />, el);
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

it("shows the rows of its run only, without a composer, a picker and examples", async () => {
  host.profileList = [...host.profileList, { slug: "sql", name: "SQL" }];
  await open();
  expect(find("root")?.dataset.run).toBe("r");
  for (const part of ["composer", "profile-select", "example-prompts"]) expect(find(part)).toBeNull();
  for (const id of ["q:log:1", "r:log:1", "rr:log:1", "event:note:r:1", "r:call:1:result"]) log(id);
  await settle();
  expect(ids()).toEqual(["r:log:1", "r:call:1:result"]);
  session.send("of another view", "default");
  await settle();
  expect(ids()).toEqual(["r:log:1", "r:call:1:result"]);
});

it("tells of its run, and stops it", async () => {
  await open();
  started("q");
  host.emit("debugger.pause", "q:pause:1", { phase: "after_tools", status: "paused" });
  await settle();
  expect([find("stop-button"), el.querySelector(".wc-dots")]).toEqual([null, null]);
  host.emit("run.stopped", "q", {
    runId: "q",
    status: "stopped",
    usage: { inputTokens: 9, outputTokens: 9 },
  });
  started("r");
  log("r:log:1");
  await settle();
  expect(find("statusbar")?.textContent).toBe("test-model");
  expect(el.querySelector(".wc-dots")).not.toBeNull();
  find("stop-button")?.click();
  expect(host.stops).toEqual(["r"]);
});

it("its questions and pauses can be answered", async () => {
  await open();
  started("r");
  const approval = { digest: "d", expiresAt: Date.now() + 1e6, state: "pending" };
  host.emit("tool.start", "r:call:1", { name: "area", input: {} });
  host.emit("tool.delta", "r:call:1", { patch: { status: "asking", approval } });
  await settle();
  find("approve-once")?.click();
  await settle();
  expect(host.approvals).toHaveLength(1);
  host.emit("tool.done", "r:call:1", { status: "completed" });
  host.emit("debugger.pause", "r:pause:1", { phase: "after_tools", status: "paused" });
  await settle();
  find("resume")?.click();
  await settle();
  expect(host.resumed).toEqual(["r:pause:1"]);
});

it("offers no Retry: its answer would be another run's", async () => {
  await open();
  started("r");
  host.emit("error", "r:error", { error: "It failed.", code: "x", retryable: true });
  await settle();
  expect(el.textContent).toContain("It failed.");
  expect(find("retry-button")).toBeNull();
});

it("of long ago is looked for until it is found", async () => {
  started("r");
  log("r:log:1");
  for (let at = 0; at < 900; at += 1) log(`q${at}:log:1`);
  await open();
  expect(ids()).toEqual(["r:log:1"]);
});
