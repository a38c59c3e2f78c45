import type { Entity } from "../timeline/entities";
import { Icon } from "../view/icons";
import { RetryRun, str } from "./parts";

/** What went wrong, in a sentence, and the way to try again where there is one. */
export function ErrorCard({ entity }: { entity: Entity }) {
  const { message, code, retryable } = entity.props;
  return (
    <div class="wc-error" role="alert">
      <Icon name="alert" />
      <div>
        <div data-part="content">{str(message) || "Something went wrong."}</div>
        <div class="wc-actions">
          {retryable === true && <RetryRun entity={entity} />}
          {str(code) !== "" && <span class="wc-muted wc-small">{str(code)}</span>}
        </div>
      </div>
    </div>
  );
}
