/**
 * The page's registry of conversations: the one global thing. Each widget's module is its own blob, so the only
 * place where two of them can meet is `globalThis`.
 */
interface Shared {
  readonly entries: Map<string, { value: { close(): void }; views: number }>;
}

const KEY = Symbol.for("webchat");
/** Copies of this module share objects only where these agree. Raise it when Session's shape changes. */
const SHAPE = 7;

export interface Lease<T> {
  readonly value: T;
  /** Gives it back; the last one closes it. Twice is once. */
  release(): void;
}

export function acquire<T extends { close(): void }>(name: string, create: () => T): Lease<T> {
  const scope = globalThis as { [KEY]?: Shared };
  scope[KEY] ??= { entries: new Map() };
  const { entries } = scope[KEY];
  const key = `${SHAPE} ${name}`;
  let entry = entries.get(key);
  if (!entry) {
    entry = { value: create(), views: 0 };
    entries.set(key, entry);
  }
  entry.views += 1;
  const mine = entry;
  let held = true;
  return {
    value: mine.value as T,
    release: () => {
      if (!held) return;
      held = false;
      mine.views -= 1;
      if (mine.views > 0) return;
      if (entries.get(key) === mine) entries.delete(key);
      mine.value.close();
    },
  };
}
