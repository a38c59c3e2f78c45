// @vitest-environment node
import { describe, expect, it } from "vitest";
import { HydrationGate } from "./hydrationGate";

const frame = (n: number, seq?: number) => ({ n, seq });

function opened(upTo = 0) {
  const gate = new HydrationGate<{ n: number; seq: number | undefined }>();
  gate.restart();
  gate.asking();
  gate.snapshot(upTo);
  expect(gate.replay(() => true)).toBe("open");
  return gate;
}

describe("the gate", () => {
  it("holds frames in order until a snapshot is there, then replays what it does not cover", () => {
    const gate = new HydrationGate<{ n: number; seq: number }>();
    expect(gate.arrive(frame(1, 10) as never)).toBe("held");
    expect(gate.arrive(frame(2, 11) as never)).toBe("held");
    expect(gate.arrive(frame(3, 12) as never)).toBe("held");
    gate.asking();
    gate.snapshot(11);
    const seen: number[] = [];
    expect(gate.replay((item) => seen.push(item.seq) > 0)).toBe("open");
    expect(seen).toEqual([12]);
    expect(gate.covered).toBe(12);
    expect(gate.held).toBe(0);
  });

  it("lets frames through while n has no hole, and moves along with their seq", () => {
    const gate = opened();
    expect(gate.arrive(frame(1, 5))).toBe("apply");
    gate.applied(frame(1, 5));
    expect(gate.arrive(frame(2, 90))).toBe("apply");
    gate.applied(frame(2, 90));
    expect(gate.covered).toBe(90);
  });

  it("closes at a hole in n, keeps the frame, and stays where it was", () => {
    const gate = opened(7);
    gate.arrive(frame(1, 8));
    gate.applied(frame(1, 8));
    expect(gate.arrive(frame(3, 10))).toBe("resync");
    expect(gate.open).toBe(false);
    expect(gate.covered).toBe(8);
    gate.asking();
    gate.snapshot(9);
    const seen: unknown[] = [];
    expect(gate.replay((item) => seen.push(item.seq) > 0)).toBe("open");
    expect(seen).toEqual([10]);
  });

  it("asks again when a hole shows while a snapshot is on its way", () => {
    const gate = new HydrationGate<{ n: number; seq: number | undefined }>();
    gate.arrive(frame(1, 1));
    gate.asking();
    gate.arrive(frame(3, 3));
    gate.snapshot(1);
    expect(gate.replay(() => true)).toBe("resync");
    gate.asking();
    gate.snapshot(3);
    expect(gate.replay(() => true)).toBe("open");
  });

  it("keeps a frame that cannot be applied for the next resync, and drops it after three", () => {
    const gate = opened();
    const odd = frame(1, 50);
    expect(gate.arrive(odd)).toBe("apply");
    gate.refused(odd);
    gate.arrive(frame(2, 51));
    for (const outcome of ["resync", "resync", "open"]) {
      gate.asking();
      expect(gate.replay((item) => item.seq !== 50)).toBe(outcome);
    }
    expect(gate.dropped).toBe(1);
    expect(gate.covered).toBe(51);
  });

  it("does not mind a frame that comes twice", () => {
    const gate = opened();
    expect(gate.arrive(frame(1, 5))).toBe("apply");
    expect(gate.arrive(frame(1, 5))).toBe("apply");
    expect(gate.arrive(frame(2, 6))).toBe("apply");
  });

  it("a new stream starts again at 1 and keeps what was covered", () => {
    const gate = opened(40);
    gate.restart();
    expect(gate.arrive(frame(1))).toBe("held");
    expect(gate.covered).toBe(40);
    gate.forget();
    expect(gate.covered).toBe(0);
  });
});
