import { render } from "preact";
import { describe, expect, it, vi } from "vitest";
import type { Session } from "../session/session";
import { TimelineStore } from "../timeline/store";
import { View } from "../view/hooks";
import { Turn } from "../view/Turn";

function draw(kind: string, props: Record<string, unknown>, id = "r:x:1") {
  const el = document.createElement("div");
  const store = new TimelineStore(() => {});
  store.addEntity({
    id: "r",
    kind: "run",
    createdSeq: 1,
    version: 1,
    props: { prompt: "the prompt", status: "failed" },
  });
  const send = vi.fn();
  const session = {
    store,
    errors: store.ofKind("error"),
    loadMath: () => new Promise(() => {}),
    stop: vi.fn(),
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
  const view = { session: session as unknown as Session, profile: "default", send, edit: vi.fn() };
  render(
    <View.Provider value={view}>
      <Turn entity={entity} />
    </View.Provider>,
    el,
  );
  return { el, turn: el.querySelector<HTMLElement>("[data-part=turn]"), send, session, view };
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
    expect(interrupted.send).toHaveBeenCalledWith("the prompt");
    const error = draw("error", { message: "m", code: "c", retryable: true }, "r:error");
    await click(error.el, "[data-part=retry-button]");
    expect(error.send).toHaveBeenCalledWith("the prompt");
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
    expect(view.edit).toHaveBeenCalledWith("hi");
    expect(session.outbox.discard).toHaveBeenCalledWith("key");
  });

  it("a queued prompt tells its place and can be cancelled", async () => {
    const { el, session } = draw("message", {
      role: "user",
      content: "hi",
      status: "queued",
      queuePosition: 1,
      runId: "q",
    });
    expect(el.textContent).toContain("next in line");
    await click(el, ".wc-link");
    expect(session.stop).toHaveBeenCalledWith("q");
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

  it("a result's picture comes from its own bytes, in four formats, and from nowhere else", () => {
    const src = (mime: unknown) =>
      draw("tool_result", { result: "x", mime }).el.querySelector("img")?.getAttribute("src");
    expect(src({ "image/png": "iVBORw0KGgo=" })).toBe("data:image/png;base64,iVBORw0KGgo=");
    expect(src({ "image/svg+xml": "<svg onload=alert(1)>" })).toBeUndefined();
    expect(src({ "image/png": "https://evil.example/a.png" })).toBeUndefined();
    expect(src({ "text/html": "<script>" })).toBeUndefined();
  });
});
