import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Decision } from "../http/replies";
import type { Entity } from "../timeline/entities";
import { useView } from "../view/hooks";
import { Icon } from "../view/icons";
import { argumentsOf, type Question } from "./approval";
import { str } from "./parts";
import { useAnswer } from "./useAnswer";

/**
 * A call that waits for a person: what it is, exactly, and the answers to it. An answer carries the digest of what
 * is shown, so a yes is never for anything else. It takes no focus by itself: Enter in the composer must not become
 * a yes.
 */
export function Ask({ entity, question }: { entity: Entity; question: Question }) {
  const { session } = useView();
  const { name, input, inputText } = entity.props;
  const { sending, failed, answer } = useAnswer();
  const [denying, setDenying] = useState(false);
  const decide = (decision: Decision, reason = "") => {
    const { digest } = question;
    answer(() => session.approve({ callId: entity.id, decision, digest, reason }));
  };
  const id = useId();
  return (
    <section class="wc-ask" data-part="approval" aria-labelledby={id} tabIndex={-1}>
      <p id={id} class="wc-ask-question">
        <Icon name="shield" />
        <span>
          The model wants to run <code>{str(name) || "a tool"}</code>. Allow it?
        </span>
      </p>
      <Arguments input={input} inputText={inputText} />
      {failed !== null && (
        <div class="wc-note wc-bad" data-part="notice" role="alert">
          <Icon name="alert" />
          <span>{failed}</span>
        </div>
      )}
      {denying ? (
        <DenyForm sending={sending} onDeny={(why) => decide("deny", why)} onBack={() => setDenying(false)} />
      ) : (
        <div class="wc-ask-answers">
          <button
            type="button"
            class="wc-button wc-primary"
            data-part="approve-once"
            disabled={sending}
            onClick={() => decide("once")}
          >
            Allow once
          </button>
          {question.grantable && (
            <button
              type="button"
              class="wc-button"
              data-part="approve-always"
              title={`${str(name)} is not asked about again in this chat`}
              disabled={sending}
              onClick={() => decide("always")}
            >
              Always in this chat
            </button>
          )}
          <button
            type="button"
            class="wc-button"
            data-part="deny"
            aria-expanded={false}
            disabled={sending}
            onClick={() => setDenying(true)}
          >
            Deny
          </button>
          <Expiry at={question.expiresAt} sending={sending} />
        </div>
      )}
    </section>
  );
}

/** A person may say why; the model is told. */
function DenyForm(props: { sending: boolean; onDeny: (reason: string) => void; onBack: () => void }) {
  const { sending, onDeny, onBack } = props;
  const field = useRef<HTMLInputElement>(null);
  const deny = () => onDeny(field.current?.value.trim() ?? "");
  useLayoutEffect(() => field.current?.focus(), []); // Deny was pressed, and is not there any more
  return (
    <div class="wc-ask-answers">
      <input
        ref={field}
        class="wc-field"
        data-part="deny-reason"
        maxLength={2000}
        placeholder="Why not? The model is told (optional)"
        aria-label="Why not? The model is told. Optional."
        disabled={sending}
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === "Enter") deny();
          if (event.key === "Escape") onBack();
        }}
      />
      <button
        type="button"
        class="wc-button wc-primary"
        data-part="deny-send"
        disabled={sending}
        onClick={deny}
      >
        Deny
      </button>
      <button type="button" class="wc-link" disabled={sending} onClick={onBack}>
        Back
      </button>
    </div>
  );
}

export function Arguments({ input, inputText }: { input: unknown; inputText: unknown }) {
  return (
    <>
      {argumentsOf(input, inputText).map(({ name, text, lines }, at) => (
        <div key={at} class="wc-argument">
          {name !== "" && (
            <div class="wc-label">
              {name} · {lines} lines
            </div>
          )}
          <section class="wc-box" tabIndex={0} dir="ltr" aria-label={name === "" ? "Arguments" : name}>
            {text}
          </section>
        </div>
      ))}
    </>
  );
}

/** Until when it can be answered. No countdown: the host alone knows when it is too late. */
function Expiry({ at, sending }: { at: number | null; sending: boolean }) {
  if (sending) return <span class="wc-muted wc-small">Sending…</span>;
  if (at === null) return null;
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  const day = date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return (
    <time class="wc-muted wc-small" dateTime={date.toISOString()} title={date.toLocaleString()}>
      Asks until {today ? time : `${day}, ${time}`}
    </time>
  );
}
