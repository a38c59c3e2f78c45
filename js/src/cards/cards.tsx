import type { ComponentType } from "preact";
import type { Entity } from "../timeline/entities";
import { ErrorCard } from "./error";
import { GenericCard } from "./generic";
import { LogCard } from "./log";
import { MessageCard } from "./message";
import { ThinkingCard } from "./thinking";
import { ToolCallCard } from "./tool_call";
import { ToolResultCard } from "./tool_result";
import { UserCard } from "./user";

export type Card = ComponentType<{ entity: Entity }>;

const CARDS: Record<string, Card> = {
  tool_call: ToolCallCard,
  tool_result: ToolResultCard,
  log: LogCard,
  error: ErrorCard,
};

/** The card of a row; a kind that nobody knows gets one that shows its props. */
export function cardOf(entity: Entity): Card {
  if (entity.kind === "message") {
    if (entity.props.role === "user") return UserCard;
    return entity.props.role === "thinking" ? ThinkingCard : MessageCard;
  }
  return (Object.hasOwn(CARDS, entity.kind) && CARDS[entity.kind]) || GenericCard;
}

/** `data-role`: a message's own, `tool` for what tools do, else `system`. */
export function roleOf(entity: Entity): string {
  if (entity.kind === "message") return text(entity.props.role) || "assistant";
  return entity.kind.startsWith("tool_") ? "tool" : "system";
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
