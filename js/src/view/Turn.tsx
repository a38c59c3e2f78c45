import { Component, type ComponentChildren } from "preact";
import { cardOf, roleOf } from "../cards/cards";
import type { Entity } from "../timeline/entities";
import type { Row } from "../timeline/store";
import { useSignalValue } from "./hooks";

/** One row of the timeline: it alone draws again when it alone changes. */
export class TurnRow extends Component<{ row: Row }> {
  override shouldComponentUpdate(next: { row: Row }): boolean {
    return next.row !== this.props.row;
  }
  override render({ row }: { row: Row }): ComponentChildren {
    return <Live row={row} />;
  }
}

function Live({ row }: { row: Row }) {
  return <Turn entity={useSignalValue(row.entity)} />;
}

export function Turn({ entity }: { entity: Entity }) {
  if (entity.kind === "run") return null;
  const Card = cardOf(entity);
  return (
    <div
      class="wc-turn"
      data-part="turn"
      data-id={entity.id}
      data-kind={entity.kind}
      data-role={roleOf(entity)}
      data-status={statusOf(entity)}
      data-streaming={entity.props.streaming === true ? "true" : "false"}
      aria-busy={entity.props.streaming === true}
    >
      <Card entity={entity} />
    </div>
  );
}

function statusOf(entity: Entity): string {
  const { status } = entity.props;
  return typeof status === "string" ? status : "complete";
}
