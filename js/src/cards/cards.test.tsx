import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Session } from "../session/session";
import { TimelineStore } from "../timeline/store";
import { View } from "../view/hooks";
import { Turn } from "../view/Turn";

function draw(kind: string, props: Record<string, unknown>, id = "r:x:1", run = "failed") {
  const el = document.createElement("div");
  const store = new TimelineStore(() => {});
  store.addEntity({
    id: "r",
    kind: "run",
    createdSeq: 1,
    version: 1,
    props: { prompt: "the prompt", status: run },
  });
  const send = vi.fn();
  const session = {
    store,
    errors: store.ofKind("error"),
    runs: store.ofKind("run"),
    calls: store.ofKind("tool_call"),
    approve: vi.fn(async (_answer: unknown): Promise<string | null> => null),
    loadMath: () => new Promise(() => {}),
    withdraw: vi.fn(async () => {}),
    outbox: { retry: vi.fn(), discard: vi.fn() },
  };
  const entity = {
    id,
    kind,
    createdAt: 1000,
    updatedAt: 13_000,
    createdSeq: 1_000_000,
    version: 13_000_000,
    props,
  };
  const view = {
    session: session as unknown as Session,
    profile: "default",
    run: "",
    renderers: null,
    send,
    edit: vi.fn(),
    show: vi.fn(),
    goOn: vi.fn(),
  };
  const redraw = (props: Record<string, unknown>) =>
    render(
      <View.Provider value={view}>
        <Turn entity={{ ...entity, props }} />
      </View.Provider>,
      el,
    );
  redraw(props);
  return { el, turn: el.querySelector<HTMLElement>("[data-part=turn]"), send, session, view, redraw };
}
const content = (el: HTMLElement) => el.querySelector("[data-part=content]")?.textContent;
const click = async (el: HTMLElement, selector: string) => {
  el.querySelector<HTMLElement>(selector)?.click();
  await new Promise((resolve) => setTimeout(resolve));
};

describe("each row says what it is", () => {
  it.each([
    ["message", { role: "user", content: "hi" }, "user", "complete", "hi"],
    [
      "message",
      { role: "assistant", content: "**hi**", streaming: true, status: "streaming" },
      "assistant",
      "streaming",
      "hi",
    ],
    [
      "message",
      { role: "thinking", content: "hm", streaming: false, status: "complete" },
      "thinking",
      "complete",
      "hm",
    ],
    [
      "tool_call",
      { name: "f", input: { a: 1 }, status: "running", done: false },
      "tool",
      "running",
      undefined,
    ],
    ["tool_result", { toolCallId: "c", result: "42" }, "tool", "complete", "42"],
    ["log", { level: "info", message: "note" }, "system", "complete", "note"],
    ["error", { message: "Broken.", code: "x", retryable: false }, "system", "complete", "Broken."],
    ["weather", { city: "Rome" }, "system", "complete", "cityRome"],
  ])("%s %j", (kind, props, role, status, text) => {
    const { el, turn } = draw(kind, props);
    expect(turn?.dataset).toMatchObject({
      id: "r:x:1",
      kind,
      role,
      status,
      streaming: String("streaming" in props && props.streaming === true),
    });
    if (text !== undefined) expect(content(el)).toBe(text);
  });

  it("a run has no row", () => {
    expect(draw("run", { status: "started" }).turn).toBeNull();
  });

  it.each([
    ["null", { a: null }],
    [
      "wrong types",
      {
        role: 3,
        content: { a: 1 },
        status: [],
        streaming: "yes",
        name: 1,
        input: 7,
        result: {},
        mime: 3,
        fields: "x",
        message: 4,
      },
    ],
    ["nothing", {}],
    ["names of Object.prototype", { role: "constructor", status: "toString", kind: "__proto__" }],
  ])("and stands on its feet with %s in its props", (_name, props) => {
    for (const kind of [
      "message",
      "tool_call",
      "tool_result",
      "log",
      "error",
      "constructor",
      "__proto__",
      "",
    ]) {
      expect(draw(kind, props).turn).not.toBeNull();
    }
  });
});

describe("cards", () => {
  it.each(["truncated", "refused", "stopped", "interrupted", "error"])(
    "a reply that ended %s has a note",
    (status) => {
      expect(
        draw("message", { role: "assistant", content: "x", streaming: false, status }).el.querySelector(
          "[data-part=notice]",
        ),
      ).not.toBeNull();
    },
  );

  it("a reply that ended well has none", () => {
    const { el } = draw("message", { role: "assistant", content: "x", streaming: false, status: "complete" });
    expect(el.querySelector("[data-part=notice]")).toBeNull();
    expect(el.querySelector("[data-part=copy-button]")).not.toBeNull();
  });

  it("Retry sends the run's prompt again, as a new one", async () => {
    const interrupted = draw("message", {
      role: "assistant",
      content: "x",
      streaming: false,
      status: "interrupted",
    });
    await click(interrupted.el, "[data-part=retry-button]");
    expect(interrupted.send).toHaveBeenCalledWith("the prompt", [], "default");
    const error = draw("error", { message: "m", code: "c", retryable: true }, "r:error");
    await click(error.el, "[data-part=retry-button]");
    expect(error.send).toHaveBeenCalledWith("the prompt", [], "default");
    expect(
      draw("error", { message: "m", code: "c", retryable: false }).el.querySelector(
        "[data-part=retry-button]",
      ),
    ).toBeNull();
  });

  it("a prompt that failed offers Retry and Edit", async () => {
    const { el, session, view } = draw(
      "message",
      { role: "user", content: "hi", local: true, status: "failed", error: "No." },
      "key",
    );
    expect(el.textContent).toContain("Not sent. No.");
    await click(el, "[data-part=retry-button]");
    expect(session.outbox.retry).toHaveBeenCalledWith("key");
    await click(el, ".wc-actions .wc-link");
    expect(view.edit).toHaveBeenCalledWith("hi", []);
    expect(session.outbox.discard).toHaveBeenCalledWith("key");
  });

  it("a queued prompt tells its place and can be taken out of the queue", async () => {
    const { el, session, view } = draw("message", {
      role: "user",
      content: "hi",
      status: "queued",
      queuePosition: 1,
      runId: "q",
    });
    expect(el.textContent).toContain("next in line");
    await click(el, "[data-part=remove-prompt]");
    expect(session.withdraw).toHaveBeenCalledWith("q");
    expect(view.goOn).toHaveBeenCalled();
  });

  it("thinking opens on a click, and tells how long it took", async () => {
    const { el } = draw("message", {
      role: "thinking",
      content: "deep",
      streaming: false,
      status: "complete",
    });
    expect(el.textContent).toContain("Thought for 12 s");
    const body = () => el.querySelector<HTMLElement>("[data-part=thinking-text]");
    expect(body()?.hidden).toBe(true);
    await click(el, ".wc-fold-head");
    expect(body()?.hidden).toBe(false);
    expect(draw("message", { role: "thinking", content: "", streaming: true }).el.textContent).toContain(
      "Thinking…",
    );
  });

  it("a tool shows its input, its output and how it ended", async () => {
    const { el } = draw("tool_call", {
      name: "f",
      input: { a: 1, b: "x" },
      stdout: "line\n",
      status: "failed",
      done: true,
    });
    expect(el.textContent).toContain("Used f");
    expect(el.querySelector(".wc-state-failed")).not.toBeNull();
    await click(el, ".wc-fold-head");
    expect(content(el)).toContain('"a": 1');
    expect(content(el)).toContain("line");
  });

  it("a long result is folded until asked for", async () => {
    const { el } = draw("tool_result", {
      toolCallId: "c",
      result: Array.from({ length: 50 }, (_, at) => `row ${at}`).join("\n"),
    });
    expect(content(el)).not.toContain("row 49");
    await click(el, ".wc-link");
    expect(content(el)).toContain("row 49");
  });

  it("a result's picture comes from its own bytes, in five formats, and from nowhere else", () => {
    const src = (mime: unknown) =>
      draw("tool_result", { result: "x", mime }).el.querySelector("img")?.getAttribute("src");
    expect(src({ "image/png": "iVBORw0KGgo=" })).toBe("data:image/png;base64,iVBORw0KGgo=");
    // in an img it runs nothing and fetches nothing
    expect(src({ "image/svg+xml": "<svg onload=alert(1)>\ud800" })).toBe(
      "data:image/svg+xml,%3Csvg%20onload%3Dalert(1)%3E",
    );
    expect(src({ "image/png": "https://evil.example/a.png" })).toBeUndefined();
    expect(src({ "text/html": "<script>" })).toBeUndefined();
  });

  it("a picture opens in full on a click, and has a text for who can't see it", async () => {
    const { el } = draw("tool_result", { result: "<Figure>", mime: { "image/png": "iVBO" } });
    document.body.append(el);
    expect(el.querySelector("img")?.alt).toBe("<Figure>");
    await click(el, "[data-part=picture]");
    const dialog = el.querySelector<HTMLDialogElement>("dialog");
    expect(dialog?.open).toBe(true);
    expect(dialog?.getAttribute("aria-label")).toBe("<Figure>");
    await click(el, "dialog button");
    expect(el.querySelector("dialog")).toBeNull();
    el.remove();
  });

  it.each([
    ["a picture that can't be drawn", { "image/png": "iVBO" }],
    ["HTML without a table", { "text/html": "<h1>Hi</h1><iframe src=x></iframe>" }],
    ["nothing that is known", { "application/x-thing": "1", "image/png": 3 }],
  ])("%s is its text", async (_name, mime) => {
    const { el } = draw("tool_result", { result: "the text", mime });
    el.querySelector("img")?.dispatchEvent(new Event("error"));
    await new Promise((resolve) => setTimeout(resolve));
    expect(content(el)).toBe("the text");
    expect(el.querySelector("img, h1, iframe, [data-part=as-text]")).toBeNull();
  });

  it.each([
    ["a picture before all", { "image/png": "iVBO", "text/html": "<table><tr><td>1</table>" }, "img"],
    ["a table", { "text/html": "<table><tr><td>1</table>", "text/markdown": "**x**" }, ".wc-table td"],
    ["Markdown", { "text/markdown": "**x**", "application/json": {} }, "strong"],
    ["JSON", { "application/json": { a: [1] } }, "pre"],
  ])("the richest of a bundle is shown: %s, and its text is a click away", async (_name, mime, selector) => {
    const { el } = draw("tool_result", { result: "the text", mime });
    expect(el.querySelector(selector)).not.toBeNull();
    expect(el.textContent).not.toContain("the text");
    const button = el.querySelector("[data-part=as-text]");
    expect(button?.getAttribute("aria-pressed")).toBe("false");
    await click(el, "[data-part=as-text]");
    expect(content(el)).toBe("the text");
    await click(el, "[data-part=as-text]");
    expect(el.textContent).not.toContain("the text");
  });

  it("a call at work tells how far it is, and what it prints", () => {
    const running = { name: "f", input: {}, status: "running", done: false };
    const known = draw("tool_call", {
      ...running,
      progress: { value: 0.426, text: "epoch 5" },
      stdout: "\x1b[1mhi",
    });
    expect(known.el.querySelector("progress")?.getAttribute("value")).toBe("0.426");
    expect(known.el.textContent).toContain("42 %");
    expect(known.el.textContent).toContain("epoch 5");
    const output = known.el.querySelector("[data-part=stdout]");
    expect(output?.textContent).toBe("hi");
    expect(output?.getAttribute("aria-live")).toBe("off"); // or each line would be read out
    const unknown = draw("tool_call", { ...running, progress: { value: null, text: "connecting" } });
    expect(unknown.el.querySelector("progress")?.hasAttribute("value")).toBe(false);
    const waiting = draw("tool_call", { ...running, status: "waiting", progress: { value: 0.1, text: "" } });
    expect(waiting.el.textContent).toContain("Waiting for the kernel");
    expect(waiting.el.querySelector("progress")).toBeNull();
  });

  it("the box of an output follows its end, unless someone has scrolled away", () => {
    const { el, redraw } = draw("tool_call", { name: "f", status: "running", stdout: "1\n" });
    const box = el.querySelector("[data-part=stdout]") as HTMLElement;
    Object.defineProperties(box, { scrollHeight: { value: 900 }, clientHeight: { value: 200 } });
    redraw({ name: "f", status: "running", stdout: "1\n2\n" });
    expect(box.scrollTop).toBe(900);
    box.scrollTop = 100;
    box.dispatchEvent(new Event("scroll"));
    redraw({ name: "f", status: "running", stdout: "1\n2\n3\n" });
    expect(box.scrollTop).toBe(100);
    box.scrollTop = 700;
    box.dispatchEvent(new Event("scroll"));
    redraw({ name: "f", status: "running", stdout: "1\n2\n3\n4\n" });
    expect(box.scrollTop).toBe(900);
  });

  it("what a person wrote comes with its pictures, and Retry and Edit take them along", async () => {
    const images = [{ name: "a.png", mime: "image/png", data: "iVBO" }];
    const failed = { role: "user", content: "hi", images, local: true, status: "failed", error: "No." };
    const { el, view } = draw("message", failed, "key");
    expect(el.querySelector<HTMLImageElement>("[data-part=pictures] img")).toMatchObject({
      src: "data:image/png;base64,iVBO",
      alt: "a.png",
    });
    await click(el, ".wc-actions .wc-link");
    expect(view.edit).toHaveBeenCalledWith("hi", images);
    const error = draw("error", { message: "m", code: "c", retryable: true }, "r:error");
    error.session.store.addEntity({ id: "r:user", kind: "message", props: { content: "hi", images } });
    await click(error.el, "[data-part=retry-button]");
    expect(error.send).toHaveBeenCalledWith("the prompt", images, "default");
  });
});

describe("a model that is asked again", () => {
  beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
  afterEach(() => void vi.useRealTimers());
  const log = { level: "warning", message: "Busy.", fields: { retryAt: 1_012_000 } };

  it("counts down, calmly, by one timer for all, and then only says what was", async () => {
    const first = draw("log", log, "r:log:1", "started");
    const second = draw("log", log, "r:log:2", "started");
    await vi.advanceTimersByTimeAsync(0);
    expect(first.el.textContent).toBe("Busy. Asking again in 12 s");
    expect(first.el.querySelector("[role=timer]")?.getAttribute("aria-live")).toBe("off");
    expect(first.el.querySelector(".wc-log-warning")).toBeNull();
    await vi.advanceTimersByTimeAsync(50);
    expect(vi.getTimerCount()).toBe(1);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(second.el.textContent).toBe("Busy. Asking again in 7 s");
    await vi.advanceTimersByTimeAsync(8_000);
    expect(first.el.textContent).toBe("Busy.");
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([
    ["its run has ended", "stopped", log],
    ["its time makes no sense", "started", { ...log, fields: { retryAt: Number.NaN } }],
    ["its time has come", "started", { ...log, fields: { retryAt: 999_000 } }],
  ])("does not count where %s", async (_name, run, props) => {
    const { el } = draw("log", props, "r:log:1", run);
    await vi.advanceTimersByTimeAsync(50);
    expect(el.textContent).not.toContain("Asking again");
  });
});
