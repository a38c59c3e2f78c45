import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Entity } from "../timeline/entities";
import { Icon, type IconName } from "../view/icons";
import { Arguments, Ask } from "./Ask";
import { questionOf, verdictOf } from "./approval";
import { Note, pretty, str } from "./parts";
import { terminalText } from "./terminal";

const STATES: Record<string, [IconName, string]> = {
  completed: ["check", "done"],
  failed: ["alert", "failed"],
  denied: ["ban", "not allowed"],
  cancelled: ["ban", "cancelled"],
  timed_out: ["clock", "took too long"],
};

/**
 * A tool at work: its name and how it goes in one line; input and output below, when opened. One that waits for a
 * person's yes is its question.
 */
export function ToolCallCard({ entity }: { entity: Entity }) {
  const question = questionOf(entity);
  if (question) {
    return (
      <div class="wc-tool" data-part="content">
        <Ask key={question.digest} entity={entity} question={question} />
      </div>
    );
  }
  return <Call entity={entity} />;
}

function Call({ entity }: { entity: Entity }) {
  const { name, input, inputText, stdout, status, progress, done } = entity.props;
  const [opened, setOpen] = useState<boolean | null>(null);
  const running = done !== true;
  const output = str(stdout);
  const open = opened ?? (running && output !== "");
  const state = Object.hasOwn(STATES, str(status)) ? STATES[str(status)] : undefined;
  const verdict = verdictOf(entity);
  const allowed = verdict?.verdict === "once" || verdict?.verdict === "always";
  const never = status === "denied" || (verdict !== null && !allowed);
  const used = never ? "Wanted to use " : running ? "Using " : "Used ";
  return (
    <div class="wc-fold wc-tool" data-open={open}>
      <button type="button" class="wc-fold-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="chevron" />
        <span class={running ? "wc-tool-name wc-live" : "wc-tool-name"}>
          {used}
          <code>{str(name) || "a tool"}</code>
        </span>
        <span class="wc-brief">{brief(input ?? inputText)}</span>
        {allowed && <span class="wc-verdict">{verdict.words}</span>}
        {state && (
          <span class={`wc-state wc-state-${str(status)}`} title={state[1]}>
            <Icon name={state[0]} />
            <span class={status === "completed" || status === "denied" ? "wc-hidden" : undefined}>
              {state[1]}
            </span>
          </span>
        )}
      </button>
      {/* what was stopped while it asked can't be answered any more, and says that it was cancelled */}
      {verdict && !allowed && status !== "cancelled" && <Note>{verdict.words}</Note>}
      {running && !verdict && status === "asking" && (
        <Note icon="alert">
          This call waits for an answer, and this page cannot read its question. Reload it.
        </Note>
      )}
      {running && status === "waiting" && <Note icon="clock">Waiting for the kernel</Note>}
      {running && status === "running" && <Progress progress={progress} />}
      <div class="wc-fold-body" data-part="content" hidden={!open}>
        {open && <Arguments input={input} inputText={inputText} />}
        {open && output !== "" && <Output text={output} />}
      </div>
    </div>
  );
}

/** How far it is, where it tells: a bar that moves to and fro where it only says that it moves. */
function Progress({ progress }: { progress: unknown }) {
  if (typeof progress !== "object" || progress === null) return null;
  const { value, text } = progress as Record<string, unknown>;
  const known = typeof value === "number" && Number.isFinite(value);
  const done = known ? Math.min(1, Math.max(0, value)) : undefined;
  return (
    <div class="wc-progress" aria-live="off">
      <progress value={done} max={1} aria-label="Progress" />
      {done !== undefined && <span class="wc-percent">{Math.floor(done * 100)} %</span>}
      {str(text) !== "" && <span class="wc-progress-text">{str(text)}</span>}
    </div>
  );
}

/** What it prints. The box stays at its end while more comes, unless a person has scrolled away from it. */
function Output({ text }: { text: string }) {
  const box = useRef<HTMLElement>(null);
  const following = useRef(true);
  const shown = useMemo(() => terminalText(text), [text]);
  useLayoutEffect(() => {
    if (box.current && following.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown]);
  const scrolled = ({
    currentTarget: { scrollHeight, scrollTop, clientHeight },
  }: {
    currentTarget: Element;
  }) => {
    following.current = scrollHeight - scrollTop - clientHeight < 8;
  };
  return (
    <>
      <div class="wc-label">Output</div>
      <section
        ref={box}
        class="wc-box wc-output"
        data-part="stdout"
        tabIndex={0}
        aria-label="Output"
        aria-live="off"
        onScroll={scrolled}
      >
        {shown}
      </section>
    </>
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
