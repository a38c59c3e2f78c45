import type { Entity } from "../timeline/entities";
import { pretty } from "./parts";

/** A row of a kind that this page does not know: its name, and its props as they are. */
export function GenericCard({ entity }: { entity: Entity }) {
  const entries = Object.entries(entity.props);
  return (
    <div class="wc-generic">
      <div class="wc-label">{entity.kind.replace(/[_-]+/g, " ")}</div>
      <dl data-part="content">
        {entries.map(([key, value]) => (
          <div key={key}>
            <dt>{key}</dt>
            <dd>{pretty(value).slice(0, 4000)}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
