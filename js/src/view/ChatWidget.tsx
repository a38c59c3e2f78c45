import { signal } from "@preact/signals-core";
import type { ComponentChildren } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { Renderers } from "../renderers/renderers";
import type { Session } from "../session/session";
import type { Phase } from "../ws/wsManager";
import { Composer } from "./Composer";
import { ErrorPanel } from "./ErrorPanel";
import { useSignalValue, View, type ViewContext } from "./hooks";
import { isShortcut } from "./keys";
import { ProfileSelect } from "./ProfileSelect";
import { StatusBar } from "./StatusBar";
import { TimelineView } from "./TimelineView";
import { usePictures } from "./usePictures";

interface Props {
  session: Session;
  /** What prompts go to; "" leaves it to the host. */
  profile: string;
  /** Called when a person wants another profile. */
  onProfile?: (slug: string) => void;
  /** Shows this run only, and takes no prompts. */
  run?: string;
  renderers?: Renderers | null;
  /** A CSS length, or "" to grow with the content. */
  height?: string;
  header?: ComponentChildren;
  /** Called with each prompt, before it goes out. */
  onSend?: () => void;
}

/** The whole chat, for one conversation. It knows a session and no transport. */
export function ChatWidget(props: Props) {
  const { session, profile, onProfile, run = "", renderers = null, height = "", header, onSend } = props;
  const status = useSignalValue(session.status);
  const runs = useSignalValue(session.runs);
  const notice = useSignalValue(session.notice);
  const root = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLTextAreaElement>(null);
  const [draft, setDraft] = useState("");
  const attached = usePictures(session.pictureBytes);
  const { put } = attached;
  const [over, setOver] = useState(false);
  const sent = useMemo(() => signal(0), []);
  const view = useMemo<ViewContext>(
    () => ({
      session,
      profile,
      run,
      renderers,
      send: (prompt, pictures, to = profile) => {
        onSend?.();
        session.send(prompt, to, pictures);
        sent.value += 1;
        input.current?.focus(); // a suggestion or Retry that was pressed may be gone by now
      },
      edit: (prompt, pictures = []) => {
        setDraft((old) => (old.trim() === "" ? prompt : `${prompt}\n${old}`));
        put(pictures);
        input.current?.focus();
      },
      show: (id) => {
        const look = () => {
          const rows = root.current?.querySelectorAll<HTMLElement>("[data-part=turn]") ?? [];
          const row = [...rows].find((each) => each.dataset.id === id);
          row?.scrollIntoView({ block: "nearest" });
          const asks = row?.querySelector<HTMLElement>("[data-part=approval], [data-part=pause]");
          asks?.focus({ preventScroll: true });
          return row !== undefined;
        };
        if (!look()) void session.reveal(id).then(() => setTimeout(look)); // when it is drawn
      },
      goOn: () => {
        const page = root.current?.getRootNode() as Document | ShadowRoot | undefined;
        const focused = page?.activeElement ?? document.body;
        const here = focused === document.body || root.current?.contains(focused);
        if (here) input.current?.focus({ preventScroll: true });
      },
    }),
    [session, profile, run, renderers, onSend, sent, put],
  );
  const { failure, hydrated } = status;
  const ended = failure?.kind === "gone";
  const running = ended
    ? undefined
    : runs.findLast(({ id, props }) => props.status === "started" && (run === "" || id === run));
  const blocked = status.phase === "error" && !hydrated;
  return (
    <View.Provider value={view}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: it only keeps events from the notebook around */}
      <div
        ref={root}
        class="webchat"
        data-webchat=""
        data-part="root"
        data-transport={session.transportName}
        data-state={stateOf(status.phase)}
        data-run={run === "" ? undefined : run}
        style={height === "" || run !== "" ? undefined : { height, minHeight: "160px", maxHeight: "none" }}
        onKeyDown={keepHere}
        onKeyUp={keepHere}
        onKeyPress={keepHere}
        onContextMenu={keepHere}
        data-drop={over}
        onDragOver={(event) => {
          if (run !== "" || ended || !event.dataTransfer?.types.includes("Files")) return;
          event.preventDefault(); // which says: here
          event.stopPropagation();
          setOver(true);
        }}
        onDragLeave={(event) => {
          if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
        }}
        onDrop={(event) => {
          setOver(false);
          const files = [...(event.dataTransfer?.files ?? [])];
          if (run !== "" || ended || files.length === 0) return;
          event.preventDefault(); // or the page goes away to show the file
          event.stopPropagation();
          attached.add(files);
        }}
      >
        {header}
        <TimelineView sent={sent} />
        {failure && <ErrorPanel failure={failure} slim={hydrated} onRetry={() => session.retryNow()} />}
        {notice && (
          <div class="wc-note wc-bad wc-strip" data-part="notice" role="alert">
            {notice}
          </div>
        )}
        <div class="wc-foot" hidden={blocked}>
          {run === "" && (
            <Composer
              input={input}
              draft={draft}
              setDraft={setDraft}
              attached={attached}
              running={running !== undefined}
              canSend={!blocked && !ended}
              ended={ended}
              onSend={(prompt) => {
                view.send(prompt, attached.pictures);
                attached.clear();
              }}
              onStop={() => session.stop(running?.id)}
            />
          )}
          <div class="wc-below">
            <StatusBar />
            {run !== "" && running && <StopLink onStop={() => session.stop(run)} />}
            {run === "" && onProfile && <ProfileSelect ended={ended} onPick={onProfile} />}
          </div>
        </div>
      </div>
    </View.Provider>
  );
}

/** The way to stop the one run of a view, which has no composer. */
function StopLink({ onStop }: { onStop: () => Promise<void> }) {
  return (
    <button type="button" class="wc-link" data-part="stop-button" onClick={() => void onStop()}>
      Stop
    </button>
  );
}

/** Typing and copying here is no command to the notebook around; Ctrl+S and its like are. */
function keepHere(event: Event): void {
  if (!(event instanceof KeyboardEvent && isShortcut(event))) event.stopPropagation();
}

function stateOf(phase: Phase): string {
  return phase === "buffering" || phase === "replaying" ? "hydrating" : phase;
}
