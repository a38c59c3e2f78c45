import type { ComponentChildren } from "preact";
import type { Entity } from "../timeline/entities";
import { useSignalValue, useView } from "../view/hooks";
import { Icon, type IconName } from "../view/icons";

export function str(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Anything as a text that a person can read. */
export function pretty(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === undefined) return "";
  try {
    return JSON.stringify(value, null, 2) ?? "";
  } catch {
    return String(value);
  }
}

/** A small calm line under a card. */
export function Note({ icon, children }: { icon?: IconName; children: ComponentChildren }) {
  return (
    <div class="wc-note" data-part="notice">
      {icon && <Icon name={icon} />}
      <span>{children}</span>
    </div>
  );
}

/** Retry for a reply that did not end well, unless the error card of its run has it. */
export function RetryReply({ entity }: { entity: Entity }) {
  const errors = useSignalValue(useView().session.errors);
  const errorId = `${entity.id.split(":")[0]}:error`;
  if (errors.some((error) => error.id === errorId && error.props.retryable === true)) return null;
  return <RetryRun entity={entity} />;
}

/** Sends the prompt of the run that a row belongs to once more, as a new prompt. */
export function RetryRun({ entity }: { entity: Entity }) {
  const { session, send } = useView();
  const runId = entity.id.split(":")[0] ?? "";
  const prompt = () => {
    const { store } = session;
    return str(store.get(runId)?.props.prompt) || str(store.get(`${runId}:user`)?.props.content);
  };
  if (prompt() === "") return null;
  return (
    <button type="button" class="wc-button" data-part="retry-button" onClick={() => send(prompt())}>
      <Icon name="retry" /> Retry
    </button>
  );
}
