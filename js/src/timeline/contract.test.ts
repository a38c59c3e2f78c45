// @vitest-environment node
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { EntityInput } from "./entities";
import { merge } from "./merge";

interface Case {
  name: string;
  old: EntityInput | null;
  new: EntityInput;
  merged: EntityInput;
}

const file = new URL("../../../tests/contract/merges.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

describe("the golden merges", () => {
  it.each(cases.map((each) => [each.name, each] as const))("%s", (_name, each) => {
    expect(merge(each.old, each.new)).toEqual(each.merged);
  });
});
