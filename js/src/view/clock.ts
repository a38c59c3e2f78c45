import { useEffect, useReducer } from "preact/hooks";

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

/** One timer for all that count, which runs only while something does. */
function eachSecond(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    for (const each of [...listeners]) each();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** The whole seconds until a time (Unix ms), counted down where this is drawn; null when it has come. */
export function useSecondsUntil(time: number): number | null {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const seconds = Math.ceil((time - Date.now()) / 1000);
  const counts = seconds > 0;
  useEffect(() => (counts ? eachSecond(() => redraw(undefined)) : undefined), [counts]);
  return counts ? seconds : null;
}
