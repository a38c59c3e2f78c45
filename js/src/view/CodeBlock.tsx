import type { ComponentChild } from "preact";
import { useMemo } from "preact/hooks";
import { type Highlighted, highlight } from "../markdown/highlight";
import { CopyButton } from "./CopyButton";

/** While a block grows, colours are worth their time only as long as it is short. */
const GROWING_LIMIT = 2_000;

export function CodeBlock({
  code,
  language,
  growing = false,
}: {
  code: string;
  language: string;
  growing?: boolean;
}) {
  const name = /^[^\s{,:]*/.exec(language)?.[0] ?? "";
  const plain = growing && code.length > GROWING_LIMIT;
  const runs = useMemo(
    () => (plain || name === "" ? null : highlight(code, name.toLowerCase())),
    [code, name, plain],
  );
  return (
    <div class="wc-code">
      <div class="wc-code-head">
        <span class="wc-code-lang">{name.slice(0, 40) || "text"}</span>
        <CopyButton text={() => code} label="Copy code" />
      </div>
      <pre tabIndex={0}>
        <code>{runs ? runs.map(run) : code}</code>
      </pre>
    </div>
  );
}

function run(part: Highlighted, key: number): ComponentChild {
  if (typeof part === "string") return part;
  return (
    <span key={key} class={scopeClass(part.scope)}>
      {part.children.map(run)}
    </span>
  );
}

/** `title.function` → `wc-h-title wc-h-function`; a scope names nothing but letters. */
function scopeClass(scope: string): string {
  return scope
    .split(".")
    .map((word) => `wc-h-${word.replace(/[^a-z_-]/gi, "")}`)
    .join(" ");
}
