import type { Entity } from "../timeline/entities";
import { pretty, str } from "./parts";

export function LogCard({ entity }: { entity: Entity }) {
  const { level, message, fields } = entity.props;
  const entries = typeof fields === "object" && fields !== null ? Object.entries(fields) : [];
  return (
    <div class={`wc-log wc-log-${str(level).replace(/[^a-z]/gi, "") || "info"}`}>
      <span class="wc-label">{str(level) || "log"}</span> <span data-part="content">{str(message)}</span>
      {entries.map(([key, value]) => (
        <span key={key} class="wc-muted">
          {" "}
          {key}={pretty(value).slice(0, 200)}
        </span>
      ))}
    </div>
  );
}
