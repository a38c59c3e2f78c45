import type { Entity } from "../timeline/entities";
import { CopyButton } from "../view/CopyButton";
import { Markdown } from "../view/Markdown";
import { EndNote, str } from "./parts";

const ENDS: Record<string, string> = {
  truncated: "The reply reached its length limit and was cut here.",
  refused: "The model declined to answer this.",
  stopped: "Stopped.",
  interrupted: "The reply was interrupted. What had arrived is kept.",
  error: "The reply ended with an error.",
};

/** What the model said: Markdown, full width, and a calm note where it did not end well. */
export function MessageCard({ entity }: { entity: Entity }) {
  const { content, status, streaming } = entity.props;
  const text = str(content);
  const end = streaming !== true && Object.hasOwn(ENDS, str(status)) ? ENDS[str(status)] : undefined;
  return (
    <div class="wc-assistant">
      <div data-part="content" class={streaming ? "wc-growing" : undefined}>
        <Markdown text={text} streaming={streaming === true} />
      </div>
      {streaming !== true && (
        <div class="wc-tools">
          {end && <EndNote entity={entity}>{end}</EndNote>}
          {text !== "" && <CopyButton text={() => text} label="Copy message" />}
        </div>
      )}
    </div>
  );
}
