import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { draw, type Render } from "../renderers/draw";
import type { Renderers } from "../renderers/renderers";
import type { Entity } from "../timeline/entities";
import { useSignalValue, useView } from "../view/hooks";
import { GenericCard } from "./generic";
import { Note } from "./parts";

/** A row of somebody's own kind: drawn by what they registered for it, else as any unknown one. */
export function OwnCard({ entity }: { entity: Entity }) {
  const { renderers } = useView();
  return renderers ? <Registered entity={entity} renderers={renderers} /> : <GenericCard entity={entity} />;
}

function Registered({ entity, renderers }: { entity: Entity; renderers: Renderers }) {
  const renderer = useSignalValue(renderers.of(entity.kind));
  if (renderer === null) return <GenericCard entity={entity} />;
  if ("problem" in renderer) return <Undrawn entity={entity} why={renderer.problem} />;
  return <Drawn entity={entity} render={renderer.render} />;
}

function Undrawn({ entity, why }: { entity: Entity; why: string }) {
  return (
    <>
      <GenericCard entity={entity} />
      <Note icon="alert">Its renderer did not work. {why}</Note>
    </>
  );
}

interface Props {
  entity: Entity;
  render: Render;
}

/** A state that could not be drawn is shown as any unknown row; the next one is tried again. */
function Drawn({ entity, render }: Props) {
  const [failed, setFailed] = useState<(Props & { why: string }) | null>(null);
  if (failed?.entity === entity && failed.render === render) {
    return <Undrawn entity={entity} why={failed.why} />;
  }
  return <Stage entity={entity} render={render} onError={(why) => setFailed({ entity, render, why })} />;
}

/** A shadow root, so that styles of a renderer stay inside. */
function Stage({ entity, render, onError }: Props & { onError: (why: string) => void }) {
  const host = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const root = host.current?.shadowRoot ?? host.current?.attachShadow({ mode: "open" });
    return root && draw(render, entity, root, onError);
  }, [entity, render]);
  return <div ref={host} class="wc-own" data-part="content" />;
}
