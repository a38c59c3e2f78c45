import { record } from "../http/replies";

/**
 * What the notebook around knows of its kernel: `gone` it ended or is being restarted, `unknown` it does not
 * say.
 */
export type KernelState = "busy" | "idle" | "gone" | "unknown";

const STATES: Record<string, KernelState> = {
  busy: "busy",
  idle: "idle",
  dead: "gone",
  terminating: "gone",
  restarting: "gone",
  autorestarting: "gone",
};

interface Signal {
  connect(slot: () => void): void;
  disconnect(slot: () => void): void;
}

/**
 * A look at the kernel through the widget's manager, where that has one to look at: JupyterLab and Notebook 7
 * have, others differ. None of this is promised by anyone, so nothing may depend on it.
 */
export function kernelState(manager: unknown): KernelState {
  return safely<KernelState>("unknown", () => {
    const kernel = record(record(manager)?.kernel);
    const state = STATES[String(kernel?.status)] ?? "unknown";
    const connected = (kernel?.connectionStatus ?? "connected") === "connected";
    return connected || state === "gone" ? state : "unknown";
  });
}

/**
 * Calls back when there is a reason to ask whether the kernel is still the same, where anyone tells: `firm` where
 * it is gone for sure. Returns how to end that.
 */
export function watchKernel(manager: unknown, suspect: (firm: boolean) => void): () => void {
  const kernel = safely(undefined, () => record(record(manager)?.kernel));
  const gone = () => kernelState(manager) === "gone";
  const slots: [string, () => void][] = [
    ["statusChanged", () => gone() && suspect(true)], // that is each cell, too
    ["connectionStatusChanged", () => suspect(gone())],
  ];
  const each = (act: (signal: Signal, slot: () => void) => void) => {
    for (const [name, slot] of slots) safely(undefined, () => act(kernel?.[name] as Signal, slot));
  };
  each((signal, slot) => signal.connect(slot));
  return () => each((signal, slot) => signal.disconnect(slot));
}

/** What is looked at may be absent, of another shape, or disposed of. */
function safely<T>(otherwise: T, look: () => T): T {
  try {
    return look();
  } catch {
    return otherwise;
  }
}
