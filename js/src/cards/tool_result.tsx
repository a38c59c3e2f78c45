import { useMemo, useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { usePicked, useView } from "../view/hooks";
import { Markdown } from "../view/Markdown";
import { Picture } from "../view/Picture";
import { dataUrl, PICTURE_TYPES } from "../view/pictures";
import { saysWhyNot } from "./approval";
import { HtmlTable } from "./HtmlTable";
import { LongText } from "./LongText";
import { pretty, str } from "./parts";
import { type TableData, tablesIn } from "./tables";

/** What is drawn of a result: the richest of its forms that is safe. */
type Form =
  | { kind: "picture"; src: string }
  | { kind: "tables"; tables: TableData[] }
  | { kind: "markdown"; text: string }
  | { kind: "text"; text: string };

/**
 * What a tool gave back, close under its call. What the model was told is never further than a click, but for a call
 * that was not made or not ended: its card says so already, and one sentence about it is enough.
 */
export function ToolResultCard({ entity }: { entity: Entity }) {
  const { mime, error } = entity.props;
  const text = str(entity.props.result);
  const rich = useMemo(() => richest(mime), [mime]);
  const [undrawable, setUndrawable] = useState<Form | null>(null);
  const [asText, setAsText] = useState(false);
  const form = rich !== null && rich !== undrawable ? rich : null;
  const plain = form === null || (asText && text !== "");
  const caller = useCaller(entity);
  const callId = str(entity.props.toolCallId);
  const said = usePicked(useView().session.calls, (calls) =>
    calls.some((call) => call.id === callId && saysWhyNot(call)),
  );
  return (
    <div class={str(error) === "" ? "wc-result" : "wc-result wc-result-failed"} hidden={said}>
      {caller !== "" && (
        <div class="wc-label">
          Result of <code>{caller}</code>
        </div>
      )}
      {plain ? (
        <Text text={text} />
      ) : (
        <Rich form={form} alt={text} onUndrawable={() => setUndrawable(form)} />
      )}
      {form !== null && text !== "" && !(form.kind === "text" && form.text === text) && (
        <button
          type="button"
          class="wc-link wc-as-text"
          data-part="as-text"
          aria-pressed={asText}
          onClick={() => setAsText(!asText)}
        >
          {asText ? "As it looks" : "As text"}
        </button>
      )}
    </div>
  );
}

/** The name of the tool, where the row before is not its call: calls of one answer run side by side. */
function useCaller({ id, props }: Entity): string {
  const { store } = useView().session;
  return useMemo(() => {
    const rows = store.snapshot();
    const before = rows[rows.findIndex((row) => row.id === id) - 1];
    const call = store.get(str(props.toolCallId));
    return call === undefined || before?.id === call.id ? "" : str(call.props.name);
  }, [store, id, props.toolCallId]);
}

function Rich({ form, alt, onUndrawable }: { form: Form; alt: string; onUndrawable: () => void }) {
  switch (form.kind) {
    case "picture":
      return (
        <div data-part="content">
          <Picture src={form.src} alt={alt.slice(0, 200) || "Result of the tool"} onError={onUndrawable} />
        </div>
      );
    case "tables":
      return (
        <div data-part="content">
          {form.tables.map((table, at) => (
            <HtmlTable key={at} table={table} />
          ))}
        </div>
      );
    case "markdown":
      return (
        <div class="wc-document" data-part="content">
          <Markdown text={form.text} />
        </div>
      );
    case "text":
      return <Text text={form.text} />;
  }
}

function Text({ text }: { text: string }) {
  return (
    <LongText text={text} lines={12} chars={1200}>
      {(shown) => (
        <pre class="wc-box" data-part="content">
          {shown}
        </pre>
      )}
    </LongText>
  );
}

/** HTML is never drawn: a table in it is read and made anew, the rest of it is left out. */
function richest(mime: unknown): Form | null {
  if (typeof mime !== "object" || mime === null) return null;
  const bundle = mime as Record<string, unknown>;
  for (const type of PICTURE_TYPES) {
    const src = dataUrl(type, bundle[type]);
    if (src) return { kind: "picture", src };
  }
  const svg = str(bundle["image/svg+xml"]);
  // as an image it runs nothing and fetches nothing
  if (svg !== "")
    return {
      kind: "picture",
      src: `data:image/svg+xml,${encodeURIComponent(svg.replace(/\p{Surrogate}/gu, ""))}`,
    };
  const tables = tablesIn(str(bundle["text/html"]));
  if (tables.length > 0) return { kind: "tables", tables };
  const markdown = str(bundle["text/markdown"]);
  if (markdown !== "") return { kind: "markdown", text: markdown };
  const json = bundle["application/json"];
  return json === undefined || json === null ? null : { kind: "text", text: pretty(json) };
}
