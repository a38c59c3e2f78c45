// @vitest-environment node
import { expect, it, vi } from "vitest";
import { acquire } from "./registry";

it("views of one conversation share one thing, the last one closes it", () => {
  const close = vi.fn();
  const create = vi.fn(() => ({ close }));
  const a = acquire("/ c", create);
  const b = acquire("/ c", create);
  const other = acquire("/ d", () => ({ close: () => {} }));
  expect(a.value).toBe(b.value);
  expect(other.value).not.toBe(a.value);
  a.release();
  a.release();
  expect(close).not.toHaveBeenCalled();
  b.release();
  expect(close).toHaveBeenCalledOnce();
  expect(acquire("/ c", create).value).not.toBe(a.value);
  expect(create).toHaveBeenCalledTimes(2);
});

it("two copies of the module meet", async () => {
  const first = acquire("/ meet", () => ({ close: () => {} }));
  vi.resetModules();
  const copy = await import("./registry");
  expect(copy.acquire).not.toBe(acquire);
  expect(copy.acquire("/ meet", () => ({ close: () => {} })).value).toBe(first.value);
});
