import type { ReadonlySignal } from "@preact/signals-core";
import { createContext } from "preact";
import { useContext, useLayoutEffect, useReducer, useRef } from "preact/hooks";
import type { Picture } from "../http/replies";
import type { Renderers } from "../renderers/renderers";
import type { Session } from "../session/session";

/**
 * Reads a signal and draws again when it changes. By `subscribe`, because the signal may belong to another copy
 * of this module, whose tracking does not see this one.
 */
export function useSignalValue<T>(source: ReadonlySignal<T>): T {
  return usePicked(source, (value) => value);
}

/** The same for what is picked of a signal's value: draws again only when that changes. */
export function usePicked<T, P>(source: ReadonlySignal<T>, pick: (value: T) => P): P {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const drawn = pick(source.peek());
  const picks = useRef(pick);
  picks.current = pick;
  useLayoutEffect(() => {
    let last = drawn;
    return source.subscribe((value) => {
      const picked = picks.current(value);
      if (picked === last) return;
      last = picked;
      redraw(undefined);
    });
  }, [source]);
  return drawn;
}

/** What the cards of one view share. */
export interface ViewContext {
  readonly session: Session;
  readonly profile: string;
  /** The one run that this view shows; "": all of the conversation. */
  readonly run: string;
  /** What own kinds of rows are drawn with; null where there is no kernel that could say. */
  readonly renderers: Renderers | null;
  /** Sends a prompt as if it were typed, to the picked profile where none is named. */
  readonly send: (prompt: string, pictures?: readonly Picture[], to?: string) => void;
  /** Puts a text and its pictures into the composer, before what is there. */
  readonly edit: (prompt: string, pictures?: readonly Picture[]) => void;
  /** Scrolls to a row, which may have to be loaded first, and puts the focus on what it asks. */
  readonly show: (id: string) => void;
  /** What had the focus is done with: puts it where a person goes on, unless they have gone elsewhere. */
  readonly goOn: () => void;
}

/** Is this row, by its id, one of those that a view shows? */
export function shows({ run }: ViewContext, id: string): boolean {
  return run === "" || id === run || id.startsWith(`${run}:`);
}

export const View = createContext<ViewContext | null>(null);

export function useView(): ViewContext {
  const view = useContext(View);
  if (!view) throw new Error("a card was drawn outside of a view");
  return view;
}
