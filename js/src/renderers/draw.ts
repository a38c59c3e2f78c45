import type { Entity } from "../timeline/entities";

/** Draws one state of a row into an empty element; may return how to take that away again. */
export type Render = (props: { entity: Entity; el: HTMLElement }) => unknown;

/** Renderers that have failed: one error in the console each, however many rows they draw. */
const failed = new WeakSet<Render>();

/**
 * Lets a renderer draw a row into a new element of `root`, in place of what is there. Returns how to end that, which
 * calls the renderer's clean-up once, also where that comes late, from a renderer that takes its time. `onError` is
 * told why it failed, as long as that still matters.
 */
export function draw(
  render: Render,
  entity: Entity,
  root: ShadowRoot,
  onError: (why: string) => void,
): () => void {
  let over = false;
  let cleanUp: unknown;
  const fail = (error: unknown) => {
    if (!failed.has(render)) console.error(`The renderer of ${entity.kind} failed.`, error);
    failed.add(render);
    if (!over) onError(words(error));
  };
  const clean = () => {
    const call = cleanUp;
    cleanUp = undefined;
    try {
      if (typeof call === "function") call();
    } catch (error) {
      fail(error);
    }
  };
  const take = (made: unknown) => {
    cleanUp = made;
    if (over) clean();
  };
  const el = document.createElement("div");
  root.replaceChildren(el);
  try {
    const made = render({ entity: structuredClone(entity), el });
    if (made instanceof Promise) made.then(take, fail);
    else take(made);
  } catch (error) {
    fail(error);
  }
  return () => {
    over = true;
    clean();
  };
}

/** An error in a line. */
export function words(error: unknown): string {
  return (error instanceof Error ? `${error.name}: ${error.message}` : String(error)).slice(0, 500);
}
