import type { Entity } from "../timeline/entities";
import { LongText } from "./LongText";
import { pretty } from "./parts";

const INLINE = 80;

/** A row of a kind that this page knows nothing of: its name, and its props as they are. */
export function GenericCard({ entity }: { entity: Entity }) {
  const entries = Object.entries(entity.props);
  return (
    <div class="wc-generic">
      <div class="wc-label">{named(entity.kind)}</div>
      <dl data-part="content">
        {entries.map(([key, value]) => (
          <div key={key}>
            <dt>{named(key)}</dt>
            <dd>
              <Value value={value} />
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

/** Texts and numbers as they are; what has parts on a line where it is short, else behind one. */
function Value({ value }: { value: unknown }) {
  if (value === null || value === undefined || value === "") return <span class="wc-muted">–</span>;
  if (typeof value !== "object") {
    return (
      <LongText text={pretty(value)} lines={6} chars={600}>
        {(shown) => shown}
      </LongText>
    );
  }
  const line = pretty(value).replace(/\n\s*/g, " "); // no line break in it but those of its layout
  if (line.length <= INLINE) return <code>{line}</code>;
  return (
    <details class="wc-details">
      <summary>{size(value)}</summary>
      <pre class="wc-box">{pretty(value).slice(0, 20_000)}</pre>
    </details>
  );
}

function size(value: object): string {
  const count = Object.keys(value).length;
  const what = Array.isArray(value) ? "entry" : "field";
  return count === 1 ? `1 ${what}` : `${count.toLocaleString()} ${what.replace(/y$/, "ie")}s`;
}

/** `air_pressure` and `airPressure` as words. */
function named(name: string): string {
  const parts = name.replace(
    /([a-z0-9])([A-Z])(?![A-Z])/g,
    (_, end, start) => `${end} ${start.toLowerCase()}`,
  );
  return parts.replace(/[_-]+/g, " ");
}
