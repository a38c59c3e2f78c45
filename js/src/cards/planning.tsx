import type { ComponentChildren } from "preact";
import type { Entity } from "../timeline/entities";
import { Icon, type IconName } from "../view/icons";
import { LongText } from "./LongText";
import { fieldsOf, str } from "./parts";
import { took } from "./thinking";

type Fields = Record<string, unknown>;

/** A plan while it is made, and what becomes of it: its steps, what was decided, how that was carried out. */
export function PlanningCard({ entity }: { entity: Entity }) {
  const { plannerModel, maxIterations, iterations, completed, execution, status } = entity.props;
  const steps = (Array.isArray(iterations) ? iterations : []).map(fieldsOf);
  const directive = str(fieldsOf(execution).directive) || str(fieldsOf(completed).finalDirective);
  const making = status === "planning" && completed === undefined;
  return (
    <section class="wc-plan" data-part="content" aria-label="Plan">
      <header class="wc-plan-head">
        <Icon name="list" />
        <strong class={making ? "wc-live" : undefined}>{making ? "Planning…" : "Plan"}</strong>{" "}
        <span class="wc-muted">{about(steps.length, making ? maxIterations : null, plannerModel)}</span>
      </header>
      {steps.length > 0 && (
        <ol class="wc-steps">
          {steps.map((step) => (
            <Step key={String(step.iterationIndex)} step={step} />
          ))}
        </ol>
      )}
      {directive !== "" && (
        <div class="wc-directive">
          <LongText text={directive} lines={6} chars={400}>
            {(shown) => <p>{shown}</p>}
          </LongText>
        </div>
      )}
      {execution !== undefined ? (
        <Execution entity={entity} execution={fieldsOf(execution)} />
      ) : (
        status === "error" && <NoPlan decided={fieldsOf(completed)} />
      )}
    </section>
  );
}

/** `most` is null where the plan is made. */
function about(count: number, most: unknown, model: unknown): string {
  const plain = `${count} ${count === 1 ? "step" : "steps"}`;
  const limited = count === 0 ? `at most ${most} steps` : `${plain} of at most ${most}`;
  return [typeof most === "number" ? limited : plain, str(model)].filter((each) => each !== "").join(" · ");
}

function Step({ step }: { step: Fields }) {
  const { action, toolName, progress, progressScore, reflectionText, reasoning, strategy } = step;
  const score = typeof progressScore === "number" && Number.isFinite(progressScore) ? progressScore : null;
  const thoughts = [str(strategy), str(reasoning)].filter((each) => each !== "").join("\n\n");
  return (
    <li value={Number(step.iterationIndex)}>
      <div class="wc-step">
        <span>
          <LongText text={str(action) || "…"} lines={4} chars={300}>
            {(shown) => shown}
          </LongText>
        </span>
        {str(toolName) !== "" && <code>{str(toolName)}</code>}
        {str(progress) !== "" && <span class="wc-muted wc-small">{str(progress)}</span>}
        {thoughts !== "" && (
          <details class="wc-details">
            <summary>Reasoning</summary>
            <p>{thoughts}</p>
          </details>
        )}
      </div>
      {(score !== null || str(reflectionText) !== "") && (
        <div class="wc-reflection">
          {score !== null && <Score score={Math.min(1, Math.max(0, score))} />}
          <LongText text={str(reflectionText)} lines={3} chars={240}>
            {(shown) => shown}
          </LongText>
        </div>
      )}
    </li>
  );
}

/** How far the planner thinks that it is, from 0 to 1. */
function Score({ score }: { score: number }) {
  const percent = Math.round(score * 100);
  return (
    <span class="wc-score">
      <span class="wc-meter" aria-hidden="true">
        <i style={{ width: `${percent}%` }} />
      </span>
      <span class="wc-hidden">How far it is:</span> {percent} %
    </span>
  );
}

function Execution({ entity, execution }: { entity: Entity; execution: Fields }) {
  const { executorModel, status, errorMessage, tokensUsed } = execution;
  const ended = entity.props.status === "completed" || entity.props.status === "error";
  const by = str(executorModel) === "" ? "" : ` by ${str(executorModel)}`;
  if (!ended) {
    return (
      <Outcome>
        <span class="wc-live">Being carried out{by}…</span>
      </Outcome>
    );
  }
  if (status !== "completed") {
    return (
      <Outcome icon="alert" bad>
        Not carried out to the end. {str(errorMessage)}
      </Outcome>
    );
  }
  const tokens = typeof tokensUsed === "number" ? `${tokensUsed.toLocaleString()} tokens` : "";
  const facts = [tokens, took(entity) ?? ""].filter((each) => each !== "").map((each) => ` · ${each}`);
  return (
    <Outcome icon="check">
      Carried out{by}
      {facts}
    </Outcome>
  );
}

function NoPlan({ decided: { finalDecision, statusReason } }: { decided: Fields }) {
  const stopped = finalDecision === "stopped";
  return (
    <Outcome icon={stopped ? "ban" : "alert"} bad={!stopped}>
      Nothing came of this plan. {str(statusReason)}
    </Outcome>
  );
}

function Outcome(props: { icon?: IconName; bad?: boolean; children: ComponentChildren }) {
  return (
    <div class={props.bad ? "wc-note wc-bad" : "wc-note"} data-part="outcome">
      {props.icon && <Icon name={props.icon} />}
      <span>{props.children}</span>
    </div>
  );
}
