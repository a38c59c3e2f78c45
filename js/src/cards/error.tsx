import type { Entity } from "../timeline/entities";
import { usePicked, useView } from "../view/hooks";
import { Icon } from "../view/icons";
import { Note, RetryRun, str } from "./parts";

/** What went wrong, in a sentence, and the way to try again where there is one. One's own Stop is no alarm. */
export function ErrorCard({ entity }: { entity: Entity }) {
  const { message, code, retryable } = entity.props;
  if (code === "stopped") return <Stopped entity={entity} />;
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

/** Where the stop has cancelled a tool's call, its card says so. */
function Stopped({ entity }: { entity: Entity }) {
  const run = `${entity.id.split(":")[0]}:`;
  const said = usePicked(useView().session.calls, (calls) =>
    calls.some(({ id, props }) => id.startsWith(run) && props.status === "cancelled"),
  );
  return (
    <div data-part="content" hidden={said}>
      <Note icon="ban">{str(entity.props.message)}</Note>
    </div>
  );
}
