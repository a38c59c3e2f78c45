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

/**
 * A look at the kernel through the widget's manager, where that has one to look at: JupyterLab and Notebook 7
 * have, others differ. None of this is promised by anyone, so nothing may depend on it.
 */
export function kernelState(manager: unknown): KernelState {
  const kernel = kernelOf(manager);
  const state = STATES[String(kernel?.status)] ?? "unknown";
  const connected = (kernel?.connectionStatus ?? "connected") === "connected";
  return connected || state === "gone" ? state : "unknown";
}

/** Calls back when the kernel's state changes, where anyone tells; returns how to end that. */
export function watchKernel(manager: unknown, changed: () => void): () => void {
  const signal = record(kernelOf(manager)?.statusChanged) as
    | { connect?: (slot: () => void) => void; disconnect?: (slot: () => void) => void }
    | undefined;
  try {
    signal?.connect?.(changed);
  } catch {
    return () => {};
  }
  return () => {
    try {
      signal?.disconnect?.(changed);
    } catch {
      // it has gone with its kernel
    }
  };
}

function kernelOf(manager: unknown): Record<string, unknown> | undefined {
  try {
    return record(record(manager)?.kernel); // a getter, of a manager that may be disposed of
  } catch {
    return undefined;
  }
}
