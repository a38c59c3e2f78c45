import type { Entity } from "../timeline/entities";
import { Fold } from "./Fold";
import { str } from "./parts";

/** The model's thinking: one line that opens. */
export function ThinkingCard({ entity }: { entity: Entity }) {
  const { content, streaming } = entity.props;
  return <Fold headline={headline(entity)} live={streaming === true} text={str(content)} />;
}

function headline(entity: Entity): string {
  const { streaming, status } = entity.props;
  if (streaming === true) return "Thinking…";
  if (status === "stopped" || status === "interrupted") return "Thinking was cut short";
  const time = took(entity);
  return time === null ? "Thought for a moment" : `Thought for ${time}`;
}

/** From a row's first word to its last; null for less than a second. */
export function took({ createdAt, updatedAt }: Entity): string | null {
  const seconds = Math.round(((updatedAt ?? 0) - (createdAt ?? 0)) / 1000);
  if (!Number.isFinite(seconds) || seconds < 1) return null;
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
