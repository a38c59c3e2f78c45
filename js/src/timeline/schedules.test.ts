// @vitest-environment node
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { difference, type Played } from "../testing/replay";

const file = new URL("../../../tests/contract/schedules.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: (Played & { name: string })[] };

describe("the golden schedules: a page that is told what a reader of the host was told asks and shows the same", () => {
  it.each(cases.map((each) => [each.name, each] as const))("%s", async (_name, each) => {
    expect(await difference(each)).toBeNull();
  });
});
