import type { ReadonlySignal } from "@preact/signals-core";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { isMoving } from "../cards/cards";
import { isLocal } from "../session/outbox";
import type { Session } from "../session/session";
import { type Entity, isTerminal } from "../timeline/entities";
import type { Row } from "../timeline/store";
import { EmptyState } from "./EmptyState";
import { shows, useSignalValue, useView } from "./hooks";
import { Icon } from "./icons";
import { Follower } from "./scroll";
import { Turn, TurnRow } from "./Turn";

/** The rows, in a scroller of their own that follows the end unless a person has scrolled away from it. */
export function TimelineView({ sent }: { sent: ReadonlySignal<number> }) {
  const view = useView();
  const { session } = view;
  const all = useSignalValue(session.store.order);
  const rows = all.filter(({ entity }) => shows(view, entity.peek().id));
  const runs = useSignalValue(session.runs).filter(({ id }) => shows(view, id));
  const status = useSignalValue(session.status);
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follower = useRef<Follower>(undefined);
  const [away, setAway] = useState(false);
  const count = useSignalValue(sent);

  useLayoutEffect(() => {
    if (!scroller.current || !content.current) return;
    const following = new Follower(scroller.current, content.current, setAway);
    follower.current = following;
    return () => following.close();
  }, []);
  useEffect(() => follower.current?.toEnd(), [count]);
  const more = useSignalValue(session.more);
  useEffect(() => {
    // a run of long ago is not among the newest rows
    const begun = all.some(({ entity }) => entity.peek().id === view.run);
    if (more && view.run !== "" && !begun) void session.loadEarlier();
  }, [all, more]);

  const told = rows.filter(({ entity }) => !isLocal(entity.peek()));
  const local = rows.filter(({ entity }) => isLocal(entity.peek()));
  const queued = runs.filter((run) => run.props.status === "queued").sort((a, b) => placeOf(a) - placeOf(b));
  const empty = rows.every((row) => row.entity.peek().kind === "run") && queued.length === 0;
  return (
    <div class="wc-stage">
      <div
        ref={scroller}
        class="wc-timeline"
        data-part="timeline"
        tabIndex={0}
        role="log"
        aria-live="polite"
        aria-label="Conversation"
      >
        <div ref={content} class="wc-column">
          {view.run === "" && <Earlier before={() => follower.current?.holdPlace()} />}
          {view.run === "" && empty && status.hydrated && <EmptyState />}
          {/* one list, so that a prompt keeps its element when its turn comes */}
          {[
            ...told.map((row) => <TurnRow key={row.key} row={row} />),
            <Waiting key="waiting" rows={told} runs={runs} />,
            ...inLine(session, queued, local),
          ]}
        </div>
      </div>
      {away && (
        <button
          type="button"
          class="wc-jump"
          data-part="jump-button"
          aria-label="Jump to latest"
          title="Jump to latest"
          onClick={() => follower.current?.toEnd()}
        >
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

/** What is no part of the timeline yet: the queue in its order, whoever sent it, then what is on its way there. */
function inLine({ outbox }: Session, queued: readonly Entity[], local: readonly Row[]) {
  const left = new Map(local.map((row) => [row.entity.peek().id, row]));
  const line = queued.map((run) => {
    const id = outbox.rowOf(run) ?? "";
    const row = left.get(id);
    left.delete(id);
    return row ? <TurnRow key={row.key} row={row} /> : <Turn key={run.id} entity={asPrompt(run)} />;
  });
  return [...line, ...[...left.values()].map((row) => <TurnRow key={row.key} row={row} />)];
}

function placeOf({ props }: Entity): number {
  return typeof props.queuePosition === "number" ? props.queuePosition : Infinity;
}

/** A prompt in the queue that another page sent: it exists as its run only. */
function asPrompt(run: Entity): Entity {
  const { prompt, queuePosition } = run.props;
  return {
    ...run,
    kind: "message",
    props: { role: "user", content: prompt, status: "queued", queuePosition, runId: run.id },
  };
}

function Earlier({ before }: { before: () => void }) {
  const { session } = useView();
  const more = useSignalValue(session.more);
  if (!more) return null;
  const load = () => {
    before();
    void session.loadEarlier();
  };
  return (
    <button type="button" class="wc-button wc-earlier" onClick={load}>
      Show earlier messages
    </button>
  );
}

/** A run has begun and nothing of it moves on the screen yet. */
function Waiting({ rows, runs }: { rows: readonly Row[]; runs: readonly Entity[] }) {
  const { session } = useView();
  const calls = useSignalValue(session.calls);
  const pauses = useSignalValue(session.pauses);
  const running = runs.find((run) => run.props.status === "started");
  const open = ({ id, kind, props }: Entity) => id.startsWith(`${running?.id}:`) && !isTerminal(kind, props);
  if (running === undefined || calls.some(open) || pauses.some(open)) return null;
  const last = rows.findLast(({ entity }) => entity.peek().kind !== "run");
  return last ? <Dots key={last.key} last={last.entity} /> : null;
}

function Dots({ last }: { last: ReadonlySignal<Entity> }) {
  if (isMoving(useSignalValue(last))) return null;
  return (
    <div class="wc-dots" role="status" aria-label="Waiting for the reply">
      <i />
      <i />
      <i />
    </div>
  );
}
