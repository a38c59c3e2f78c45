/** Formulas in Markdown: `$…$`, `\(…\)` in a line, `$$…$$`, `\[…\]` displayed. */
export interface MathToken {
  type: "math";
  raw: string;
  text: string;
  display: boolean;
}

// no blank line inside, and no end of the text searched for without end
const BODY = String.raw`((?:[^\n]|\n(?![ \t]*\n)){1,2000}?)`;
const BLOCK = new RegExp(String.raw`^ {0,3}(?:\$\$${BODY}\$\$|\\\[${BODY}\\\])[ \t]*(?:\n|$)`);
const SHOWN = new RegExp(String.raw`^(?:\$\$${BODY}\$\$|\\\[${BODY}\\\])`);
const ROUND = new RegExp(String.raw`^\\\(${BODY}\\\)`);
// As pandoc has it: no space inside the dollars, no digit after them
const DOLLAR = /^\$(?![\s$])((?:\\[^\n]|[^\\\n$]){1,1000}?)(?<!\s)\$(?![\d$])/;
/** “5 dollars, or US” between two dollar signs is prose about money. */
const MONEY = /^\d[\d.,]*(?:[kKmMbB]n?)?[)\].,;:!?]*\s+[^\\^_={}]*[A-Za-z]{2}[^\\^_={}]*$/;

export function blockMath(src: string): MathToken | undefined {
  return token(BLOCK.exec(src), true);
}

export function inlineMath(src: string): MathToken | undefined {
  if (src.startsWith("$$") || src.startsWith("\\[")) return token(SHOWN.exec(src), true);
  if (src.startsWith("\\(")) return token(ROUND.exec(src), false);
  if (!src.startsWith("$")) return undefined;
  const found = DOLLAR.exec(src);
  return found && MONEY.test(found[1] as string) ? undefined : token(found, false);
}

/** Hides formulas from the search for `*` and `_`. Keeps the length. */
export function maskMath(src: string): string {
  if (!/\$|\\[([]/.test(src)) return src;
  let masked = "";
  for (let at = 0; at < src.length; ) {
    const char = src[at];
    const found = char === "$" || char === "\\" ? inlineMath(src.slice(at)) : undefined;
    if (found) masked += "a".repeat(found.raw.length);
    else masked += char === "\\" ? src.slice(at, at + 2) : char;
    at += found ? found.raw.length : char === "\\" ? 2 : 1;
  }
  return masked.slice(0, src.length);
}

function token(found: RegExpExecArray | null, display: boolean): MathToken | undefined {
  const text = (found?.[1] ?? found?.[2])?.trim();
  if (!found || !text) return undefined;
  return { type: "math", raw: found[0], text, display };
}
