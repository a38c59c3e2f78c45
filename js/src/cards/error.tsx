import type { Entity } from "../timeline/entities";
import { Icon } from "../view/icons";
import { Note, RetryRun, str } from "./parts";

/** What went wrong, in a sentence, and the way to try again where there is one. One's own Stop is no alarm. */
export function ErrorCard({ entity }: { entity: Entity }) {
  const { message, code, retryable } = entity.props;
  if (code === "stopped") {
    return (
      <div data-part="content">
        <Note icon="ban">{str(message)}</Note>
      </div>
    );
  }
  return (
    <div class="wc-error" role="alert" title={str(code)}>
      <Icon name="alert" />
      <div>
        <div data-part="content">{str(message) || "Something went wrong."}</div>
        {retryable === true && (
          <div class="wc-actions">
            <RetryRun entity={entity} />
          </div>
        )}
      </div>
    </div>
  );
}
