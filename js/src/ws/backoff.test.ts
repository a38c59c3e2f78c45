// @vitest-environment node
import { expect, it } from "vitest";
import { Backoff } from "./backoff";

it("doubles up to its cap, starts again after a reset", () => {
  const backoff = new Backoff(100, 1000, () => 1);
  expect([1, 2, 3, 4, 5, 6].map(() => backoff.next())).toEqual([100, 200, 400, 800, 1000, 1000]);
  backoff.reset();
  expect(backoff.next()).toBe(100);
});

it("waits between half of a step and all of it", () => {
  expect(new Backoff(100, 1000, () => 0).next()).toBe(50);
  for (let round = 0; round < 100; round += 1) {
    const wait = new Backoff(100, 1000).next();
    expect(wait).toBeGreaterThanOrEqual(50);
    expect(wait).toBeLessThanOrEqual(100);
  }
});
