import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

interface Props {
  text: string;
  lines: number;
  chars: number;
  /** Draws what is shown of it. */
  children: (shown: string) => ComponentChildren;
}

/** A text of which the beginning is shown, and all of it at a click. */
export function LongText({ text, lines, chars, children }: Props) {
  const [all, setAll] = useState(false);
  const short = cut(text, lines, chars);
  return (
    <>
      {children(all ? text : short)}
      {short !== text && (
        <button type="button" class="wc-link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show less" : `Show all (${text.length.toLocaleString()} characters)`}
        </button>
      )}
    </>
  );
}

function cut(text: string, lines: number, chars: number): string {
  let end = -1;
  for (let line = 0; line < lines; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) break;
  }
  const at = Math.min(end < 0 ? text.length : end, chars);
  return at >= text.length ? text : `${text.slice(0, at)}…`;
}
