import { useSignalValue, useView } from "./hooks";

const EXAMPLES = ["What can you do?", "Compute 37 * 42", "Show me a table and a formula"];

/** The first thing a person sees: who answers here, and three ways to begin. */
export function EmptyState() {
  const { session, send } = useView();
  const health = useSignalValue(session.health);
  return (
    <div class="wc-empty">
      <h2>What would you like to know?</h2>
      {health && <p class="wc-muted">{who(health.model, health.engine)}</p>}
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

function who(model: string | null, engine: string): string {
  if (model) return `You are talking to ${model}.`;
  if (engine === "demo" || engine === "") {
    return "This is the demo engine – no model is connected. The README tells how to connect one.";
  }
  return `You are talking to the ${engine} engine.`;
}
