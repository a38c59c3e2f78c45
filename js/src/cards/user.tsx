import { useMemo, useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { useView } from "../view/hooks";
import { Icon } from "../view/icons";
import { Picture } from "../view/Picture";
import { addressOf, readPictures } from "../view/pictures";
import { str } from "./parts";

/** What a person wrote: as it was typed, no Markdown. Also while it is on its way, in the queue, or failed. */
export function UserCard({ entity }: { entity: Entity }) {
  const { session, edit, goOn } = useView();
  const [removing, setRemoving] = useState(false);
  const remove = async (run: string) => {
    setRemoving(true);
    await session.withdraw(run);
    setRemoving(false); // it is still there only where that did not work
    goOn();
  };
  const { content, images, status, error, queuePosition, runId } = entity.props;
  const pictures = useMemo(() => readPictures(images), [images]);
  const local = entity.props.local === true;
  return (
    <div class="wc-user">
      {pictures.length > 0 && (
        <div class="wc-pictures" data-part="pictures">
          {pictures.map((picture, at) => (
            <Picture key={at} class="wc-thumbnail" src={addressOf(picture)} alt={picture.name || "Picture"} />
          ))}
        </div>
      )}
      <div class="wc-bubble" data-part="bubble">
        <div data-part="content">{str(content)}</div>
      </div>
      {status === "queued" && (
        <div class="wc-note" data-part="notice">
          <Icon name="clock" />
          <span>{queued(queuePosition)}</span>
          {typeof runId === "string" && (
            <button
              type="button"
              class="wc-link"
              data-part="remove-prompt"
              title="Take this prompt out of the queue"
              disabled={removing}
              onClick={() => void remove(runId)}
            >
              Remove
            </button>
          )}
        </div>
      )}
      {local && status === "failed" && (
        <div class="wc-note wc-bad" data-part="notice" role="alert">
          <Icon name="alert" />
          <span>Not sent. {str(error)}</span>
          <span class="wc-actions">
            <button
              type="button"
              class="wc-button"
              data-part="retry-button"
              onClick={() => session.outbox.retry(entity.id)}
            >
              <Icon name="retry" /> Retry
            </button>
            <button
              type="button"
              class="wc-link"
              onClick={() => {
                edit(str(content), pictures);
                session.outbox.discard(entity.id);
              }}
            >
              Edit
            </button>
          </span>
        </div>
      )}
    </div>
  );
}

function queued(position: unknown): string {
  if (typeof position !== "number" || position < 1) return "Queued";
  return position === 1 ? "Queued – next in line" : `Queued – number ${position} in line`;
}
