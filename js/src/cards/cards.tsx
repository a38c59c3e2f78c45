import type { ComponentType } from "preact";
import { type Entity, isTerminal } from "../timeline/entities";
import { AgentModeCard } from "./agent_mode";
import { PauseCard } from "./debugger_pause";
import { ErrorCard } from "./error";
import { LogCard } from "./log";
import { MessageCard } from "./message";
import { OwnCard } from "./own";
import { PlanningCard } from "./planning";
import { ThinkingCard } from "./thinking";
import { ThinkingModeCard } from "./thinking_mode";
import { ToolCallCard } from "./tool_call";
import { ToolResultCard } from "./tool_result";
import { UserCard } from "./user";

export type Card = ComponentType<{ entity: Entity }>;

const CARDS: Record<string, Card> = {
  tool_call: ToolCallCard,
  tool_result: ToolResultCard,
  log: LogCard,
  error: ErrorCard,
  agent_mode: AgentModeCard,
  thinking_mode: ThinkingModeCard,
  planning: PlanningCard,
  debugger_pause: PauseCard,
};

/** The card of a row; a kind that is none of the chat's own gets that for people's own ones. */
export function cardOf(entity: Entity): Card {
  if (entity.kind === "message") {
    if (entity.props.role === "user") return UserCard;
    return entity.props.role === "thinking" ? ThinkingCard : MessageCard;
  }
  return (Object.hasOwn(CARDS, entity.kind) && CARDS[entity.kind]) || OwnCard;
}

/** Does this row itself show that its run goes on? */
export function isMoving({ kind, props }: Entity): boolean {
  if (kind === "message") return props.streaming === true;
  return (kind === "planning" || kind === "thinking_mode") && !isTerminal(kind, props);
}

/** `data-role`: a message's own, `tool` for what tools do, else `system`. */
export function roleOf(entity: Entity): string {
  if (entity.kind === "message") return text(entity.props.role) || "assistant";
  return entity.kind.startsWith("tool_") ? "tool" : "system";
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
