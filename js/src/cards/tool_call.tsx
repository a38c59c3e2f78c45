import { useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { Icon, type IconName } from "../view/icons";
import { pretty, str } from "./parts";

const STATES: Record<string, [IconName, string]> = {
  completed: ["check", "done"],
  failed: ["alert", "failed"],
  denied: ["ban", "not allowed"],
  cancelled: ["ban", "cancelled"],
  timed_out: ["clock", "took too long"],
};

/** A tool at work: its name and how it goes in one line; input and output below, when opened. */
export function ToolCallCard({ entity }: { entity: Entity }) {
  const { name, input, inputText, stdout, status, progress, done } = entity.props;
  const [opened, setOpen] = useState<boolean | null>(null);
  const running = done !== true;
  const open = opened ?? (running && str(stdout) !== "");
  const state = Object.hasOwn(STATES, str(status)) ? STATES[str(status)] : undefined;
  const given = input === undefined || input === null ? str(inputText) : pretty(input);
  return (
    <div class="wc-fold wc-tool" data-open={open}>
      <button type="button" class="wc-fold-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="chevron" />
        <span class={running ? "wc-live" : undefined}>
          {running ? "Using " : "Used "}
          <code>{str(name) || "a tool"}</code>
        </span>
        <span class="wc-brief">{brief(input ?? inputText)}</span>
        {state && (
          <span class={`wc-state wc-state-${str(status)}`} title={state[1]}>
            <Icon name={state[0]} />
            <span class={status === "completed" ? "wc-hidden" : undefined}>{state[1]}</span>
          </span>
        )}
        {running && typeof progress === "number" && (
          <progress value={Math.min(1, Math.max(0, progress))} max={1} aria-label="Progress" />
        )}
      </button>
      <div class="wc-fold-body" data-part="content" hidden={!open}>
        {given !== "" && given !== "{}" && (
          <>
            <div class="wc-label">Input</div>
            <pre class="wc-box">{given}</pre>
          </>
        )}
        {str(stdout) !== "" && (
          <>
            <div class="wc-label">Output</div>
            <pre class="wc-box">{str(stdout)}</pre>
          </>
        )}
      </div>
    </div>
  );
}

/** The input on one line, for the closed card. */
function brief(input: unknown): string {
  if (typeof input === "string") return input.slice(0, 120);
  if (typeof input !== "object" || input === null) return "";
  const values = Object.values(input);
  const shown =
    values.length === 1
      ? pretty(values[0])
      : Object.entries(input)
          .map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
          .join(", ");
  return shown.replace(/\s+/g, " ").slice(0, 120);
}
