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
      <Fields texts={entries.map(([key, value]) => `${key}=${pretty(value).slice(0, 200)}`)} />
    </div>
  );
}

/** In the same line where they are few, else behind a click: the message has said the main thing. */
function Fields({ texts }: { texts: readonly string[] }) {
  const line = texts.join(" ");
  if (line.length <= 60) return <span class="wc-muted"> {line}</span>;
  return (
    <details class="wc-details">
      <summary>{texts.length === 1 ? "1 field" : `${texts.length} fields`}</summary>
      <p>{texts.join("\n")}</p>
    </details>
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
