// @vitest-environment node
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TimelineStore } from "../timeline/store";
import type { SemEvent } from "./frames";
import { standardRegistry } from "./handlers";

interface Case {
  name: string;
  events: SemEvent[];
  gap?: boolean;
  ignored?: number;
  entities: unknown[];
}

const file = new URL("../../../tests/contract/frames.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

describe("the golden frames fold into the golden rows", () => {
  it.each(cases.map((each) => [each.name, each] as const))("%s", (_name, each) => {
    const store = new TimelineStore();
    const registry = standardRegistry();
    const outcomes = each.events.map((event) => registry.apply(event, store));
    expect(store.snapshot()).toEqual(each.entities);
    expect(outcomes.includes("gap")).toBe(each.gap ?? false);
    expect(registry.ignored).toBe(each.ignored ?? 0);
  });
});
