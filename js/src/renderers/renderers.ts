import { type ReadonlySignal, type Signal, signal } from "@preact/signals-core";
import { record } from "../http/replies";
import { importText } from "../modules";
import { Line, type Wire } from "../transport/line";
import { type Render, words } from "./draw";

/** What a kind of rows is drawn with: a function, or why there is none though there should be. */
export type Renderer = { readonly render: Render } | { readonly problem: string };

interface Slot {
  readonly renderer: Signal<Renderer | null>;
  /** What it was made of. */
  source: string | null;
}

/** Said once more after that, where no answer has come. */
const AGAIN_MS = 8_000;

/**
 * What a widget's kernel wants own kinds of rows to be drawn with. It is asked when the first such row is to be
 * drawn, and again when it says that they have changed. A kernel that does not answer has none.
 *
 * Only its answer to a question of this page is ever run. What a notebook keeps of a widget may have been written
 * by anyone, so renderers are no part of that.
 */
export class Renderers {
  readonly #line: Line;
  readonly #load: (source: string) => Promise<unknown>;
  readonly #slots = new Map<string, Slot>();
  #stop: (() => void) | null = null;
  #asking = new AbortController();

  constructor(wire: Wire, load: (source: string) => Promise<unknown> = importText) {
    this.#line = new Line(wire);
    this.#load = load;
  }

  /** What rows of a kind are drawn with; null where that is not known, or nothing of their own. */
  of(kind: string): ReadonlySignal<Renderer | null> {
    let slot = this.#slots.get(kind);
    if (!slot) {
      slot = { renderer: signal(null), source: null };
      this.#slots.set(kind, slot);
      this.#ask();
    }
    return slot.renderer;
  }

  /** Listens no more. What is drawn stays as it is. */
  close(): void {
    this.#asking.abort();
    this.#stop?.();
    this.#stop = null;
  }

  #ask(): void {
    this.#listen();
    this.#asking.abort(); // its answer may be older than what we were told just now
    const asking = new AbortController();
    this.#asking = asking;
    const { signal } = asking;
    this.#line.ask({ op: "renderers", body: {}, againMs: AGAIN_MS, signal, quiet: true }).then(
      ({ status, body }) => {
        if (status === 200 && !signal.aborted) this.#take(record(body) ?? {});
      },
      () => {}, // nobody is there, or it is asked anew
    );
  }

  #listen(): void {
    if (this.#stop) return;
    const unwatch = this.#line.watch({ back: () => this.#ask(), slow: () => {} });
    const unlisten = this.#line.listen({ renderers: () => this.#ask() });
    this.#stop = () => {
      unlisten();
      unwatch();
    };
  }

  #take(sources: Record<string, unknown>): void {
    for (const [kind, slot] of this.#slots) {
      const said = Object.hasOwn(sources, kind) ? sources[kind] : null;
      const source = typeof said === "string" ? said : null;
      if (source === slot.source) continue;
      slot.source = source;
      if (source === null) slot.renderer.value = null;
      else void this.#run(slot, source, kind);
    }
  }

  async #run(slot: Slot, source: string, kind: string): Promise<void> {
    const renderer = await this.#load(source).then(rendererOf, (error: unknown) => ({
      problem: words(error),
    }));
    if (slot.source !== source) return; // it has changed while it was loaded
    if ("problem" in renderer) console.error(`The renderer of ${kind} cannot be used: ${renderer.problem}`);
    slot.renderer.value = renderer;
  }
}

function rendererOf(module: unknown): Renderer {
  const { default: main, render } = (module ?? {}) as { default?: { render?: unknown }; render?: unknown };
  const found = typeof main?.render === "function" ? main.render.bind(main) : render;
  if (typeof found !== "function") return { problem: "its module exports no render" };
  return { render: found as Render };
}
