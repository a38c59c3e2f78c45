import { useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { Icon } from "../view/icons";
import { Markdown } from "../view/Markdown";
import { str } from "./parts";

/** The model's thinking: one line that opens. */
export function ThinkingCard({ entity }: { entity: Entity }) {
  const { content, streaming } = entity.props;
  const [open, setOpen] = useState(false);
  return (
    <div class="wc-fold" data-open={open}>
      <button type="button" class="wc-fold-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="chevron" />
        <span class={streaming === true ? "wc-live" : undefined}>{headline(entity)}</span>
      </button>
      <div class="wc-fold-body wc-thought" data-part="thinking-text" hidden={!open}>
        <div data-part="content">
          {open ? <Markdown text={str(content)} streaming={streaming === true} /> : str(content)}
        </div>
      </div>
    </div>
  );
}

function headline({ props, createdAt, updatedAt }: Entity): string {
  if (props.streaming === true) return "Thinking…";
  if (props.status === "stopped" || props.status === "interrupted") return "Thinking was cut short";
  const seconds = Math.round(((updatedAt ?? 0) - (createdAt ?? 0)) / 1000);
  if (!Number.isFinite(seconds) || seconds < 1) return "Thought for a moment";
  return seconds < 90 ? `Thought for ${seconds} s` : `Thought for ${Math.round(seconds / 60)} min`;
}
