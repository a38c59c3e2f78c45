import type { Entity } from "../timeline/entities";
import type { Phase } from "../ws/wsManager";
import { whoAnswers } from "./EmptyState";
import { useSignalValue, useView } from "./hooks";

const STATES: Partial<Record<Phase, string>> = {
  connecting: "Connecting…",
  buffering: "Loading…",
  hydrating: "Loading…",
  replaying: "Loading…",
  reconnecting: "Reconnecting…",
  offline: "Offline – trying again…",
};

/** One quiet line: the connection only when it is not well, the model, the tokens of the last run. */
export function StatusBar() {
  const { session } = useView();
  const { phase } = useSignalValue(session.status);
  const slow = useSignalValue(session.slow);
  const health = useSignalValue(session.health);
  const runs = useSignalValue(session.runs);
  const usage = lastUsage(runs);
  const state = slow ?? STATES[phase];
  const place = session.transportName === "kernel" ? " · in this kernel" : "";
  return (
    <div class="wc-status" data-part="statusbar" role="status">
      {state && <span class="wc-connection">{state}</span>}
      {health && <span>{`${lastModel(runs) ?? whoAnswers(health)}${place}`}</span>}
      {usage && <span>{usage}</span>}
    </div>
  );
}

/** The model that answered last: another one than the server's where a widget or a prompt asked for it. */
function lastModel(runs: readonly Entity[]): string | null {
  const model = runs.findLast((run) => typeof run.props.model === "string")?.props.model;
  return typeof model === "string" ? model : null;
}

function lastUsage(runs: readonly Entity[]): string | null {
  for (let at = runs.length - 1; at >= 0; at -= 1) {
    const usage = runs[at]?.props.usage as Record<string, unknown> | undefined | null;
    if (typeof usage?.inputTokens !== "number" || typeof usage.outputTokens !== "number") continue;
    return `${usage.inputTokens.toLocaleString()} tokens in · ${usage.outputTokens.toLocaleString()} out`;
  }
  return null;
}
