import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { Icon } from "./icons";

interface Props {
  input: RefObject<HTMLTextAreaElement | null>;
  draft: string;
  setDraft: (draft: string) => void;
  /** A run is going on: the button stops it; Enter still sends, into the queue. */
  running: boolean;
  canSend: boolean;
  /** Nothing typed here can go anywhere any more; what stands here can still be copied. */
  ended: boolean;
  onSend: (prompt: string) => void;
  onStop: () => Promise<void>;
}

/** As high as its text; one row where nothing can be measured. */
function grow(area: HTMLTextAreaElement): void {
  area.style.height = "auto";
  if (area.scrollHeight > 0) area.style.height = `${area.scrollHeight}px`;
}

export function Composer({ input, draft, setDraft, running, canSend, ended, onSend, onStop }: Props) {
  const [stopping, setStopping] = useState(false);
  useLayoutEffect(() => {
    if (input.current) grow(input.current);
  }, [draft, input]);
  useLayoutEffect(() => {
    const area = input.current;
    if (!area) return;
    // a host may draw the widget before it is on the page, and give it another width later
    let width = area.clientWidth;
    const observer = new ResizeObserver(() => {
      if (area.clientWidth === width) return;
      width = area.clientWidth;
      grow(area);
    });
    observer.observe(area);
    return () => observer.disconnect();
  }, [input]);

  const blank = draft.trim() === "";
  const submit = () => {
    // what stands in the box, not what was drawn last: Enter may come before the next drawing
    const prompt = input.current?.value ?? draft;
    if (prompt.trim() === "" || !canSend) return;
    onSend(prompt);
    setDraft("");
    input.current?.focus();
  };
  const stop = () => {
    setStopping(true);
    void onStop().finally(() => setStopping(false));
    input.current?.focus();
  };
  const keys = (event: KeyboardEvent) => {
    // an input method is composing: Enter picks a word (229 is how older ones say it)
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape" && running) {
      event.preventDefault();
      stop();
    }
  };
  return (
    <div class="wc-composer" data-part="composer">
      <textarea
        ref={input}
        data-part="composer-input"
        rows={1}
        value={draft}
        readOnly={ended}
        placeholder={
          ended ? "Run the cell again to go on" : running ? "Type the next message…" : "Ask anything…"
        }
        aria-label="Message"
        spellcheck={true}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onKeyDown={keys}
      />
      {running ? (
        <button
          type="button"
          class="wc-round wc-stop"
          data-part="stop-button"
          aria-label="Stop"
          title="Stop (Esc)"
          disabled={stopping}
          onClick={stop}
        >
          <Icon name="stop" />
        </button>
      ) : (
        <button
          type="button"
          class="wc-round"
          data-part="send-button"
          aria-label="Send"
          title="Send (Enter)"
          disabled={blank || !canSend}
          onClick={submit}
        >
          <Icon name="send" />
        </button>
      )}
    </div>
  );
}
