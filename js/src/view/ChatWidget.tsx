import { signal } from "@preact/signals-core";
import type { ComponentChildren } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { Session } from "../session/session";
import type { Phase } from "../ws/wsManager";
import { Composer } from "./Composer";
import { ErrorPanel } from "./ErrorPanel";
import { useSignalValue, View, type ViewContext } from "./hooks";
import { StatusBar } from "./StatusBar";
import { TimelineView } from "./TimelineView";

interface Props {
  session: Session;
  profile: string;
  /** A CSS length, or "" to grow with the content. */
  height?: string;
  header?: ComponentChildren;
  /** Called with each prompt, before it goes out. */
  onSend?: () => void;
}

/** The whole chat, for one conversation. It knows a session and no transport. */
export function ChatWidget({ session, profile, height = "", header, onSend }: Props) {
  const status = useSignalValue(session.status);
  const runs = useSignalValue(session.runs);
  const notice = useSignalValue(session.notice);
  const input = useRef<HTMLTextAreaElement>(null);
  const [draft, setDraft] = useState("");
  const sent = useMemo(() => signal(0), []);
  const view = useMemo<ViewContext>(
    () => ({
      session,
      profile,
      send: (prompt) => {
        onSend?.();
        session.send(prompt, profile);
        sent.value += 1;
        input.current?.focus(); // a suggestion or Retry that was pressed may be gone by now
      },
      edit: (prompt) => {
        setDraft((old) => (old.trim() === "" ? prompt : `${prompt}\n${old}`));
        input.current?.focus();
      },
    }),
    [session, profile, onSend, sent],
  );
  const { failure, hydrated } = status;
  const ended = failure?.kind === "gone";
  const running = ended ? undefined : runs.findLast((run) => run.props.status === "started");
  const blocked = status.phase === "error" && !hydrated;
  return (
    <View.Provider value={view}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: it only keeps events from the notebook around */}
      <div
        class="webchat"
        data-webchat=""
        data-part="root"
        data-transport={session.transportName}
        data-state={stateOf(status.phase)}
        data-lm-suppress-shortcuts="true"
        style={height === "" ? undefined : { height, minHeight: "160px", maxHeight: "none" }}
        onKeyDown={keepHere}
        onKeyUp={keepHere}
        onKeyPress={keepHere}
        onContextMenu={keepHere}
      >
        {header}
        {/* a chat that moves to another host keeps what is being typed; its rows are drawn anew */}
        <TimelineView key={session.transportName} sent={sent} />
        {failure && <ErrorPanel failure={failure} slim={hydrated} onRetry={() => session.retryNow()} />}
        {notice && (
          <div class="wc-note wc-bad wc-strip" data-part="notice" role="alert">
            {notice}
          </div>
        )}
        <div class="wc-foot" hidden={blocked}>
          <Composer
            input={input}
            draft={draft}
            setDraft={setDraft}
            running={running !== undefined}
            canSend={!blocked && !ended}
            ended={ended}
            onSend={view.send}
            onStop={() => session.stop(running?.id)}
          />
          <StatusBar />
        </div>
      </div>
    </View.Provider>
  );
}

/** Typing and copying here is no command to the notebook around. */
function keepHere(event: Event): void {
  event.stopPropagation();
}

function stateOf(phase: Phase): string {
  return phase === "buffering" || phase === "replaying" ? "hydrating" : phase;
}
