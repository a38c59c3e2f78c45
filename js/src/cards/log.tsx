import type { Entity } from "../timeline/entities";
import { useSecondsUntil } from "../view/clock";
import { useSignalValue, useView } from "../view/hooks";
import { pretty, str } from "./parts";

export function LogCard({ entity }: { entity: Entity }) {
  const { level, message, fields } = entity.props;
  const entries = typeof fields === "object" && fields !== null ? Object.entries(fields) : [];
  const retryAt = entries.find(([key]) => key === "retryAt")?.[1];
  if (typeof retryAt === "number" && Number.isFinite(retryAt)) {
    return (
      <div class="wc-log">
        <span data-part="content">{str(message)}</span>
        <Countdown until={retryAt} run={entity.id.split(":")[0] ?? ""} />
      </div>
    );
  }
  return (
    <div class={`wc-log wc-log-${str(level).replace(/[^a-z]/gi, "") || "info"}`}>
      <span class="wc-label">{str(level) || "log"}</span> <span data-part="content">{str(message)}</span>
      {entries.map(([key, value]) => (
        <span key={key} class="wc-muted">
          {" "}
          {key}={pretty(value).slice(0, 200)}
        </span>
      ))}
    </div>
  );
}

/** What went wrong is being mended: when, as long as the run that waits for it goes on. */
function Countdown({ until, run }: { until: number; run: string }) {
  const runs = useSignalValue(useView().session.runs);
  const seconds = useSecondsUntil(until);
  if (seconds === null || !runs.some(({ id, props }) => id === run && props.status === "started"))
    return null;
  return (
    <span class="wc-countdown" role="timer" aria-live="off">
      {" "}
      Asking again in {seconds} s
    </span>
  );
}
