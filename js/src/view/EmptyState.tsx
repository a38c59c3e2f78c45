import type { Health } from "../http/replies";
import type { Session } from "../session/session";
import { useSignalValue, useView } from "./hooks";

const EXAMPLES = ["What can you do?", "Compute 37 * 42", "Show me a table and a formula"];

/** The first thing a person sees: who answers here, and three ways to begin. */
export function EmptyState() {
  const { session, send } = useView();
  const health = useSignalValue(session.health);
  return (
    <div class="wc-empty">
      <h2>What would you like to know?</h2>
      {health && <p class="wc-muted">{welcome(health, session.transportName)}</p>}
      <div class="wc-examples" data-part="example-prompts">
        {EXAMPLES.map((prompt) => (
          <button
            key={prompt}
            type="button"
            class="wc-suggestion"
            data-part="suggestion"
            onClick={() => send(prompt)}
          >
            {prompt}
          </button>
        ))}
      </div>
    </div>
  );
}

/** Who answers, in a word or two. A server that was given no model's name learns it with the first answer. */
export function whoAnswers({ model, engine }: Health): string {
  return model ?? (engine === "openai" ? "OpenAI-compatible server" : `${engine} engine`);
}

function welcome(health: Health, where: Session["transportName"]): string {
  if (health.engine === "demo") {
    const then = where === "kernel" ? "in os.environ and run this cell again" : "and start Jupyter again";
    return `This is the demo engine – no model is connected. Set OPENAI_API_KEY or OPENAI_BASE_URL ${then} to connect one.`;
  }
  return `You are talking to ${health.model ?? `an ${whoAnswers(health)}`}.`;
}
