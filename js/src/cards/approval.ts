import { type Entity, isTerminal } from "../timeline/entities";
import { fieldsOf } from "./parts";

export interface Question {
  /** Names the call as it is shown; what is sent back with an answer. */
  readonly digest: string;
  readonly expiresAt: number | null;
  /** A yes may hold for the tool's later calls too. */
  readonly grantable: boolean;
}

export type Verdict = "once" | "always" | "denied" | "expired";

const VERDICTS: Record<Verdict, string> = {
  once: "Allowed once",
  always: "Allowed in this chat",
  denied: "Denied",
  expired: "Expired",
};

/** What a call asks a person now; null where it asks nothing, or nothing that could be answered. */
export function questionOf({ kind, props }: Entity): Question | null {
  const approval = fieldsOf(props.approval);
  const { digest, expiresAt, state } = approval;
  if (isTerminal(kind, props) || props.status !== "asking" || state !== "pending") return null;
  if (typeof digest !== "string" || digest === "") return null;
  const date = typeof expiresAt === "number" ? new Date(expiresAt) : null;
  const known = date !== null && !Number.isNaN(date.getTime());
  return { digest, expiresAt: known ? date.getTime() : null, grantable: approval.always !== false };
}

export function verdictOf({ props }: Entity): { verdict: Verdict; words: string } | null {
  const { state, reason } = fieldsOf(props.approval);
  if (typeof state !== "string" || !Object.hasOwn(VERDICTS, state)) return null;
  const verdict = state as Verdict;
  const because = verdict === "denied" && typeof reason === "string" && reason.trim() !== "";
  return { verdict, words: because ? `Denied: ${reason.trim()}` : VERDICTS[verdict] };
}

/** Its own card says why a call has no result: a person said no, nobody said yes in time, or it was cancelled. */
export function saysWhyNot(call: Entity): boolean {
  const verdict = verdictOf(call)?.verdict;
  return call.props.status === "cancelled" || verdict === "denied" || verdict === "expired";
}

export interface Shown {
  readonly name: string;
  readonly lines: number;
  readonly text: string;
}

/**
 * The arguments of a call, such that nothing in them is hidden: texts of several lines stand alone, the rest is
 * JSON, and what has no shape of its own on a screen, or turns the direction of what follows, is written out.
 */
export function argumentsOf(input: unknown, inputText: unknown): Shown[] {
  if (typeof input !== "object" || input === null) {
    const text = input === undefined || input === null ? inputText : input;
    if (text === undefined || text === null || text === "") return [];
    return [shown("", typeof text === "string" ? text : JSON.stringify(text, null, 2))];
  }
  const entries = Object.entries(input);
  const long = entries.filter(([, value]) => typeof value === "string" && value.trim().includes("\n"));
  const rest = Array.isArray(input) || long.length === 0 ? input : without(input, long);
  const blocks = Array.isArray(input) ? [] : long.map(([name, value]) => shown(name, value as string));
  return Object.keys(rest).length === 0 ? blocks : [shown("", JSON.stringify(rest, null, 2)), ...blocks];
}

function without(input: object, left: [string, unknown][]): object {
  const names = new Set(left.map(([name]) => name));
  return Object.fromEntries(Object.entries(input).filter(([name]) => !names.has(name)));
}

function shown(name: string, text: string): Shown {
  return { name: visible(name), text: visible(text), lines: text.split("\n").length };
}

function visible(text: string): string {
  return text.replace(UNSEEN, (char) => `\\u{${(char.codePointAt(0) as number).toString(16)}}`);
}

/** Controls but for tab and line feed, what is invisible, and what changes the direction of text. */
const UNSEEN = /[^\P{C}\t\n]|(?!\ufe0f)\p{Variation_Selector}|[\u115f\u1160\u2028\u2029\u3164\uffa0]/gu;
