// @vitest-environment node
import { effect } from "@preact/signals-core";
import { describe, expect, it } from "vitest";
import { TimelineStore } from "./store";

const note = (id: string, createdSeq?: number, version = createdSeq ?? 0, props = {}) => ({
  id,
  kind: "note",
  createdSeq,
  version,
  props,
});
const ids = (store: TimelineStore) => store.snapshot().map((row) => row.id);

function made() {
  const flushes: (() => void)[] = [];
  const store = new TimelineStore((flush) => void flushes.push(flush));
  return { store, flushes };
}

describe("rows", () => {
  it("sort by createdSeq; those without come last, by arrival", () => {
    const { store } = made();
    for (const row of [note("x"), note("c", 30), note("a", 10), note("y"), note("b", 20)])
      store.addEntity(row);
    expect(ids(store)).toEqual(["a", "b", "c", "x", "y"]);
    store.upsertEntity(note("x", 15));
    expect(ids(store)).toEqual(["a", "x", "b", "c", "y"]);
  });

  it("addEntity does nothing where the id exists, upsertEntity merges", () => {
    const { store } = made();
    store.addEntity(note("a", 10, 10, { x: 1 }));
    expect(store.addEntity(note("a", 10, 99, { x: 2 }))).toBe("stale");
    expect(store.upsertEntity(note("a", 10, 9, { x: 3 }))).toBe("stale");
    expect(store.upsertEntity(note("a", 10, 11, { y: 4 }))).toBe("applied");
    expect(store.get("a")?.props).toEqual({ x: 1, y: 4 });
  });

  it("rekeyEntity keeps the place and the element", () => {
    const { store } = made();
    for (const row of [note("a", 10), note("b", 20), note("c", 30)]) store.addEntity(row);
    store.flush();
    const row = store.order.value[1];
    store.rekeyEntity("b", "z");
    store.flush();
    expect(ids(store)).toEqual(["a", "z", "c"]);
    expect(store.order.value[1]).toBe(row);
    expect(store.has("b")).toBe(false);
    store.rekeyEntity("a", "c");
    expect(ids(store)).toEqual(["z", "c"]);
  });

  it("clear leaves nothing; replaceAll swaps in one change and keeps what it is told to", () => {
    const { store } = made();
    store.addEntity(note("a", 10));
    store.addEntity(note("mine"));
    store.flush();
    const kept = store.order.value[0];
    const seen: number[] = [];
    store.order.subscribe((rows) => seen.push(rows.length));
    store.replaceAll([note("a", 5, 5, { fresh: true }), note("b", 6)], (row) => row.id === "mine");
    expect(ids(store)).toEqual(["a", "b", "mine"]);
    expect(store.get("a")).toMatchObject({ version: 5, props: { fresh: true } });
    expect(store.order.value[0]).toBe(kept);
    expect(seen).toEqual([2, 3]);
    store.clear();
    expect(store.size).toBe(0);
    expect(seen).toEqual([2, 3, 0]);
  });
});

describe("the floor", () => {
  it("hides rows that were made before it, keeps them up to date, and shows them when it sinks", () => {
    const { store } = made();
    store.replaceAll([note("c", 30), note("d", 40)], undefined, 30);
    const notes = store.ofKind("note");
    store.addEntity(note("a", 10));
    store.addEntity(note("b", 20));
    store.addEntity(note("mine"));
    store.upsertEntity(note("b", 20, 50, { x: 1 }));
    expect(ids(store)).toEqual(["c", "d", "mine"]);
    expect(store.has("b")).toBe(true);
    expect(store.size).toBe(3);
    store.flush();
    expect(notes.value.map((row) => row.id)).toEqual(["a", "b", "c", "d", "mine"]);
    store.removeEntity("a");
    expect(ids(store)).toEqual(["c", "d", "mine"]);
    store.lowerFloor(35);
    expect(store.floor).toBe(30);
    store.lowerFloor(0);
    store.flush();
    expect(ids(store)).toEqual(["b", "c", "d", "mine"]);
    expect(store.order.value.map((row) => row.entity.value.props)).toEqual([{ x: 1 }, {}, {}, {}]);
    expect(notes.value.map((row) => row.id)).toEqual(["b", "c", "d", "mine"]);
  });

  it("rises with another history, which shows what it brings", () => {
    const { store } = made();
    store.replaceAll([note("c", 30)], undefined, 30);
    store.addEntity(note("a", 10));
    store.replaceAll([note("a", 10), note("b", 20)], undefined, 10);
    expect(ids(store)).toEqual(["a", "b"]);
  });
});

describe("signals", () => {
  it("a delta wakes its own row only, and order only when rows come, go or move", () => {
    const { store, flushes } = made();
    store.addEntity({ id: "m", kind: "message", createdSeq: 1, version: 1, props: { content: "" } });
    store.addEntity(note("n", 2));
    store.flush();
    const woken: string[] = [];
    for (const row of store.order.value) effect(() => void woken.push(row.entity.value.id));
    effect(() => void woken.push(`order ${store.order.value.length}`));
    woken.length = 0;
    flushes.length = 0;
    for (let at = 0; at < 20; at += 1)
      store.appendText("m", 2 + at, [{ prop: "content", offset: at, delta: "x" }]);
    expect(woken).toEqual([]);
    expect(flushes).toHaveLength(1);
    flushes[0]?.();
    expect(woken).toEqual(["m"]);
    store.addEntity(note("o", 3));
    store.flush();
    expect(woken).toEqual(["m", "order 3"]);
  });

  it("rows of a kind are one signal, that follows them", () => {
    const { store } = made();
    const notes = store.ofKind("note");
    let changes = -1;
    notes.subscribe(() => (changes += 1));
    store.addEntity({ id: "m", kind: "message", createdSeq: 1, props: {} });
    store.flush();
    expect(changes).toBe(0);
    store.addEntity(note("a", 2));
    store.upsertEntity(note("a", 2, 3, { x: 1 }));
    store.flush();
    expect(changes).toBe(1);
    expect(notes.value.map((row) => row.props)).toEqual([{ x: 1 }]);
    store.removeEntity("a");
    store.flush();
    expect(notes.value).toEqual([]);
  });

  it("costs the same for a delta whatever the number of rows", () => {
    const { store } = made();
    for (let at = 0; at < 5000; at += 1) store.addEntity(note(`n${at}`, at));
    store.addEntity({ id: "m", kind: "message", createdSeq: 9000, version: 9000, props: { content: "" } });
    store.flush();
    const before = store.order.value;
    for (let at = 0; at < 5000; at += 1) {
      store.appendText("m", 9001 + at, [{ prop: "content", offset: at, delta: "x" }]);
      store.flush();
    }
    expect(store.order.value).toBe(before);
    expect(store.get("m")?.props.content).toHaveLength(5000);
  });
});

it("parts of a text grow together or not at all", () => {
  const { store } = made();
  store.addEntity({ id: "c", kind: "tool_call", createdSeq: 1, version: 1, props: {} });
  const part = (prop: string, offset: number) => ({ prop, offset, delta: "ab" });
  expect(store.appendText("c", 2, [part("stdout", 0), part("inputText", 9)])).toBe("gap");
  expect(store.get("c")).toMatchObject({ version: 1, props: {} });
  expect(store.appendText("c", 2, [part("stdout", 0), part("inputText", 0)])).toBe("applied");
  expect(store.appendText("nobody", 3, [])).toBe("gap");
});
