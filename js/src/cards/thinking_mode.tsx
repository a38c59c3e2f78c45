import type { Entity } from "../timeline/entities";
import { Fold } from "./Fold";
import { Note, str } from "./parts";
import { took } from "./thinking";

/** A phase of a mode of thinking: one line that opens, and a note where it was cut. */
export function ThinkingModeCard({ entity }: { entity: Entity }) {
  const { mode, phase, reasoning, status, error } = entity.props;
  const live = status === "active";
  const name = str(phase) || str(mode);
  const time = took(entity);
  const headline = live
    ? `Thinking: ${name}…${str(mode) === name ? "" : ` (${str(mode)})`}`
    : `Thought: ${name}${time === null ? "" : ` · ${time}`}`;
  return (
    <Fold headline={headline} live={live} text={str(reasoning)}>
      {status === "error" && <Note icon="ban">{str(error) || "This was cut short."}</Note>}
    </Fold>
  );
}
