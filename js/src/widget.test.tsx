import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import widget from "./widget";

const sockets: FakeSocket[] = [];

class FakeSocket extends EventTarget {
  static readonly OPEN = 1;
  readyState = 1;
  open = true;
  constructor(readonly url: string) {
    super();
    sockets.push(this);
    queueMicrotask(() => {
      this.dispatchEvent(new Event("open"));
      this.says("ws.hello", { protocol: 1, epoch: "e", version: 0 });
    });
  }
  n = 0;
  says(type: string, data: object, id = "x", seq?: number): void {
    this.n += 1;
    const frame = { sem: true, n: this.n, event: { type, id, seq, data } };
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) }));
  }
  send(): void {}
  close(): void {
    this.open = false;
  }
}

function model(traits: Record<string, unknown>) {
  const heard = new Map<string, Set<() => void>>();
  return {
    get: (name: string) => traits[name],
    send: () => expect.unreachable("the server's way is not the comm's"),
    on: (event: string, listener: () => void) =>
      void (heard.get(event) ?? heard.set(event, new Set()).get(event))?.add(listener),
    off: (event: string, listener: () => void) => void heard.get(event)?.delete(listener),
    set(name: string, value: unknown) {
      traits[name] = value;
      for (const listener of heard.get(`change:${name}`) ?? []) listener();
    },
    listeners: () => [...heard.values()].reduce((sum, each) => sum + each.size, 0),
  };
}

const open = () => sockets.filter((socket) => socket.open);
const pause = (ms = 30) => new Promise((resolve) => setTimeout(resolve, ms));
const root = (el: HTMLElement) => el.querySelector<HTMLElement>("[data-webchat]") as HTMLElement;
let posts: { url: string; body: Record<string, unknown> }[];
let health: () => Response;

beforeEach(() => {
  sockets.length = 0;
  document.body.dataset.baseUrl = "/";
  posts = [];
  health = () =>
    Response.json({
      webchat: true,
      version: "1",
      protocol: 1,
      engine: "demo",
      model: null,
      capabilities: [],
    });
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    if (url.includes("health")) return health();
    if (url.includes("timeline")) {
      return Response.json([], {
        headers: { "X-Timeline-Version": "0", "X-Timeline-Epoch": "e", "X-Timeline-More": "false" },
      });
    }
    posts.push({ url, body: JSON.parse(String(init.body)) });
    return Response.json({ status: "started", run_id: "r", conv_id: "c" });
  });
});

afterEach(() => vi.unstubAllGlobals());

describe("a widget in a cell", () => {
  it("comes to life, empty, with what one could ask", async () => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: "c1", profile: "default", height: "" }), el });
    expect(root(el).dataset.state).toBe("connecting");
    await pause();
    expect(root(el).dataset).toMatchObject({
      state: "live",
      transport: "server",
      lmSuppressShortcuts: "true",
    });
    expect(el.querySelectorAll("[data-part=suggestion]")).toHaveLength(3);
    expect(el.textContent).toContain("no model is connected");
    expect(sockets[0]?.url).toContain("webchat/ws?conv_id=c1&deltas=append&profile=default");
    close();
    expect(el.childElementCount).toBe(0);
    expect(open()).toEqual([]);
  });

  it("shares its socket and its rows with another view, until the last one goes", async () => {
    const [a, b] = [document.createElement("div"), document.createElement("div")];
    const closeA = widget.render({ model: model({ conv_id: "c2" }), el: a });
    const closeB = widget.render({ model: model({ conv_id: "c2" }), el: b });
    await pause();
    expect(sockets).toHaveLength(1);
    const user = { id: "r:user", kind: "message", props: { role: "user", content: "shared" } };
    sockets[0]?.says("timeline.upsert", { entity: user }, "r:user", 1);
    await pause(60);
    for (const el of [a, b])
      expect(el.querySelector("[data-part=turn] [data-part=content]")?.textContent).toBe("shared");
    closeA();
    expect(open()).toHaveLength(1);
    closeB();
    expect(open()).toHaveLength(0);
  });

  it("changes its conversation when the trait changes, and leaves nothing when it goes", async () => {
    const el = document.createElement("div");
    const traits = model({ conv_id: "c3", height: "400px" });
    const aborter = new AbortController();
    widget.render({ model: traits, el, signal: aborter.signal });
    await pause();
    traits.set("conv_id", "c4");
    await pause();
    expect(open().map((socket) => new URL(socket.url).searchParams.get("conv_id"))).toEqual(["c4"]);
    aborter.abort();
    expect(traits.listeners()).toBe(0);
    expect(open()).toEqual([]);
    expect(el.childElementCount).toBe(0);
  });

  it("sends on Enter, not on Shift+Enter, not while composing, never blanks", async () => {
    const el = document.createElement("div");
    document.body.append(el);
    const leaked = vi.fn();
    document.body.addEventListener("keydown", leaked);
    const close = widget.render({ model: model({ conv_id: "c5" }), el });
    await pause();
    const input = el.querySelector("textarea") as HTMLTextAreaElement;
    const type = async (text: string, keys: KeyboardEventInit) => {
      input.value = text;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      await pause();
      input.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...keys }));
      await pause();
    };
    await type("  ", { key: "Enter" });
    await type("one", { key: "Enter", shiftKey: true });
    await type("one", { key: "Enter", isComposing: true });
    expect(posts).toEqual([]);
    await type("one", { key: "Enter" });
    expect(posts).toHaveLength(1);
    expect(posts[0]).toMatchObject({ url: "/webchat/chat", body: { prompt: "one", conv_id: "c5" } });
    expect(input.value).toBe("");
    const row = el.querySelector<HTMLElement>("[data-part=turn]");
    expect(row?.dataset).toMatchObject({
      id: posts[0]?.body.idempotency_key,
      kind: "message",
      role: "user",
      status: "pending",
    });
    expect(leaked).not.toHaveBeenCalled();
    close();
    document.body.removeEventListener("keydown", leaked);
    el.remove();
  });

  it("the button stops what runs; Escape too", async () => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: "c6" }), el });
    await pause();
    expect(el.querySelector("[data-part=send-button]")).not.toBeNull();
    sockets[0]?.says("run.started", { runId: "r", status: "started", prompt: "x" }, "r", 5);
    await pause(60);
    expect(el.querySelector("[data-part=send-button]")).toBeNull();
    el.querySelector("textarea")?.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Escape", bubbles: true }),
    );
    await pause();
    expect(posts).toEqual([{ url: "/webchat/conversations/c6/stop", body: { run_id: "r" } }]);
    sockets[0]?.says("run.stopped", { runId: "r", status: "stopped" }, "r", 6);
    await pause(60);
    expect(el.querySelector("[data-part=stop-button]")).toBeNull();
    close();
  });

  it("says what is wrong where there is no server extension, and Retry looks again", async () => {
    const el = document.createElement("div");
    const works = health;
    health = () => new Response("<html>", { status: 404 });
    const close = widget.render({ model: model({ conv_id: "c7" }), el });
    await pause();
    expect(root(el).dataset.state).toBe("error");
    const panel = el.querySelector<HTMLElement>("[data-part=error-panel]");
    expect(panel?.dataset.kind).toBe("missing");
    expect(panel?.textContent).toContain("jupyter server extension list");
    health = works;
    panel?.querySelector<HTMLButtonElement>("[data-part=retry-button]")?.click();
    await pause();
    expect(root(el).dataset.state).toBe("live");
    expect(el.querySelector("[data-part=error-panel]")).toBeNull();
    close();
  });
});
