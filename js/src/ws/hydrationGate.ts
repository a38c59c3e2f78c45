/**
 * The gate between the stream and the timeline. Pure: no clock, no socket, no store.
 *
 * Closed, it holds frames in order; a snapshot opens it, and what it held and the snapshot does not cover is
 * replayed. Open, it lets frames through until something is missing: a hole in `n`, or a frame that could not
 * be applied. Then it closes, keeps that frame, and asks for a resync from `covered`, the last position up to
 * which nothing is missing.
 */
export interface Gated {
  readonly n?: number | undefined;
  readonly seq?: number | undefined;
}

/** `apply`: yours, report back with `applied` or `refused`. `held`: kept. `resync`: kept, and something is missing. */
export type Verdict = "apply" | "held" | "resync";

export class HydrationGate<T extends Gated> {
  #open = false;
  #held: T[] = [];
  #expected = 1;
  #hole = false;
  #covered = 0;
  /** How often in a row a replay ran into a frame that no resync made sense of. */
  #stuck = 0;
  dropped = 0;

  get open(): boolean {
    return this.#open;
  }

  get covered(): number {
    return this.#covered;
  }

  get held(): number {
    return this.#held.length;
  }

  /** A new stream begins: it starts again at n = 1, and what the old one left is covered by the next snapshot. */
  restart(): void {
    this.#open = false;
    this.#held = [];
    this.#expected = 1;
    this.#hole = false;
    this.#stuck = 0;
  }

  /** Forgets the history too: the next snapshot is another one. */
  forget(): void {
    this.#covered = 0;
  }

  arrive(item: T): Verdict {
    const hole = item.n !== undefined && item.n > this.#expected;
    if (item.n !== undefined) this.#expected = Math.max(this.#expected, item.n + 1);
    if (this.#open && !hole) return "apply";
    this.#held.push(item);
    if (hole) this.#hole = true;
    if (!this.#open) return "held";
    this.#open = false;
    return "resync";
  }

  applied(item: T): void {
    if (item.seq !== undefined) this.#covered = Math.max(this.#covered, item.seq);
  }

  /** The frame could not be applied: something before it is missing. */
  refused(item: T): void {
    this.#open = false;
    this.#held.unshift(item);
  }

  /** Something is missing that no frame has shown. */
  shut(): void {
    this.#open = false;
  }

  /** A snapshot is about to be asked for; a hole noticed from now on needs another one after it. */
  asking(): void {
    this.#hole = false;
  }

  /** A snapshot is in the timeline that covers everything up to `version`. */
  snapshot(version: number): void {
    this.#covered = Math.max(this.#covered, version);
  }

  /**
   * Replays what is held. "open": all is in order, frames flow. "resync": something is still missing; the rest
   * is kept. A frame that a third resync in a row does not explain is dropped, so that nothing stands still.
   */
  replay(apply: (item: T) => boolean): "open" | "resync" {
    if (this.#hole) return "resync";
    let at = 0;
    for (; at < this.#held.length; at += 1) {
      const item = this.#held[at] as T;
      if (item.seq !== undefined && item.seq <= this.#covered) continue;
      if (!apply(item)) {
        this.#stuck += 1;
        if (this.#stuck < 3) break;
        this.dropped += 1;
      }
      this.#stuck = 0;
      this.applied(item);
    }
    this.#held.splice(0, at);
    if (this.#held.length > 0) return "resync";
    this.#open = true;
    return "open";
  }
}
