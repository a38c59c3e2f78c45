import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";
import { Picture } from "./Picture";
import { addressOf, PICTURE_TYPES } from "./pictures";
import { type Attached, filesOf } from "./usePictures";

interface Props {
  input: RefObject<HTMLTextAreaElement | null>;
  draft: string;
  setDraft: (draft: string) => void;
  attached: Attached;
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

export function Composer(props: Props) {
  const { input, draft, setDraft, attached, running, canSend: maySend, ended, onSend, onStop } = props;
  const canSend = maySend && !attached.reading;
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
    }
  };
  const paste = (event: ClipboardEvent) => {
    const files = filesOf(event.clipboardData);
    if (ended || files.length === 0) return;
    event.preventDefault();
    attached.add(files);
  };
  return (
    <div class="wc-composer" data-part="composer">
      <AttachedPictures attached={attached} />
      <AttachButton disabled={ended} onFiles={attached.add} />
      <textarea
        ref={input}
        data-part="composer-input"
        rows={1}
        value={draft}
        readOnly={ended}
        placeholder={placeholder(props)}
        aria-label="Message"
        spellcheck={true}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onKeyDown={keys}
        onPaste={paste}
      />
      {running ? (
        <button
          type="button"
          class="wc-round wc-stop"
          data-part="stop-button"
          aria-label="Stop"
          title="Stop"
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

function placeholder({ ended, running, attached }: Props): string {
  if (ended) return "Run the cell again to go on";
  if (attached.pictures.length > 0) return "Ask something about it…";
  return running ? "Type the next message…" : "Ask anything…";
}

function AttachButton({ disabled, onFiles }: { disabled: boolean; onFiles: (files: File[]) => void }) {
  const picker = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={picker}
        type="file"
        hidden
        multiple
        accept={PICTURE_TYPES.join()}
        data-part="picture-input"
        onChange={({ currentTarget }) => {
          onFiles([...(currentTarget.files ?? [])]);
          currentTarget.value = ""; // the same one may be chosen again
        }}
      />
      <button
        type="button"
        class="wc-quiet wc-attach"
        data-part="attach-button"
        aria-label="Add pictures"
        title="Add pictures (or paste or drop them here)"
        disabled={disabled}
        onClick={() => picker.current?.click()}
      >
        <Icon name="picture" />
      </button>
    </>
  );
}

/** What goes along, each with a way to take it out again, and what could not be taken. */
function AttachedPictures({ attached: { pictures, refused, remove } }: { attached: Attached }) {
  return (
    <>
      {refused.length > 0 && (
        <div class="wc-note wc-bad wc-refused" data-part="notice" role="alert">
          {refused.map((sentence, at) => (
            <span key={at}>{sentence}</span>
          ))}
        </div>
      )}
      {pictures.length > 0 && (
        <ul class="wc-attached" data-part="attached" aria-label="Pictures to send">
          {pictures.map((picture, at) => (
            <li key={at}>
              <Picture class="wc-thumbnail" src={addressOf(picture)} alt={picture.name} />
              <button
                type="button"
                class="wc-remove"
                data-part="remove-picture"
                aria-label={`Remove ${picture.name}`}
                title="Remove"
                onClick={() => remove(at)}
              >
                <Icon name="cross" />
              </button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
