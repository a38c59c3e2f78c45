import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "../view/icons";
import { Markdown } from "../view/Markdown";

interface Props {
  headline: string;
  /** More of it is coming. */
  live: boolean;
  text: string;
  children?: ComponentChildren;
}

/** Thoughts, behind one line that opens. */
export function Fold({ headline, live, text, children }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <div class="wc-fold" data-open={open}>
      <button type="button" class="wc-fold-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="chevron" />
        <span class={live ? "wc-live" : undefined}>{headline}</span>
      </button>
      {children}
      <div class="wc-fold-body wc-thought" data-part="thinking-text" hidden={!open}>
        <div data-part="content">{open ? <Markdown text={text} streaming={live} /> : text}</div>
      </div>
    </div>
  );
}
