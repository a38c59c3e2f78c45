import { questionOf } from "../cards/approval";
import type { Health } from "../http/replies";
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
  const { session, show } = useView();
  const { phase } = useSignalValue(session.status);
  const slow = useSignalValue(session.slow);
  const health = useSignalValue(session.health);
  const since = useSignalValue(session.since);
  const runs = useSignalValue(session.runs);
  const asking = useSignalValue(session.calls).filter((call) => questionOf(call) !== null);
  const usage = lastUsage(runs);
  const state = slow ?? STATES[phase];
  const place = session.transportName === "kernel" ? " · in this kernel" : "";
  return (
    <div class="wc-status" data-part="statusbar" role="status">
      {state && <span class="wc-connection">{state}</span>}
      {asking[0] && <Asking count={asking.length} onShow={() => show(asking[0]?.id ?? "")} />}
      {health && <span>{`${lastModel(health, runs, since) ?? whoAnswers(health)}${place}`}</span>}
      {usage && <span>{usage}</span>}
    </div>
  );
}

/** A run goes on only when a person has answered, and the question may have been scrolled away. */
function Asking({ count, onShow }: { count: number; onShow: () => void }) {
  return (
    <span class="wc-asking">
      Waiting for your answer{count > 1 && ` to ${count} questions`}
      <button type="button" class="wc-link" data-part="show-approval" onClick={onShow}>
        Show
      </button>
    </span>
  );
}

/**
 * The model of the newest answer, where it may tell more than the host's health: that of a run which began after
 * the health was asked for (a widget or a prompt may want another model than the host's); of any run where the
 * health knows no name yet. Earlier answers may be those of a model that is not there any more.
 */
function lastModel({ engine, model }: Health, runs: readonly Entity[], since: number): string | null {
  const nameless = engine === "openai" && model === null;
  const last = runs.findLast(
    (run) => run.props.status === "finished" && (nameless || (run.createdSeq ?? 0) > since),
  )?.props.model;
  return typeof last === "string" ? last : null;
}

function lastUsage(runs: readonly Entity[]): string | null {
  for (let at = runs.length - 1; at >= 0; at -= 1) {
    const usage = runs[at]?.props.usage as Record<string, unknown> | undefined | null;
    if (typeof usage?.inputTokens !== "number" || typeof usage.outputTokens !== "number") continue;
    return `${usage.inputTokens.toLocaleString()} tokens in · ${usage.outputTokens.toLocaleString()} out`;
  }
  return null;
}
