import { type EntityInput, isTerminal, type Props } from "./entities";

const FROZEN = new Set(["status", "streaming", "done"]);

/**
 * The one rule that decides who wins: higher version: props laid over the old ones; equal: merged shallowly
 * (the same thing, said twice); lower: ignored. What the new row does not name stays. What has ended stays
 * ended. Returns `old` itself where nothing changes.
 */
export function merge<T extends EntityInput>(old: T | undefined | null, incoming: T): T {
  if (!old) return incoming;
  const oldVersion = old.version ?? 0;
  const version = incoming.version ?? 0;
  if (version < oldVersion) return old;
  const merged = { ...old, version, props: layOver(old.kind, old.props, incoming.props) };
  if (old.createdSeq === undefined && incoming.createdSeq !== undefined) {
    merged.createdSeq = incoming.createdSeq;
  }
  return merged;
}

function layOver(kind: string, old: Props, incoming: Props): Props {
  const props = { ...old, ...incoming };
  if (!isTerminal(kind, old)) return props;
  for (const key of FROZEN) {
    if (Object.hasOwn(old, key)) props[key] = old[key];
  }
  return props;
}
