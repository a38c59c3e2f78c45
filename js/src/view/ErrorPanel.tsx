import type { Failure } from "../transport/transport";
import { Icon } from "./icons";

const TITLES: Record<Failure["kind"], string> = {
  missing: "The chat server is not running",
  login: "Please log in again",
  network: "Jupyter cannot be reached",
  busy: "The kernel is busy",
  kernel: "The kernel does not answer",
  gone: "Run this cell again",
  moved: "The chat has moved",
  http: "The chat cannot continue",
};

interface Props {
  failure: Failure;
  /** There are rows on the screen: say it in a strip below them. */
  slim: boolean;
  onRetry: () => void;
}

export function ErrorPanel({ failure, slim, onRetry }: Props) {
  return (
    <div
      class={slim ? "wc-panel wc-panel-slim" : "wc-panel"}
      data-part="error-panel"
      data-kind={failure.kind}
      role="alert"
    >
      <Icon name="alert" />
      <div class="wc-panel-text">
        <strong>{TITLES[failure.kind]}</strong>
        <p>{failure.message}</p>
      </div>
      {failure.kind !== "gone" && (
        <button type="button" class="wc-button" data-part="retry-button" onClick={onRetry}>
          <Icon name="retry" /> Retry
        </button>
      )}
    </div>
  );
}
