import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeHost, failure } from "../testing/fakeHost";
import { ChatWidget } from "../view/ChatWidget";

let host: FakeHost;
let session: Session;
let el: HTMLElement;

const settle = (ms = 300) => vi.advanceTimersByTimeAsync(ms);
const find = <T extends HTMLElement>(part: string) => el.querySelector<T>(`[data-part=${part}]`);
const card = (kind: string) => el.querySelector<HTMLElement>(`[data-kind=${kind}]`) as HTMLElement;
const words = (node: Element | null | undefined) => node?.textContent?.replace(/\s+/g, " ").trim();
const dots = () => el.querySelector(".wc-dots");
const emit = async (type: string, id: string, data: object) => {
  host.emit(type, id, data);
  await settle();
};

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  host = new FakeHost();
  host.emit("run.started", "r", { runId: "r", status: "started", prompt: "x" });
  el = document.createElement("div");
  document.body.append(el);
  session = new Session(host, "c");
  session.start();
  render(<ChatWidget session={session} profile="default" />, el);
  await settle();
});

afterEach(() => {
  render(null, el);
  el.remove();
  session.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a mode of the agent", () => {
  it("is named in one line, with where it comes from and why", async () => {
    const data = { from: "writer", to: "critic", reason: "a review was asked for" };
    await emit("agent.mode", "r:agent_mode", { title: "Critic", data });
    expect(words(card("agent_mode"))).toBe("Mode: Critic writer → critic · a review was asked for");
    expect(card("agent_mode").dataset.role).toBe("system");
    await emit("agent.mode", "q:agent_mode", { title: "Writer", data: {} });
    expect(words(el.querySelector("[data-id='q:agent_mode']"))).toBe("Mode: Writer");
  });
});

describe("a phase of thinking", () => {
  const begin = () => emit("thinking.mode.started", "t", { mode: "careful", phase: "understand" });
  const head = () => words(card("thinking_mode").querySelector("button"));

  it("says that it goes on, streams its text when it is open, and says how long it took", async () => {
    await begin();
    expect(head()).toBe("Thinking: understand… (careful)");
    expect(dots()).toBeNull();
    card("thinking_mode").querySelector("button")?.click();
    const append = { reasoning: { offset: 0, delta: "It is **hard**." } };
    await emit("thinking.mode.update", "t", { append });
    expect(card("thinking_mode").querySelector("strong")?.textContent).toBe("hard");
    host.seq += 3_000_000;
    await emit("thinking.mode.completed", "t", { success: true });
    expect(head()).toBe("Thought: understand · 3 s");
    expect(card("thinking_mode").dataset.status).toBe("completed");
    expect(dots()).not.toBeNull();
  });

  it("says why where it was cut, also while it is closed", async () => {
    await begin();
    await emit("thinking.mode.completed", "t", { success: false, error: "The run was stopped." });
    expect(head()).toBe("Thought: understand");
    expect(words(card("thinking_mode").querySelector("[data-part=notice]"))).toBe("The run was stopped.");
  });
});

describe("a plan", () => {
  const run = { runId: "r", provider: "openai", plannerModel: "small", maxIterations: 3 };
  const begin = () => emit("planning.start", "p", { run });
  const step = (iterationIndex: number, more: object) =>
    emit("planning.iteration", "p", { iterationIndex, ...more });
  const decide = (finalDecision: string, more: object = {}) =>
    emit("planning.complete", "p", { totalIterations: 1, finalDecision, ...more });
  const head = () => words(card("planning").querySelector("header"));
  const outcome = () => words(card("planning").querySelector("[data-part=outcome]"));

  it("grows step by step, with tool, progress and reflection; its reasoning is folded", async () => {
    await begin();
    expect(head()).toBe("Planning… at most 3 steps · small");
    expect(dots()).toBeNull();
    await step(1, { action: "look", toolName: "load_sales", progress: "0 of 2", reasoning: "first things" });
    const reflection = { iterationIndex: 1, reflectionText: "Good.", progressScore: 0.5 };
    await emit("planning.reflection", "p", reflection);
    await step(2, { action: "compute" });
    expect(head()).toBe("Planning… 2 steps of at most 3 · small");
    const [first, second] = card("planning").querySelectorAll("li");
    expect(words(first?.querySelector(".wc-step"))).toContain("look");
    expect(first?.querySelector("code")?.textContent).toBe("load_sales");
    expect(words(first?.querySelector(".wc-reflection"))).toBe("How far it is: 50 %Good.");
    const details = first?.querySelector("details");
    expect([details?.open, words(details?.querySelector("p"))]).toEqual([false, "first things"]);
    expect(words(second)).toBe("compute");
  });

  it("says what was decided, that it is carried out, and what that took", async () => {
    await begin();
    await step(1, { action: "look" });
    await decide("execute", { finalDirective: "Do it." });
    expect(words(card("planning").querySelector(".wc-directive"))).toBe("Do it.");
    await emit("execution.start", "p", { executorModel: "large", directive: "Do it." });
    expect(outcome()).toBe("Being carried out by large…");
    host.seq += 2_000_000;
    await emit("execution.complete", "p", { status: "completed", tokensUsed: 1812 });
    expect(head()).toBe("Plan 1 step · small");
    expect(outcome()).toBe(`Carried out by large · ${(1812).toLocaleString()} tokens · 2 s`);
  });

  it.each([
    ["error", "The key was refused.", "Nothing came of this plan. The key was refused.", true],
    ["stopped", "The run was stopped.", "Nothing came of this plan. The run was stopped.", false],
  ])("that ended with %s says why", async (finalDecision, statusReason, sentence, bad) => {
    await begin();
    await decide(finalDecision, { statusReason });
    expect(outcome()).toBe(sentence);
    expect(card("planning").querySelector(".wc-bad") !== null).toBe(bad);
  });

  it("that could not be carried out says why", async () => {
    await begin();
    await decide("execute");
    await emit("execution.start", "p", {});
    await emit("execution.complete", "p", { status: "error", errorMessage: "The run failed." });
    expect(outcome()).toBe("Not carried out to the end. The run failed.");
  });

  it("shows the beginning of what is long, and all of it at a click", async () => {
    await begin();
    await step(1, { action: "look again ".repeat(100) });
    const shown = () => card("planning").querySelector(".wc-step > span")?.textContent?.length ?? 0;
    expect(shown()).toBeLessThan(400);
    card("planning").querySelector<HTMLElement>(".wc-link")?.click();
    await settle();
    expect(shown()).toBeGreaterThan(1000);
  });
});

describe("a pause", () => {
  const pause = (status = "paused", id = "r:pause:1") =>
    emit("debugger.pause", id, {
      pauseId: id,
      phase: "after_inference",
      summary: "Would call load_sales.",
      deadlineMs: Date.now() + 90_000,
      status,
    });

  it("says what comes, until when it waits, and takes no focus", async () => {
    el.querySelector("textarea")?.focus();
    await pause();
    const asks = find("pause");
    const title = document.getElementById(asks?.getAttribute("aria-labelledby") ?? "");
    expect(words(title)).toBe("Paused after the answer");
    expect(words(asks)).toContain("Would call load_sales.");
    expect(words(asks?.querySelector("[role=timer]"))).toBe("Goes on by itself in 90 s");
    await settle(10_000);
    expect(words(asks?.querySelector("[role=timer]"))).toBe("Goes on by itself in 80 s");
    await settle(90_000);
    expect(words(asks?.querySelector("[role=timer]"))).toBe("Goes on by itself now");
    expect(document.activeElement?.tagName).toBe("TEXTAREA");
    expect(dots()).toBeNull();
  });

  it("goes on at a click, which is sent once, and the dots come back", async () => {
    await pause();
    find("resume")?.click();
    find("resume")?.click();
    await settle();
    expect(host.resumed).toEqual(["r:pause:1"]);
    expect(words(card("debugger_pause"))).toBe("Paused after the answer · continued");
    expect(document.activeElement?.tagName).toBe("TEXTAREA");
    expect(dots()).not.toBeNull();
  });

  it("is in the status bar, from where it is shown", async () => {
    await pause();
    expect(words(find("statusbar"))).toContain("Paused");
    find("show-pause")?.click();
    expect(document.activeElement).toBe(find("pause"));
    await pause("continued");
    expect(words(find("statusbar"))).not.toContain("Paused");
  });

  it("says where it could not go on, and can be tried again", async () => {
    await pause();
    host.failResume = [failure("network", "Jupyter cannot be reached.")];
    find("resume")?.click();
    await settle();
    expect(words(find("pause")?.querySelector("[role=alert]"))).toBe("Jupyter cannot be reached.");
    find("resume")?.click();
    await settle();
    expect(find("pause")).toBeNull();
  });

  it("that the host knows nothing of makes the page ask what it has missed", async () => {
    await pause();
    host.failResume = [failure("http", "The run has ended.")];
    const asked = host.requests.length;
    find("resume")?.click();
    await settle();
    expect(host.requests.length).toBeGreaterThan(asked);
  });

  it.each([
    ["expired", "Paused after the answer · went on by itself"],
    ["cancelled", "Paused after the answer · cancelled"],
  ])("that is %s says so, and asks nothing", async (status, sentence) => {
    await pause();
    await pause(status);
    expect(words(card("debugger_pause"))).toBe(sentence);
    expect(find("resume")).toBeNull();
  });
});
