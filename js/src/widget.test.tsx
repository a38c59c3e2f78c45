import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { failure } from "./testing/fakeHost";
import { FakeKernel } from "./testing/fakeKernel";
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
    saved: 0,
    save_changes() {
      this.saved += 1;
    },
    set(name: string, value: unknown) {
      traits[name] = value;
      for (const listener of heard.get(`change:${name}`) ?? []) listener();
    },
    listeners: () => [...heard.values()].reduce((sum, each) => sum + each.size, 0),
  };
}

/** A widget's model on the page: traits, and the comm of a kernel. Views get proxies of it, as from anywidget. */
function kernelModel(kernel: FakeKernel, traits: Record<string, unknown>) {
  const set = (name: string, value: unknown) => {
    traits[name] = value;
    kernel.tell(`change:${name}`);
  };
  const proxy = () => {
    const mine: [string, (content?: unknown) => void][] = [];
    return {
      get: (name: string) => traits[name],
      set,
      save_changes: () => {},
      send: (content: unknown) => kernel.send(content),
      on: (event: string, listener: (content?: unknown) => void) => {
        mine.push([event, listener]);
        kernel.on(event, listener);
      },
      off: (event: string, listener: (content?: unknown) => void) => kernel.off(event, listener),
      /** What anywidget does when the view goes: none of its listeners stays. */
      gone: () => {
        for (const [event, listener] of mine) kernel.off(event, listener);
      },
    };
  };
  return { proxy, set };
}

const open = () => sockets.filter((socket) => socket.open);
const pause = (ms = 30) => new Promise((resolve) => setTimeout(resolve, ms));
const root = (el: HTMLElement) => el.querySelector<HTMLElement>("[data-webchat]") as HTMLElement;
let profiles: object[];
let posts: { url: string; body: Record<string, unknown> }[];
let health: () => Response;

beforeEach(() => {
  sockets.length = 0;
  document.body.dataset.baseUrl = "/";
  posts = [];
  profiles = [];
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
    if (url.includes("profiles")) return Response.json(profiles);
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
    });
    expect(el.querySelectorAll("[data-part=suggestion]")).toHaveLength(3);
    expect(el.textContent).toContain("no model is connected");
    expect(sockets[0]?.url).toContain("webchat/ws?conv_id=c1&deltas=append");
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
    expect(posts[0]).toMatchObject({ url: "/webchat/chat/default", body: { prompt: "one", conv_id: "c5" } });
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

  it("leaves shortcuts such as Ctrl+S to the notebook, and no key that types, edits or is of its cells", async () => {
    const el = document.createElement("div");
    document.body.append(el);
    const heard: string[] = [];
    const hear = (event: KeyboardEvent) => heard.push(event.key);
    for (const type of ["keydown", "keyup"] as const) document.body.addEventListener(type, hear);
    const close = widget.render({ model: model({ conv_id: "c5k" }), el });
    await pause();
    const press = (key: string, held: KeyboardEventInit = {}) => {
      for (const from of el.querySelectorAll("textarea, [data-part=timeline]"))
        from.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...held }));
    };
    const both = (key: string) => [key, key];
    for (const key of ["s", "a", "d", "Escape", "Enter", "ArrowUp", "Shift", "F2"]) press(key);
    for (const key of [
      "a",
      "c",
      "v",
      "x",
      "y",
      "z",
      "m",
      "Enter",
      "Backspace",
      "Delete",
      "ArrowLeft",
      "Home",
    ]) {
      press(key, { ctrlKey: true });
      press(key, { metaKey: true });
    }
    for (const key of ["V", "Z", "M", "Enter", "ArrowUp"]) press(key, { ctrlKey: true, shiftKey: true });
    press("ч", { ctrlKey: true, code: "KeyX" });
    press("@", { ctrlKey: true, altKey: true });
    expect(heard).toEqual([]);
    press("s", { ctrlKey: true });
    press("S", { metaKey: true, shiftKey: true });
    press("C", { ctrlKey: true, shiftKey: true });
    press("ы", { ctrlKey: true, code: "KeyS" });
    expect(heard).toEqual(["s", "S", "C", "ы"].flatMap(both));
    close();
    for (const type of ["keydown", "keyup"] as const) document.body.removeEventListener(type, hear);
    el.remove();
  });

  it("sends to the profile that is picked, which every view of the widget and its kernel get to know", async () => {
    const el = document.createElement("div");
    profiles = [
      { slug: "default", display_name: "Default" },
      { slug: "sql", display_name: "SQL helper" },
    ];
    const traits = model({ conv_id: "c5p", profile: "default" });
    const close = widget.render({ model: traits, el });
    await pause();
    const select = el.querySelector<HTMLSelectElement>("[data-part=profile-select]") as HTMLSelectElement;
    select.value = "sql";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await pause();
    expect([traits.get("profile"), traits.saved]).toEqual(["sql", 1]);
    el.querySelector<HTMLElement>("[data-part=suggestion]")?.click();
    await pause();
    expect(posts.map(({ url }) => url)).toEqual(["/webchat/chat/sql"]);
    traits.set("profile", "default");
    await pause();
    expect(select.value).toBe("default");
    close();
  });

  it("shows one run where it is made for that", async () => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: "c5r", _run: "r" }), el });
    await pause();
    expect(root(el).dataset.run).toBe("r");
    expect(el.querySelector("textarea")).toBeNull();
    close();
  });

  it("asks its kernel what own kinds of rows look like, also where the chat is on the server", async () => {
    const kernel = new FakeKernel();
    const { proxy } = kernelModel(kernel, { conv_id: "c5o", _where: "server", _channel: "own" });
    const end = widget.initialize({ model: proxy() });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    const entity = { id: "w", kind: "weather", props: { city: "Oslo" } };
    sockets[0]?.says("timeline.upsert", { entity }, "w", 1);
    await pause(60);
    expect(kernel.ops()).toEqual(["renderers"]);
    close();
    end();
    expect(kernel.listeners).toBe(0);
  });

  it("the button stops what runs; Escape, which leaves a cell in Jupyter, does not", async () => {
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
    expect(posts).toEqual([]);
    el.querySelector<HTMLButtonElement>("[data-part=stop-button]")?.click();
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

describe("pictures in the composer", () => {
  const png = (name: string) => new File([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10])], name);
  const sent = { mime: "image/png", data: "iVBORw0KGgo=" };
  const part = (el: HTMLElement, name: string) => el.querySelector<HTMLElement>(`[data-part=${name}]`);
  const thumbnails = (el: HTMLElement) =>
    [...el.querySelectorAll<HTMLImageElement>("[data-part=attached] img")].map((each) => each.alt);
  const transfer = (event: string, name: string, types: string[], files: File[]) =>
    Object.assign(new Event(event, { bubbles: true, cancelable: true }), { [name]: { types, files } });
  const enter = async (el: HTMLElement, text: string) => {
    const input = el.querySelector("textarea") as HTMLTextAreaElement;
    input.value = text;
    input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    await pause();
  };

  it("are pasted, dropped or chosen, taken out again, and sent", async () => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: "p1" }), el });
    await pause();
    const paste = transfer("paste", "clipboardData", ["Files"], [png("pasted.png")]);
    el.querySelector("textarea")?.dispatchEvent(paste);
    expect(paste.defaultPrevented).toBe(true);
    root(el).dispatchEvent(transfer("dragover", "dataTransfer", ["Files"], []));
    await pause();
    expect(root(el).dataset.drop).toBe("true");
    const drop = transfer(
      "drop",
      "dataTransfer",
      ["Files"],
      [png("dropped.png"), new File(["%PDF"], "no.pdf")],
    );
    root(el).dispatchEvent(drop);
    await vi.waitFor(() => expect(thumbnails(el)).toEqual(["pasted.png", "dropped.png"]));
    expect([drop.defaultPrevented, root(el).dataset.drop]).toEqual([true, "false"]);
    expect(el.querySelector(".wc-composer [role=alert]")?.textContent).toContain("no.pdf is no picture");
    const chosen = part(el, "picture-input") as HTMLInputElement;
    Object.defineProperty(chosen, "files", { value: [png("chosen.png")] });
    chosen.dispatchEvent(new Event("change", { bubbles: true }));
    await vi.waitFor(() => expect(el.querySelector(".wc-composer [role=alert]")).toBeNull());
    const remove = el.querySelectorAll<HTMLElement>("[data-part=remove-picture]")[0];
    expect(remove?.getAttribute("aria-label")).toBe("Remove pasted.png");
    remove?.click();
    await pause();
    expect(thumbnails(el)).toEqual(["dropped.png", "chosen.png"]);
    await enter(el, "look");
    expect(posts[0]?.body).toMatchObject({
      prompt: "look",
      attachments: [
        { ...sent, name: "dropped.png" },
        { ...sent, name: "chosen.png" },
      ],
    });
    expect(thumbnails(el)).toEqual([]);
    expect(el.querySelectorAll("[data-part=turn] [data-part=pictures] img")).toHaveLength(2);
    close();
  });

  it("text that comes with a picture of itself is pasted as text", async () => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: "p2" }), el });
    await pause();
    const paste = transfer("paste", "clipboardData", ["text/plain", "Files"], [png("cells.png")]);
    el.querySelector("textarea")?.dispatchEvent(paste);
    await pause();
    expect([paste.defaultPrevented, thumbnails(el)]).toEqual([false, []]);
    close();
  });

  it("stay when the chat moves, attached or on their way", async () => {
    const kernel = new FakeKernel();
    const { proxy, set } = kernelModel(kernel, { conv_id: "p3", _where: "kernel", _channel: "p" });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    const paste = (name: string) =>
      el.querySelector("textarea")?.dispatchEvent(transfer("paste", "clipboardData", ["Files"], [png(name)]));
    kernel.deaf = true;
    paste("on its way.png");
    await pause();
    await enter(el, "look");
    paste("attached.png");
    await pause();
    set("_where", "server");
    await pause(60);
    expect(posts[0]?.body).toMatchObject({
      prompt: "look",
      attachments: [{ ...sent, name: "on its way.png" }],
    });
    expect(thumbnails(el)).toEqual(["attached.png"]);
    close();
  });

  it("come back into the composer with a prompt that could not be sent", async () => {
    const kernel = new FakeKernel();
    const { proxy } = kernelModel(kernel, { conv_id: "p4", _where: "kernel", _channel: "q" });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    kernel.host.failChat = [failure("http", "The queue is full.")];
    const paste = transfer("paste", "clipboardData", ["Files"], [png("a.png")]);
    el.querySelector("textarea")?.dispatchEvent(paste);
    await pause();
    await enter(el, "look");
    el.querySelector<HTMLElement>(".wc-user .wc-link")?.click();
    await pause();
    expect(el.querySelector("textarea")?.value).toBe("look");
    expect(thumbnails(el)).toEqual(["a.png"]);
    close();
  });
});

describe("a widget whose chat runs in the kernel", () => {
  const shown = (el: HTMLElement) =>
    [...el.querySelectorAll("[data-part=turn] [data-part=content]")].map((each) => each.textContent);
  const say = (kernel: FakeKernel, text: string, id = text) =>
    kernel.host.emit("timeline.upsert", id, {
      entity: { id, kind: "message", props: { role: "user", content: text } },
    });

  it("talks over the comm only, and says quietly where it runs", async () => {
    const kernel = new FakeKernel();
    kernel.host.health = { ...kernel.host.health, engine: "demo", model: null };
    const { proxy } = kernelModel(kernel, { conv_id: "k1", _where: "kernel", _channel: "one" });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    expect(root(el).dataset).toMatchObject({ state: "live", transport: "kernel" });
    expect(el.querySelector("[data-part=statusbar]")?.textContent).toBe("demo engine · in this kernel");
    expect(el.textContent).toContain("os.environ");
    say(kernel, "hello");
    await pause(60);
    expect(shown(el)).toEqual(["hello"]);
    expect(sockets).toEqual([]);
    close();
    await pause();
    expect(kernel.listeners).toBe(0);
    expect(kernel.ops().at(-1)).toBe("close");
  });

  it("shares one session between its views, which hears on when the first view goes", async () => {
    const kernel = new FakeKernel();
    const { proxy } = kernelModel(kernel, { conv_id: "k2", _where: "kernel", _channel: "two" });
    const [a, b] = [document.createElement("div"), document.createElement("div")];
    const end = widget.initialize({ model: proxy() });
    const first = proxy();
    const closeA = widget.render({ model: first, el: a });
    const closeB = widget.render({ model: proxy(), el: b });
    await pause();
    expect(kernel.ops()).toEqual(["health", "open", "profiles", "timeline"]);
    first.gone();
    closeA();
    say(kernel, "still here");
    await pause(60);
    expect(shown(b)).toEqual(["still here"]);
    closeB();
    end();
    await pause();
    expect(kernel.listeners).toBe(0);
  });

  it("moves there from the server and back, and keeps what is being typed", async () => {
    const kernel = new FakeKernel();
    const { proxy, set } = kernelModel(kernel, { conv_id: "k3", _where: "server", _channel: "three" });
    say(kernel, "in the kernel");
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    const entity = { id: "s", kind: "message", props: { role: "user", content: "on the server" } };
    sockets[0]?.says("timeline.upsert", { entity }, "s", 1);
    await pause(60);
    expect(shown(el)).toEqual(["on the server"]);
    const input = el.querySelector("textarea") as HTMLTextAreaElement;
    input.value = "half a sen";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await pause();

    set("_where", "kernel");
    await pause(60);
    expect(root(el).dataset).toMatchObject({ state: "live", transport: "kernel" });
    expect(shown(el)).toEqual(["in the kernel"]);
    expect(el.querySelector("textarea")?.value).toBe("half a sen");
    expect(open()).toEqual([]);

    set("_where", "server");
    await pause(60);
    expect(root(el).dataset).toMatchObject({ state: "live", transport: "server" });
    expect(kernel.ops().at(-1)).toBe("close");
    set("conv_id", "k4");
    set("_where", "kernel");
    await pause(60);
    expect(kernel.asked.findLast(({ op }) => op === "open")?.body.conv_id).toBe("k4");
    close();
    await pause();
    expect(kernel.listeners).toBe(0);
  });

  it("never loses a row from the screen when it moves, however long its new host takes", async () => {
    const kernel = new FakeKernel();
    const { proxy, set } = kernelModel(kernel, { conv_id: "k8", _where: "server", _channel: "eight" });
    for (const text of ["both know", "in the kernel"]) say(kernel, text);
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    const entity = { id: "both know", kind: "message", props: { role: "user", content: "both know" } };
    sockets[0]?.says("timeline.upsert", { entity }, "both know", 1);
    await pause(60);
    const scroller = el.querySelector("[data-part=timeline]");
    const looks: unknown[] = [];
    const watch = new MutationObserver(() => looks.push(shown(el)[0]));
    watch.observe(el, { childList: true, subtree: true });
    kernel.deaf = true;
    set("_where", "kernel");
    await pause(60);
    expect(root(el).dataset).toMatchObject({ state: "connecting", transport: "kernel" });
    expect(shown(el)).toEqual(["both know"]);
    kernel.deaf = false;
    await vi.waitFor(() => expect(shown(el)).toEqual(["both know", "in the kernel"]));
    expect(new Set(looks)).toEqual(new Set(["both know"]));
    expect(el.querySelector("[data-part=timeline]")).toBe(scroller);
    watch.disconnect();
    close();
  });

  it("loses no prompt when it moves: what waited is sent, what was refused can be retried", async () => {
    const kernel = new FakeKernel();
    const { proxy, set } = kernelModel(kernel, { conv_id: "k6", _where: "kernel", _channel: "six" });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    await pause();
    const send = async (text: string) => {
      const input = el.querySelector("textarea") as HTMLTextAreaElement;
      input.value = text;
      input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
      await pause();
    };
    kernel.host.failChat = [failure("http", "The queue is full.")];
    await send("refused");
    kernel.deaf = true; // a cell runs, and moves the chat
    await send("waits");
    set("_where", "server");
    await pause(60);
    const key = kernel.asked.findLast(({ op }) => op === "chat")?.body.idempotency_key;
    expect(posts.map(({ body }) => body)).toMatchObject([{ prompt: "waits", idempotency_key: key }]);
    expect(shown(el)).toEqual(["refused", "waits"]);
    expect(el.textContent).toContain("Not sent. The queue is full.");
    el.querySelector<HTMLButtonElement>("[data-part=retry-button]")?.click();
    await pause();
    expect(posts[1]?.body.prompt).toBe("refused");
    set("conv_id", "k7");
    await pause(60);
    expect(shown(el)).toEqual([]);
    close();
  });

  it("says to run the cell again where it was revived without its kernel", async () => {
    vi.useFakeTimers();
    const kernel = new FakeKernel();
    kernel.silent = true;
    const { proxy } = kernelModel(kernel, { conv_id: "k5", _where: "kernel", _channel: "five" });
    const el = document.createElement("div");
    const close = widget.render({ model: proxy(), el });
    expect(el.querySelector("[data-part=statusbar]")?.textContent).toBe("Connecting…");
    await vi.advanceTimersByTimeAsync(2_700);
    vi.useRealTimers();
    await pause();
    const panel = el.querySelector<HTMLElement>("[data-part=error-panel]");
    expect(panel?.dataset.kind).toBe("kernel");
    expect(panel?.textContent).toContain("run this cell again");
    kernel.dead = true;
    panel?.querySelector<HTMLButtonElement>("[data-part=retry-button]")?.click();
    await pause();
    expect(el.querySelector<HTMLElement>("[data-part=error-panel]")?.dataset.kind).toBe("gone");
    expect(el.querySelector("[data-part=error-panel]")?.textContent).toContain("Run this cell again");
    expect(el.querySelector("[data-part=retry-button]")).toBeNull();
    close();
  });
});

describe("a kernel that does not answer at first", () => {
  it.each([
    ["busy", "The kernel is busy", true],
    ["idle", "Run this cell again", false],
  ])("and is %s: %s", async (status, title, retry) => {
    vi.useFakeTimers();
    const kernel = new FakeKernel();
    kernel.silent = true;
    kernel.widget_manager = { kernel: { status } };
    const { proxy } = kernelModel(kernel, { conv_id: status, _where: "kernel", _channel: status });
    const el = document.createElement("div");
    const close = widget.render({ model: { ...proxy(), widget_manager: kernel.widget_manager }, el });
    await vi.advanceTimersByTimeAsync(2_700);
    vi.useRealTimers();
    await pause();
    expect(el.querySelector("[data-part=error-panel] strong")?.textContent).toBe(title);
    expect(el.querySelector("[data-part=retry-button]") !== null).toBe(retry);
    close();
  });
});

describe("a widget whose server has no chat", () => {
  const panel = async (convId: string) => {
    const el = document.createElement("div");
    const close = widget.render({ model: model({ conv_id: convId }), el });
    await pause();
    const found = el.querySelector<HTMLElement>("[data-part=error-panel]");
    const said = { kind: found?.dataset.kind, text: found?.textContent };
    close();
    return said;
  };

  it("also says that the kernel can have it", async () => {
    health = () => new Response("<html>", { status: 404 });
    const { kind, text } = await panel("a1");
    expect(kind).toBe("missing");
    expect(text).toContain("jupyter server extension list");
    expect(text).toContain("run this cell again: the chat then runs in the kernel");
  });

  it.each([
    ["nothing", () => Promise.reject(new TypeError("Failed to fetch"))],
    ["another site", () => new Response("<html>", { status: 404 })],
    ["a door that is shut", () => new Response("", { status: 403 })],
  ])("on a page that is not Jupyter's, where %s answers, says so", async (_name, answer) => {
    delete document.body.dataset.baseUrl;
    health = answer as () => Response;
    const { kind, text } = await panel("a2");
    expect(kind).toBe("missing");
    expect(text).toContain("no Jupyter server of its own");
    expect(text).toContain('ChatWidget(where="kernel")');
  });
});
