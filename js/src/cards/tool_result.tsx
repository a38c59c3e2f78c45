import { useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { str } from "./parts";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LINES = 12;
const CHARS = 1200;

/** What a tool gave back, close under its call. Long text is folded. */
export function ToolResultCard({ entity }: { entity: Entity }) {
  const [all, setAll] = useState(false);
  const text = str(entity.props.result);
  const short = fold(text);
  const failed = str(entity.props.error) !== "";
  const image = picture(entity.props.mime);
  return (
    <div class={failed ? "wc-result wc-result-failed" : "wc-result"}>
      {image && <img class="wc-image" src={image} alt={text.slice(0, 200) || "Result of the tool"} />}
      <pre class="wc-box" data-part="content">
        {all ? text : short}
      </pre>
      {short !== text && (
        <button type="button" class="wc-link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show less" : `Show all (${text.length.toLocaleString()} characters)`}
        </button>
      )}
    </div>
  );
}

function fold(text: string): string {
  let end = -1;
  for (let line = 0; line < LINES; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) break;
  }
  const cut = Math.min(end < 0 ? text.length : end, CHARS);
  return cut >= text.length ? text : `${text.slice(0, cut)}…`;
}

/** An image of the bundle, from its own bytes: nothing is fetched. */
function picture(mime: unknown): string | null {
  if (typeof mime !== "object" || mime === null) return null;
  for (const type of IMAGES) {
    const data = (mime as Record<string, unknown>)[type];
    if (typeof data !== "string") continue;
    const bytes = data.replace(/\s/g, "");
    if (/^[A-Za-z0-9+/]+={0,2}$/.test(bytes)) return `data:${type};base64,${bytes}`;
  }
  return null;
}
