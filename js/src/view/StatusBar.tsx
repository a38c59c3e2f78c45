import { questionOf } from "../cards/approval";
import type { Health } from "../http/replies";
import { type Entity, isTerminal } from "../timeline/entities";
import type { Phase } from "../ws/wsManager";
import { whoAnswers } from "./EmptyState";
import { shows, useSignalValue, useView } from "./hooks";

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
  const view = useView();
  const { session } = view;
  const { phase } = useSignalValue(session.status);
  const slow = useSignalValue(session.slow);
  const health = useSignalValue(session.health);
  const since = useSignalValue(session.since);
  const profiles = useSignalValue(session.profiles);
  const runs = useSignalValue(session.runs).filter(({ id }) => shows(view, id));
  const usage = lastUsage(runs);
  const waiting = runs.filter(({ props }) => props.status === "queued").length;
  const state = slow ?? STATES[phase];
  const place = session.transportName === "kernel" ? " · in this kernel" : "";
  const profile = lastProfile(runs, since);
  const by = profile === null ? "" : ` · ${profiles.find(({ slug }) => slug === profile)?.name ?? profile}`;
  return (
    <div class="wc-status" data-part="statusbar" role="status">
      {state && <span class="wc-connection">{state}</span>}
      <Open />
      {waiting > 0 && (
        <span class="wc-queue" data-part="queue">
          {waiting === 1 ? "1 prompt waiting" : `${waiting} prompts waiting`}
        </span>
      )}
      {health && <span>{`${lastModel(health, runs, since) ?? whoAnswers(health)}${by}${place}`}</span>}
      {usage && <span>{usage}</span>}
      {health?.notices.map((notice) => (
        <span key={notice} class="wc-notice" data-part="host-notice">
          {notice}
        </span>
      ))}
    </div>
  );
}

/** A run goes on only when a person has acted, and what it waits for may have been scrolled away. */
function Open() {
  const view = useView();
  const { session, show } = view;
  const mine = ({ id }: Entity) => shows(view, id);
  const asking = useSignalValue(session.calls).filter((call) => mine(call) && questionOf(call) !== null);
  const paused = useSignalValue(session.pauses).filter(
    (row) => mine(row) && !isTerminal(row.kind, row.props),
  );
  const [first] = [...asking, ...paused];
  if (first === undefined) return null;
  const more = asking.length > 1 ? ` to ${asking.length} questions` : "";
  return (
    <span class="wc-asking">
      {asking.length > 0 ? `Waiting for your answer${more}` : "Paused"}
      <button
        type="button"
        class="wc-link"
        data-part={asking.length > 0 ? "show-approval" : "show-pause"}
        onClick={() => show(first.id)}
      >
        Show
      </button>
    </span>
  );
}

/** The profile of the newest run of this connection; a run of the default one names none. */
function lastProfile(runs: readonly Entity[], since: number): string | null {
  const last = runs.findLast(({ props }) => props.status !== "queued");
  const profile = last?.props.profile;
  if (last === undefined || typeof profile !== "string") return null;
  return last.props.status === "started" || (last.createdSeq ?? 0) > since ? profile : null;
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
