import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeKernel } from "../testing/fakeKernel";
import { commTransport } from "../transport/comm";
import { ChatWidget } from "../view/ChatWidget";
import { Renderers } from "./renderers";

let kernel: FakeKernel;
let session: Session;
let renderers: Renderers;
let el: HTMLElement;
let log: string[];
let errors: ReturnType<typeof vi.spyOn>;

/** Runs a module as a page does; here it can't come from a blob. */
const load = (source: string): Promise<unknown> =>
  import(/* @vite-ignore */ `data:text/javascript,${encodeURIComponent(source)}`);
const settle = () => new Promise((resolve) => setTimeout(resolve, 60));
const turn = (id: string) => el.querySelector<HTMLElement>(`[data-id="${id}"]`);
const own = (id: string) => turn(id)?.querySelector(".wc-own")?.shadowRoot;
const note = (id: string) => turn(id)?.querySelector("[data-part=notice]")?.textContent;
const asked = () => kernel.ops().filter((op) => op === "renderers").length;

async function row(id: string, kind: string, props: object): Promise<void> {
  kernel.host.emit("timeline.upsert", id, { entity: { id, kind, props } });
  await settle();
}

async function register(sources: unknown): Promise<void> {
  kernel.renderers = sources;
  kernel.say({ renderers: true });
  await settle();
}

/** A module that writes down what it is told, and draws `word` and the city. */
const noting = (word: string) => `export default { render({ entity, el }) {
  const city = entity.props.city;
  globalThis.renderLog.push("${word} " + city + " " + el.childNodes.length);
  el.append("${word} " + city);
  entity.props.city = "changed";
  return () => globalThis.renderLog.push("clean " + city);
} }`;

beforeEach(async () => {
  log = [];
  vi.stubGlobal("renderLog", log);
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
  kernel = new FakeKernel();
  session = new Session(commTransport(kernel), "c");
  session.start();
  renderers = new Renderers(kernel, load);
  el = document.createElement("div");
  render(<ChatWidget session={session} profile="default" renderers={renderers} />, el);
  await settle();
});

afterEach(() => {
  render(null, el);
  session.close();
  renderers.close();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe("a row of somebody's own kind", () => {
  it("is what anyone can read where nothing is registered; the kernel is asked once, and not before", async () => {
    kernel.host.emit("llm.start", "m", { role: "assistant" });
    await settle();
    expect(asked()).toBe(0);
    await row("w", "weather", { city: "Oslo" });
    await row("v", "weather", { city: "Rome" });
    expect(asked()).toBe(1);
    expect(turn("w")?.textContent).toContain("cityOslo");
    expect(note("w")).toBeUndefined();
  });

  it("is drawn by what is registered, in a root of its own, and anew for each state", async () => {
    kernel.renderers = { weather: noting("sky") };
    await row("w", "weather", { city: "Oslo" });
    expect(own("w")?.textContent).toBe("sky Oslo");
    await row("w", "weather", { city: "Rome" });
    expect(own("w")?.textContent).toBe("sky Rome");
    expect(log).toEqual(["sky Oslo 0", "clean Oslo", "sky Rome 0"]);
    expect(session.store.get("w")?.props).toEqual({ city: "Rome" });
    expect(turn("w")?.dataset).toMatchObject({ kind: "weather", role: "system" });
    render(null, el);
    expect(log.at(-1)).toBe("clean Rome");
    expect(log).toHaveLength(4);
  });

  it("leaves when it is gone, and is cleaned up after", async () => {
    kernel.renderers = { weather: noting("sky") };
    await row("w", "weather", { city: "Oslo" });
    session.store.removeEntity("w");
    await settle();
    expect(turn("w")).toBeNull();
    expect(log).toEqual(["sky Oslo 0", "clean Oslo"]);
  });

  it("is drawn again when its renderer changes, and not when another one does", async () => {
    await row("w", "weather", { city: "Oslo" });
    await register({ weather: noting("sky") });
    expect(own("w")?.textContent).toBe("sky Oslo");
    await register({ weather: noting("sky"), other: noting("x") });
    expect(log).toEqual(["sky Oslo 0"]);
    await register({ weather: noting("sea"), other: noting("x") });
    expect(own("w")?.textContent).toBe("sea Oslo");
    expect(log).toEqual(["sky Oslo 0", "clean Oslo", "sea Oslo 0"]);
    await register({});
    expect(turn("w")?.textContent).toContain("cityOslo");
    expect(log.at(-1)).toBe("clean Oslo");
  });

  it("may be drawn by a function of the module, and by one that takes its time", async () => {
    kernel.renderers = {
      quick: "export function render({ el }) { el.textContent = 'quick'; }",
      slow: `export async function render({ entity, el }) {
        await new Promise((resolve) => setTimeout(resolve, entity.props.ms));
        el.textContent = "slow";
        return () => globalThis.renderLog.push("clean");
      }`,
    };
    await row("q", "quick", {});
    await row("s", "slow", { ms: 10 });
    expect([own("q")?.textContent, own("s")?.textContent]).toEqual(["quick", "slow"]);
    await row("t", "slow", { ms: 100 });
    render(null, el);
    expect(log).toEqual(["clean"]);
    await settle();
    await settle();
    expect(log).toEqual(["clean", "clean"]);
  });
});

describe("a renderer that does not work", () => {
  it.each([
    ["is no module", "export default {", /./],
    ["has no render", "export const draw = 1;", /its module exports no render/],
    ["throws", "export const render = () => { throw new TypeError('no city') };", /TypeError: no city/],
    [
      "fails later",
      "export const render = async () => { throw new TypeError('no net') };",
      /TypeError: no net/,
    ],
  ])("because it %s: the row can be read, a line says why, the console once", async (_, source, why) => {
    kernel.renderers = { weather: source };
    await row("w", "weather", { city: "Oslo" });
    await row("v", "weather", { city: "Rome" });
    for (const id of ["w", "v"]) {
      expect(turn(id)?.textContent).toContain("city");
      expect(note(id)).toMatch(why);
    }
    expect(errors).toHaveBeenCalledOnce();
  });

  it("at one state is tried again with the next", async () => {
    kernel.renderers = {
      weather: "export const render = ({ entity, el }) => el.append(entity.props.city.toUpperCase());",
    };
    await row("w", "weather", { city: 7 });
    expect(note("w")).toContain("TypeError");
    await row("w", "weather", { city: "Oslo" });
    expect(own("w")?.textContent).toBe("OSLO");
    expect(note("w")).toBeUndefined();
  });
});

it("rows of the chat's own kinds are drawn by the chat, whatever is registered for them", async () => {
  kernel.renderers = { log: noting("mine"), message: noting("mine"), planning: noting("mine") };
  kernel.host.emit("log", "l", { level: "info", message: "as ever" });
  kernel.host.emit("planning.start", "p", { run: {} });
  await row("w", "weather", { city: "Oslo" });
  expect(turn("l")?.textContent).toContain("as ever");
  expect(log).toEqual([]);
});

it("nothing becomes a module that was not asked for, and nobody is told where no kernel answers", async () => {
  kernel.silent = true;
  await row("w", "weather", { city: "Oslo" });
  const renderers = { weather: noting("sky") };
  kernel.say({ renderers });
  kernel.say({ rid: "somebody else's", status: 200, body: renderers });
  await settle();
  expect(turn("w")?.textContent).toContain("cityOslo");
  kernel.dead = true;
  await register(renderers);
  expect([log, note("w")]).toEqual([[], undefined]);
  expect(errors).not.toHaveBeenCalled();
});

it("the newest answer counts, whatever order they come in", async () => {
  kernel.deaf = true;
  await row("w", "weather", { city: "Oslo" });
  kernel.say({ renderers: true });
  const [first, second] = kernel.asked.filter(({ op }) => op === "renderers");
  kernel.say({ rid: second?.rid, status: 200, headers: {}, body: { weather: noting("new") } });
  kernel.say({ rid: first?.rid, status: 200, headers: {}, body: { weather: noting("old") } });
  await settle();
  expect(own("w")?.textContent).toBe("new Oslo");
  expect(log).toEqual(["new Oslo 0"]);
});
