import { useId } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { useSecondsUntil } from "../view/clock";
import { useView } from "../view/hooks";
import { Icon } from "../view/icons";
import { str } from "./parts";
import { useAnswer } from "./useAnswer";

const PHASES: Record<string, string> = {
  after_inference: "after the answer",
  after_tools: "after the tools",
};
const ENDS: Record<string, string> = {
  continued: "continued",
  expired: "went on by itself",
  cancelled: "cancelled",
};

/**
 * A run that waits for a person to look at it, and the way to let it go on. Like a question it takes no focus by
 * itself: Enter in the composer must not become a click.
 */
export function PauseCard({ entity }: { entity: Entity }) {
  const { phase, summary, status, deadlineMs } = entity.props;
  const when = `Paused ${PHASES[str(phase)] ?? str(phase).replaceAll("_", " ")}`.trim();
  if (status !== "paused") {
    return (
      <div class="wc-line" data-part="content" title={str(summary)}>
        <Icon name={status === "cancelled" ? "ban" : "pause"} />
        <span class="wc-muted">
          {when} · {ENDS[str(status)] ?? "over"}
        </span>
      </div>
    );
  }
  return <Waiting entity={entity} when={when} summary={str(summary)} until={Number(deadlineMs)} />;
}

interface Props {
  entity: Entity;
  when: string;
  summary: string;
  /** Unix ms; it then goes on by itself. */
  until: number;
}

function Waiting({ entity, when, summary, until }: Props) {
  const { session } = useView();
  const { sending, failed, answer } = useAnswer();
  const id = useId();
  return (
    <section class="wc-ask" data-part="pause" aria-labelledby={id} tabIndex={-1}>
      <p id={id} class="wc-ask-question">
        <Icon name="pause" />
        <span>{when}</span>
      </p>
      {summary !== "" && (
        <p class="wc-summary" data-part="content">
          {summary}
        </p>
      )}
      {failed !== null && (
        <div class="wc-note wc-bad" data-part="notice" role="alert">
          <Icon name="alert" />
          <span>{failed}</span>
        </div>
      )}
      <div class="wc-ask-answers">
        <button
          type="button"
          class="wc-button wc-primary"
          data-part="resume"
          disabled={sending}
          onClick={() => answer(() => session.resume(entity.id))}
        >
          Continue
        </button>
        <Countdown until={until} />
      </div>
    </section>
  );
}

function Countdown({ until }: { until: number }) {
  const seconds = useSecondsUntil(until);
  if (!Number.isFinite(until)) return null;
  return (
    <span class="wc-countdown wc-muted wc-small" role="timer" aria-live="off">
      {seconds === null ? "Goes on by itself now" : `Goes on by itself in ${span(seconds)}`}
    </span>
  );
}

function span(seconds: number): string {
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}
