import type { Token } from "marked";
import { Component, type ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { MarkdownDocument } from "../markdown/document";
import { Blocks } from "./blocks";

/**
 * Markdown as elements, never as HTML text. While the text grows only its last segment is read and drawn again.
 */
export function Markdown({ text, streaming = false }: { text: string; streaming?: boolean }) {
  const document = useMemo(() => new MarkdownDocument(), []);
  const segments = document.update(text);
  return (
    <div class="wc-md">
      {segments.map((tokens, at) => (
        <Segment key={at} tokens={tokens} growing={streaming && at === segments.length - 1} />
      ))}
    </div>
  );
}

interface SegmentProps {
  tokens: readonly Token[];
  /** Its last block may still change. */
  growing: boolean;
}

class Segment extends Component<SegmentProps> {
  override shouldComponentUpdate(next: SegmentProps): boolean {
    return next.tokens !== this.props.tokens || next.growing !== this.props.growing;
  }
  override render({ tokens, growing }: SegmentProps): ComponentChildren {
    return <Blocks tokens={tokens} growing={growing} />;
  }
}
