/** Waits that grow, with jitter so that a hundred pages do not come back at the same instant. */
export class Backoff {
  #attempt = 0;

  constructor(
    readonly firstMs = 400,
    readonly capMs = 15_000,
    readonly random: () => number = Math.random,
  ) {}

  get attempt(): number {
    return this.#attempt;
  }

  /** The next wait: between half of the doubled step and all of it. */
  next(): number {
    const step = Math.min(this.capMs, this.firstMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return Math.round(step * (0.5 + this.random() / 2));
  }

  reset(): void {
    this.#attempt = 0;
  }
}
