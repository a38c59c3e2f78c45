import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeHost } from "../testing/fakeHost";
import { ChatWidget } from "./ChatWidget";

let host: FakeHost;
let session: Session;
let el: HTMLElement;
let runs = 0;

const settle = (ms = 500) => vi.advanceTimersByTimeAsync(ms);
const label = () => el.querySelector("[data-part=statusbar]")?.textContent;
const says = (engine: string, model: string | null) => {
  host.health = { ...host.health, engine, model };
};

async function open(): Promise<void> {
  session = new Session(host, "c");
  session.start();
  render(<ChatWidget session={session} profile="default" />, el);
  await settle();
}

async function answer(model: string | null, status = "finished"): Promise<void> {
  runs += 1;
  host.emit("run.started", `r${runs}`, { runId: `r${runs}`, status: "started", prompt: "x" });
  await settle();
  host.emit(`run.${status}`, `r${runs}`, { runId: `r${runs}`, status, model });
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run, 16));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  host = new FakeHost();
  el = document.createElement("div");
});

afterEach(() => {
  render(null, el);
  session.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("names the model of the host, whoever has answered earlier", async () => {
  await answer("an-old-model");
  says("openai", "a-model");
  await open();
  expect(label()).toBe("a-model");
});

it("says what the host has to say of its timeline, in words and nothing else", async () => {
  host.health = { ...host.health, notices: ["The timeline can only be read at present.", "<b>x</b>"] };
  await open();
  const said = [...el.querySelectorAll("[data-part=host-notice]")].map((each) => each.textContent);
  expect(said).toEqual(host.health.notices);
  expect(el.querySelector("[data-part=statusbar] b")).toBeNull();
});

it("hears with a pong what the host has to say by now, and that it is over", async () => {
  await open();
  const pong = (...notices: string[]) => {
    const data = { version: host.seq, notices };
    host.sockets[0]?.events.message({ sem: true, event: { type: "ws.pong", id: "p", data } });
    return settle();
  };
  const said = () => el.querySelector("[data-part=host-notice]")?.textContent;
  await pong("The timeline can only be read at present.");
  expect(said()).toBe("The timeline can only be read at present.");
  await pong();
  expect(said()).toBeUndefined();
});

it("names another model that a run of this connection was told to take", async () => {
  says("openai", "a-model");
  await open();
  await answer("another-model");
  expect(label()).toBe("another-model");
  await answer(null, "stopped");
  expect(label()).toBe("another-model");
  await answer("a-model");
  expect(label()).toBe("a-model");
});

it("names the demo, also where a model has answered earlier", async () => {
  await answer("an-old-model");
  says("demo", null);
  await open();
  expect(label()).toBe("demo engine");
  await answer(null);
  expect(label()).toBe("demo engine");
});

it("asks the host again with each connection", async () => {
  says("openai", "a-model");
  await open();
  await answer("another-model");
  says("demo", null);
  host.restart();
  await settle(5_000);
  expect(session.status.value.phase).toBe("live");
  expect(label()).toBe("demo engine");
});

it("names what answered last where the host was given no name yet", async () => {
  says("openai", null);
  await open();
  expect(label()).toBe("OpenAI-compatible server");
  await answer("a-model");
  expect(label()).toBe("a-model");
  host.cut();
  await settle(5_000);
  expect(label()).toBe("a-model");
});

it("an engine without a name for its model borrows none", async () => {
  await answer("an-old-model");
  says("echo", null);
  await open();
  expect(label()).toBe("echo engine");
  await answer("its-model");
  expect(label()).toBe("its-model");
  await answer(null);
  expect(label()).toBe("echo engine");
});
