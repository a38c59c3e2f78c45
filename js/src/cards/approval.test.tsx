import { signal } from "@preact/signals-core";
import fc from "fast-check";
import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Session } from "../session/session";
import { FakeHost, failure } from "../testing/fakeHost";
import type { Entity } from "../timeline/entities";
import { ChatWidget } from "../view/ChatWidget";
import { View } from "../view/hooks";
import { Turn } from "../view/Turn";
import { argumentsOf, questionOf, verdictOf } from "./approval";

let host: FakeHost;
let session: Session;
let el: HTMLElement;

const settle = (ms = 300) => vi.advanceTimersByTimeAsync(ms);
const find = <T extends HTMLElement>(part: string) => el.querySelector<T>(`[data-part=${part}]`);
const press = async (part: string) => {
  find(part)?.click();
  await settle();
};
const card = () => el.querySelector<HTMLElement>("[data-kind=tool_call]") as HTMLElement;
const tomorrow = Date.now() + 86_400_000;
const pending = { digest: "d1", expiresAt: tomorrow, state: "pending" };

async function ask(id = "r:call:1", name = "area", input: unknown = { width: 3, height: 4 }): Promise<void> {
  host.emit("tool.start", id, { name, input });
  host.emit("tool.delta", id, { patch: { status: "asking", approval: pending } });
  await settle();
}

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

describe("a call that asks", () => {
  it("is open, says what is asked, shows the exact call, and takes no focus", async () => {
    el.querySelector("textarea")?.focus();
    await ask();
    expect(card().dataset.status).toBe("asking");
    const question = find("approval");
    expect(question?.tagName).toBe("SECTION");
    const label = document.getElementById(question?.getAttribute("aria-labelledby") ?? "");
    expect(label?.textContent).toBe("The model wants to run area. Allow it?");
    const shown = question?.querySelector<HTMLElement>(".wc-box");
    expect(shown?.textContent).toBe('{\n  "width": 3,\n  "height": 4\n}');
    expect(shown?.tabIndex).toBe(0);
    expect(question?.querySelector("time")?.dateTime).toBe(new Date(tomorrow).toISOString());
    expect([...(question?.querySelectorAll("button") ?? [])].map((each) => each.textContent)).toEqual([
      "Allow once",
      "Always in this chat",
      "Deny",
    ]);
    expect(document.activeElement?.tagName).toBe("TEXTAREA");
    expect(find("stop-button")).not.toBeNull();
  });

  it.each([
    ["approve-once", "once", "Allowed once"],
    ["approve-always", "always", "Allowed in this chat"],
  ])("%s: sends the digest of what was shown, once", async (part, decision, words) => {
    await ask();
    find(part)?.click();
    find(part)?.click();
    await settle();
    expect(host.approvals).toEqual([{ convId: "c", callId: "r:call:1", decision, digest: "d1", reason: "" }]);
    expect(find("approval")).toBeNull();
    expect(card().dataset.status).toBe("running");
    expect(card().textContent).toContain(words);
    expect(document.activeElement?.tagName).toBe("TEXTAREA");
  });

  it("says whose result it is where calls run side by side", async () => {
    const call = (id: string, name: string) => host.emit("tool.start", id, { name, input: {} });
    const result = (id: string) => host.emit("tool.result", `${id}:result`, { toolCallId: id, result: "x" });
    call("r:call:1", "planets");
    call("r:call:2", "plot");
    result("r:call:1");
    result("r:call:2");
    call("r:call:3", "alone");
    result("r:call:3");
    await settle();
    const labels = [...el.querySelectorAll("[data-kind=tool_result]")].map(
      (card) => card.querySelector(".wc-label")?.textContent ?? "",
    );
    expect(labels).toEqual(["Result of planets", "Result of plot", ""]);
  });

  it.each([
    ["Denied: not now", "denied", "denied", "not now", true],
    ["Expired", "denied", "expired", "", true],
    ["cancelled", "cancelled", "expired", "", true],
    ["cancelled", "cancelled", "once", "", true],
    ["failed", "failed", "once", "", false],
  ])("says %j once where it ended %s, %s", async (words, status, state, reason, hidden) => {
    await ask();
    host.emit("tool.delta", "r:call:1", { patch: { approval: { ...pending, state, reason } } });
    const told = { toolCallId: "r:call:1", result: "This is why.", error: "This is why." };
    host.emit("tool.result", "r:call:1:result", told);
    host.emit("tool.done", "r:call:1", { status });
    host.emit("error", "r:error", { error: "Stopped before the first word.", code: "stopped" });
    await settle();
    expect(card().textContent).toContain(words);
    const row = el.querySelector<HTMLElement>("[data-kind=tool_result]"); // a row all the same
    expect(row?.dataset.id).toBe("r:call:1:result");
    expect(row?.querySelector<HTMLElement>(".wc-result")?.hidden).toBe(hidden);
    const stopped = el.querySelector<HTMLElement>("[data-kind=error] [data-part=content]");
    expect(stopped?.hidden).toBe(status === "cancelled");
  });

  it("offers no yes for later calls where each is asked about", async () => {
    host.emit("tool.start", "r:call:1", { name: "run_code", input: { code: "1" } });
    const approval = { ...pending, always: false };
    host.emit("tool.delta", "r:call:1", { patch: { status: "asking", approval } });
    await settle();
    expect(find("approve-once")).not.toBeNull();
    expect(find("approve-always")).toBeNull();
  });

  it("Deny opens a field for the reason, which is optional", async () => {
    await ask();
    await press("deny");
    const field = find<HTMLInputElement>("deny-reason") as HTMLInputElement;
    expect(document.activeElement).toBe(field);
    expect(host.approvals).toEqual([]);
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    await settle();
    expect(find("approve-once")).not.toBeNull();
    await press("deny");
    (find("deny-reason") as HTMLInputElement).value = " not my file ";
    await press("deny-send");
    expect(host.approvals).toMatchObject([{ decision: "deny", reason: "not my file" }]);
    expect(card().textContent).toContain("Denied: not my file");
    expect(card().textContent).toContain("Wanted to use area");
    await ask("r:call:2");
    await press("deny");
    find("deny-reason")?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    await settle();
    expect(host.approvals[1]).toMatchObject({ decision: "deny", reason: "" });
  });

  it("cannot be answered twice while an answer is under way; one that failed says why, and asks again", async () => {
    let fail = (_error: Error): void => {};
    host.approve = () => new Promise((_, reject) => (fail = reject));
    await ask();
    await press("approve-once");
    for (const each of find("approval")?.querySelectorAll("button") ?? []) expect(each.disabled).toBe(true);
    fail(failure("network", "Jupyter cannot be reached."));
    await settle();
    expect(find("approval")?.querySelector("[role=alert]")?.textContent).toBe("Jupyter cannot be reached.");
    expect(find<HTMLButtonElement>("approve-once")?.disabled).toBe(false);
  });

  it("that was decided elsewhere, unseen by this page, is refused, and the page catches up", async () => {
    await ask();
    const patch = { approval: { ...pending, state: "once" }, status: "running" };
    host.emit("tool.delta", "r:call:1", { patch }, "lose");
    expect(find("approval")).not.toBeNull();
    await press("approve-always");
    await settle();
    expect(find("approval")).toBeNull();
    expect(card().textContent).toContain("Allowed once");
  });

  it("with other arguments is another question: an answer that was typed for the first is gone", async () => {
    await ask();
    await press("deny");
    const patch = { input: { width: 9 }, approval: { ...pending, digest: "d2" } };
    host.emit("tool.delta", "r:call:1", { patch });
    await settle();
    expect(find("deny-reason")).toBeNull();
    expect(find("approval")?.textContent).toContain('"width": 9');
    await press("approve-once");
    expect(host.approvals).toMatchObject([{ digest: "d2" }]);
  });

  it("is found from the status bar", async () => {
    expect(find("statusbar")?.textContent).not.toContain("Waiting for your answer");
    await ask();
    await ask("r:call:2", "other");
    expect(find("statusbar")?.textContent).toContain("Waiting for your answer to 2 questions");
    const scrolled = vi.spyOn(HTMLElement.prototype, "scrollIntoView").mockImplementation(() => {});
    await press("show-approval");
    expect(scrolled.mock.contexts).toEqual([card()]);
    expect(document.activeElement).toBe(find("approval"));
    await press("approve-once");
    expect(find("statusbar")?.textContent).toContain("Waiting for your answerShow");
  });

  it("takes the focus from nobody who has gone elsewhere meanwhile", async () => {
    await ask();
    const cell = document.createElement("input");
    document.body.append(cell);
    find("approve-once")?.click();
    cell.focus();
    await settle();
    expect(host.approvals).toHaveLength(1);
    expect(document.activeElement).toBe(cell);
    cell.remove();
  });

  it("asks no more when it expired, or its run was stopped", async () => {
    await ask();
    host.emit("tool.delta", "r:call:1", { patch: { approval: { ...pending, state: "expired" } } });
    host.emit("tool.done", "r:call:1", { status: "denied" });
    await settle();
    expect(card().textContent).toContain("Expired");
    await ask("r:call:2", "stopped");
    host.emit("tool.delta", "r:call:2", { patch: { approval: { ...pending, state: "expired" } } });
    host.emit("tool.done", "r:call:2", { status: "cancelled" });
    await settle();
    expect(find("approval")).toBeNull();
    expect(el.querySelectorAll("[data-kind=tool_call]")[1]?.textContent).toBe(
      "Wanted to use stoppedwidth: 3, height: 4cancelled",
    );
    expect(find("statusbar")?.textContent).not.toContain("Waiting for your answer");
  });
});

describe("what is shown of a call", () => {
  it("a text of several lines stands alone, as it is", () => {
    expect(argumentsOf({ code: "a = 1\nb = 2", n: 3 }, undefined)).toEqual([
      { name: "", text: '{\n  "n": 3\n}', lines: 3 },
      { name: "code", text: "a = 1\nb = 2", lines: 2 },
    ]);
    expect(argumentsOf({}, undefined)).toEqual([]);
    expect(argumentsOf(undefined, '{"a": ')).toMatchObject([{ text: '{"a": ' }]);
  });

  it("nothing hides: what turns the direction, or is invisible, is written out", () => {
    const hidden = [
      "\u202e",
      "\u200b",
      "\u2066",
      "\ufeff",
      "\u2028",
      "\u00ad",
      "\u{e0041}",
      "\u{e0101}",
      "\u3164",
    ];
    for (const char of hidden) {
      const name = `\\u{${char.codePointAt(0)?.toString(16)}}`;
      const [rest, block] = argumentsOf({ [`k${char}`]: char, code: `a\n${char}b` }, undefined);
      expect(rest?.text).toBe(`{\n  "k${name}": "${name}"\n}`);
      expect(block?.text).toBe(`a\n${name}b`);
    }
    expect(argumentsOf("a\rb\tc", undefined)[0]?.text).toBe("a\\u{d}b\tc");
  });

  it("no argument is left out, whatever it is", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (input) => {
        const shown = argumentsOf(input, undefined);
        const blocks = new Set(shown.slice(shown[0]?.name === "" ? 1 : 0));
        const json = shown.find((each) => !blocks.has(each));
        const rest = json ? Object.keys(input).length - blocks.size : 0;
        expect(blocks.size + rest).toBe(Object.keys(input).length);
      }),
    );
  });
});

describe("no question is asked", () => {
  const asking = { name: "f", input: {}, status: "asking", approval: pending, done: false };
  it.each([
    ["by a call that has ended", { ...asking, done: true }],
    ["by one that is at work", { ...asking, status: "running" }],
    ["that was decided", { ...asking, approval: { ...pending, state: "once" } }],
    ["that an answer could not name", { ...asking, approval: { ...pending, digest: "" } }],
  ])("%s", (_name, props) => {
    expect(questionOf({ id: "t", kind: "tool_call", version: 1, props })).toBeNull();
    expect(questionOf({ id: "t", kind: "tool_call", version: 1, props: asking })).not.toBeNull();
  });
});

describe("whatever a row says", () => {
  const words = fc.constantFrom(
    "asking",
    "waiting",
    "running",
    "completed",
    "denied",
    "__proto__",
    "constructor",
  );
  const states = fc.constantFrom("pending", "once", "always", "denied", "expired", "toString", "");
  const anything = fc.anything({ maxDepth: 2 });
  const approval = fc.oneof(
    anything,
    fc.record(
      {
        digest: fc.oneof(fc.string(), anything),
        expiresAt: fc.oneof(fc.double(), fc.integer(), anything),
        state: fc.oneof(states, anything),
        reason: anything,
      },
      { requiredKeys: [] },
    ),
  );
  const progress = fc.oneof(
    anything,
    fc.record({ value: fc.oneof(fc.double(), anything), text: anything }, { requiredKeys: [] }),
  );
  const props = fc.record(
    {
      name: anything,
      input: fc.oneof(fc.jsonValue(), fc.constant(undefined)),
      inputText: anything,
      stdout: fc.oneof(fc.string(), anything),
      status: fc.oneof(words, anything),
      progress,
      approval,
      done: anything,
    },
    { requiredKeys: [] },
  );
  const view = {
    session: { runs: signal([]), errors: signal([]) } as unknown as Session,
    profile: "",
    run: "",
    renderers: null,
    send: () => {},
    edit: () => {},
    show: () => {},
    goOn: () => {},
  };

  it("its card stands, and offers a yes only to a question with a digest", () => {
    const into = document.createElement("div");
    fc.assert(
      fc.property(props, (made) => {
        const entity: Entity = { id: "r:call:1", kind: "tool_call", version: 1, props: made };
        render(
          <View.Provider value={view}>
            <Turn entity={entity} />
          </View.Provider>,
          into,
        );
        expect(into.querySelector("[data-part=turn] [data-part=content]")).not.toBeNull();
        const bar = into.querySelector("progress");
        if (bar?.hasAttribute("value")) expect(Number(bar.getAttribute("value"))).toBeGreaterThanOrEqual(0);
        const { digest, state } = (made.approval ?? {}) as Record<string, unknown>;
        const asks = made.status === "asking" && made.done !== true && state === "pending";
        const can = asks && typeof digest === "string" && digest !== "";
        expect(into.querySelector("[data-part=approve-once]") !== null).toBe(can);
        expect(questionOf(entity) !== null).toBe(can);
        verdictOf(entity);
      }),
      { numRuns: Number(process.env.WEBCHAT_TEXTS ?? 500) },
    );
    render(null, into);
  });
});
