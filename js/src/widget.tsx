import { render } from "preact";
import { newKey } from "./ids";
import { lendInNotebook, lendKernel } from "./lend";
import { Renderers } from "./renderers/renderers";
import type { Lease } from "./session/registry";
import type { Session } from "./session/session";
import type { Wire } from "./transport/line";
import { ChatWidget } from "./view/ChatWidget";

/** What this module needs of an anywidget model: names to read and to set, changes to hear, and its comm. */
interface Model extends Wire {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
}

interface RenderProps {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
}

const TRAITS = ["conv_id", "profile", "height", "_where", "_channel", "_run"] as const;

/**
 * The comms of this page's widgets, by channel. A view's own model stops listening when that view goes, and the
 * views of a widget share one session: it listens with the model that was there before any view.
 */
const wires = new Map<string, Connected>();

/** A widget's comm, and what its kernel wants own kinds of rows to be drawn with. */
interface Connected {
  readonly wire: Wire;
  readonly renderers: Renderers;
}

function connected(wire: Wire): Connected {
  return { wire, renderers: new Renderers(wire) };
}

function initialize({ model }: { model: Model }): () => void {
  const channel = trait(model, "_channel");
  const mine = connected(model);
  wires.set(channel, mine);
  return () => {
    mine.renderers.close();
    if (wires.get(channel) === mine) wires.delete(channel);
  };
}

/**
 * Draws a chat into a cell. Returns how to take it away again: the view leaves, and with the last view of a
 * conversation its connection.
 */
function renderWidget({ model, el, signal }: RenderProps): () => void {
  let lease: Lease<Session> | null = null;
  let leased = "";
  const fallback = newKey();
  const shared = wires.get(trait(model, "_channel"));
  const { wire, renderers } = shared ?? connected(model);
  const pick = (slug: string) => {
    model.set("profile", slug); // which draws
    try {
      model.save_changes();
    } catch {
      // the kernel is gone; a chat on the server goes on without it
    }
  };
  const draw = () => {
    const convId = trait(model, "conv_id") || fallback;
    const channel = trait(model, "_where") === "kernel" ? trait(model, "_channel") : "";
    if (lease === null || leased !== `${channel} ${convId}`) {
      const former = lease;
      leased = `${channel} ${convId}`;
      lease = channel === "" ? lendInNotebook(convId) : lendKernel(wire, channel, convId);
      if (former?.value.convId === convId) lease.value.inherit(former.value);
      former?.release();
    }
    render(
      <ChatWidget
        key={convId}
        session={lease.value}
        profile={trait(model, "profile") || "default"}
        onProfile={pick}
        run={trait(model, "_run")}
        renderers={renderers}
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
    if (!shared) renderers.close();
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

export default { initialize, render: renderWidget };
