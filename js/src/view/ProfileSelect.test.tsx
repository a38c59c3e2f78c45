import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeHost, failure } from "../testing/fakeHost";
import { ChatWidget } from "./ChatWidget";

let host: FakeHost;
let session: Session;
let el: HTMLElement;
let profile: string;

const settle = (ms = 500) => vi.advanceTimersByTimeAsync(ms);
const select = () => el.querySelector<HTMLSelectElement>("[data-part=profile-select]");
const choices = () => [...(select()?.options ?? [])].map(({ value, text }) => [value, text]);
const both = [
  { slug: "default", name: "Default" },
  { slug: "sql", name: "SQL helper" },
];

function draw(): void {
  const pick = (slug: string) => {
    profile = slug;
    draw();
  };
  render(<ChatWidget session={session} profile={profile} onProfile={pick} />, el);
}

async function open(): Promise<void> {
  session = new Session(host, "c");
  session.start();
  draw();
  await settle();
}

async function choose(slug: string): Promise<void> {
  const field = select() as HTMLSelectElement;
  field.value = slug;
  field.dispatchEvent(new Event("change", { bubbles: true }));
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  host = new FakeHost();
  host.profileList = both;
  profile = "default";
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

it("is not there where there is no choice, or none is known", async () => {
  host.profileList = [{ slug: "default", name: "Default" }];
  await open();
  expect(select()).toBeNull();
  host.profileList = both;
  host.cut();
  await settle(5_000);
  expect(choices()).toEqual([
    ["default", "Default"],
    ["sql", "SQL helper"],
  ]);
  expect(select()?.getAttribute("aria-label")).toBe("Profile");
});

it("names the profile of the next prompt, also while a run goes on", async () => {
  await open();
  host.emit("run.started", "r", { runId: "r", status: "started", prompt: "x" });
  await settle();
  await choose("sql");
  expect(select()?.value).toBe("sql");
  el.querySelector<HTMLElement>("[data-part=suggestion]")?.click();
  const input = el.querySelector("textarea") as HTMLTextAreaElement;
  input.value = "next";
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  await settle();
  expect(host.chats.at(-1)).toMatchObject({ prompt: "next", profile: "sql" });
});

it("is not what Retry goes by: a prompt that failed goes to the profile that it went to", async () => {
  await open();
  await choose("sql");
  const ran = async (id: string, props: object, picked: string) => {
    host.emit("run.started", id, { runId: id, status: "started", prompt: id, ...props });
    host.emit("error", `${id}:error`, { message: "No.", code: "engine_error", retryable: true });
    host.emit("run.failed", id, { status: "failed", error: "No." });
    await choose(picked);
    el.querySelector<HTMLElement>(`[data-id='${id}:error'] [data-part=retry-button]`)?.click();
    await settle();
    return host.chats.at(-1);
  };
  expect(await ran("r1", {}, "sql")).toMatchObject({ prompt: "r1", profile: "default" });
  expect(await ran("r2", { profile: "sql" }, "default")).toMatchObject({ prompt: "r2", profile: "sql" });
});

it("shows one that is gone as it is, beside those that there are; its prompt says why it was refused", async () => {
  profile = "old";
  host.profileList = [{ slug: "default", name: "Default" }];
  await open();
  expect(choices()).toEqual([
    ["old", "old (gone)"],
    ["default", "Default"],
  ]);
  host.failChat = [failure("http", "There is no profile “old”.")];
  session.send("hello", profile);
  await settle();
  expect(el.textContent).toContain("Not sent. There is no profile “old”.");
  await choose("default");
  expect(select()).toBeNull();
});

it("looks again when it is to be another one that it does not know, and when it is opened", async () => {
  await open();
  host.profileList = [...both, { slug: "new", name: "New" }];
  profile = "new";
  draw();
  await settle();
  expect(select()?.selectedOptions[0]?.text).toBe("New");
  host.profileList = both;
  select()?.focus();
  await settle();
  expect(choices().map(([, name]) => name)).toContain("new (gone)");
});

it("the status bar says with the model which other profile answered", async () => {
  await open();
  const bar = () => el.querySelector("[data-part=statusbar]")?.textContent;
  host.emit("run.started", "r1", { runId: "r1", status: "started", profile: "sql" });
  await settle();
  expect(bar()).toBe("test-model · SQL helper");
  host.emit("run.finished", "r1", { runId: "r1", status: "finished", model: "m" });
  await settle();
  expect(bar()).toBe("m · SQL helper");
  host.emit("run.started", "r2", { runId: "r2", status: "started" });
  await settle();
  expect(bar()).toBe("m");
});
