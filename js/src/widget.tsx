import { render } from "preact";
import { lend } from "./lend";
import { newKey } from "./session/outbox";
import { ChatWidget } from "./view/ChatWidget";

/** What this module needs of an anywidget model: a name to read and a change to hear. */
interface Model {
  get(name: string): unknown;
  on(event: string, listener: () => void): void;
  off(event: string, listener: () => void): void;
}

interface RenderProps {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
}

const TRAITS = ["conv_id", "profile", "height"] as const;

/**
 * Draws a chat into a cell. Returns how to take it away again: the view leaves, and with the last view of a
 * conversation its connection.
 */
function renderWidget({ model, el, signal }: RenderProps): () => void {
  let lease: ReturnType<typeof lend> | null = null;
  const fallback = newKey();
  const draw = () => {
    const convId = trait(model, "conv_id") || fallback;
    const profile = trait(model, "profile") || "default";
    if (lease?.value.convId !== convId) {
      const old = lease;
      lease = lend(convId, profile);
      old?.release();
    }
    render(
      <ChatWidget
        key={convId}
        session={lease.value}
        profile={profile}
        height={cssLength(trait(model, "height"))}
      />,
      el,
    );
  };
  const close = () => {
    for (const name of TRAITS) model.off(`change:${name}`, draw);
    signal?.removeEventListener("abort", close);
    render(null, el);
    lease?.release();
    lease = null;
  };
  draw();
  for (const name of TRAITS) model.on(`change:${name}`, draw);
  signal?.addEventListener("abort", close);
  return close;
}

function trait(model: Model, name: string): string {
  const value = model.get(name);
  return typeof value === "string" ? value : "";
}

function cssLength(value: string): string {
  return value !== "" && CSS.supports("height", value) ? value : "";
}

export default { render: renderWidget };
