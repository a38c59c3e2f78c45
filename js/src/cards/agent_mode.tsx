import type { Entity } from "../timeline/entities";
import { Icon } from "../view/icons";
import { fieldsOf, str } from "./parts";

/** In which mode the agent works from here on, where it comes from, and why. */
export function AgentModeCard({ entity }: { entity: Entity }) {
  const { from, to, reason } = fieldsOf(entity.props.data);
  const way = str(from) !== "" && str(to) !== "" ? `${str(from)} → ${str(to)}` : "";
  const about = [way, str(reason)].filter((each) => each !== "").join(" · ");
  return (
    <div class="wc-line" data-part="content">
      <Icon name="mode" />
      <span>
        Mode: <strong>{str(entity.props.title) || str(to)}</strong>
        {about !== "" && <span class="wc-muted"> {about}</span>}
      </span>
    </div>
  );
}
