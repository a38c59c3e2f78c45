import type { ComponentChildren } from "preact";
import type { Entity } from "../timeline/entities";
import { useSignalValue, useView } from "../view/hooks";
import { Icon, type IconName } from "../view/icons";
import { readPictures } from "../view/pictures";

export function str(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** What an object holds; nothing where it is none. */
export function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
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

/** How a reply ended, where it did not end well, and Retry; nothing where the error card of its run says it. */
export function EndNote({ entity, children }: { entity: Entity; children: ComponentChildren }) {
  const errors = useSignalValue(useView().session.errors);
  const errorId = `${entity.id.split(":")[0]}:error`;
  const broken = entity.props.status === "interrupted" || entity.props.status === "error";
  if (broken && errors.some((error) => error.id === errorId)) return null;
  return (
    <>
      <Note icon={broken ? "alert" : "ban"}>{children}</Note>
      {broken && <RetryRun entity={entity} />}
    </>
  );
}

/** Sends the prompt of the run that a row belongs to once more, as a new prompt to the profile that it went to. */
export function RetryRun({ entity }: { entity: Entity }) {
  const { session, send, run } = useView();
  const runId = entity.id.split(":")[0] ?? "";
  const ran = () => session.store.get(runId)?.props;
  const asked = () => session.store.get(`${runId}:user`)?.props;
  const prompt = () => str(ran()?.prompt) || str(asked()?.content);
  const profile = () => ran() && (str(ran()?.profile) || "default");
  if (prompt() === "" || run !== "") return null;
  return (
    <button
      type="button"
      class="wc-button"
      data-part="retry-button"
      onClick={() => send(prompt(), readPictures(asked()?.images), profile())}
    >
      <Icon name="retry" /> Retry
    </button>
  );
}
