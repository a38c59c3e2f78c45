/**
 * What a host answers, however the answer came: over HTTP or over a widget's comm. Their shapes are read here,
 * once. Nothing here knows the timeline or the screen.
 */
export interface Reply {
  readonly from: "server" | "kernel";
  /** As HTTP counts. */
  readonly status: number;
  /** Parsed JSON; undefined where it was none. */
  readonly body: unknown;
  header(name: string): string | null;
}

export interface Health {
  readonly version: string;
  readonly protocol: number;
  readonly engine: string;
  readonly model: string | null;
  readonly capabilities: readonly string[];
  /** What a person should know of the host's timeline, in sentences. */
  readonly notices: readonly string[];
}

export interface TimelinePage {
  readonly rows: readonly unknown[];
  readonly version: number;
  readonly epoch: string | null;
  readonly more: boolean;
}

export interface TimelineQuery {
  readonly convId: string;
  readonly since?: number;
  readonly before?: number;
  readonly limit?: number;
  /** Only runs that have not ended, and what is open of them. */
  readonly unfinished?: boolean;
}

export interface ChatRequest {
  readonly convId: string;
  readonly profile: string;
  readonly prompt: string;
  readonly key: string;
  readonly pictures?: readonly Picture[];
}

/** A picture that goes with a prompt: base64, as it travels and as its row keeps it. */
export interface Picture {
  readonly name: string;
  readonly mime: string;
  readonly data: string;
}

export type Decision = "once" | "always" | "deny";

/** What a person says to a call. `digest` names what was seen: a yes is for that, and for nothing else. */
export interface Approval {
  readonly convId: string;
  readonly callId: string;
  readonly decision: Decision;
  readonly digest: string;
  readonly reason?: string;
}

/** A profile that a prompt may be sent to. */
export interface Profile {
  readonly slug: string;
  readonly name: string;
}

export interface ChatReply {
  readonly status: "started" | "queued";
  readonly runId: string;
  readonly queuePosition: number | null;
}

/**
 * What went wrong, in kinds that a page can act on: `missing` the extension is not there, `login` this page is
 * no longer logged in, `network` nobody answered, `busy` the kernel runs a cell and answers after it, `kernel` it
 * does not answer now, `gone` it never will, `moved` the chat has another host by now, `http` the host said no
 * and why.
 */
export type FailureKind = "missing" | "login" | "network" | "busy" | "kernel" | "gone" | "moved" | "http";

export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly kind: FailureKind,
    message: string,
    readonly status = 0,
    readonly code = "",
  ) {
    super(message);
  }
}

/** Null where whoever answered is no chat of ours. */
export function readHealth(reply: Reply): Health | null {
  check(reply);
  const body = record(reply.body);
  if (body?.webchat !== true) return null;
  return {
    version: String(body.version ?? ""),
    protocol: Number(body.protocol ?? 0),
    engine: String(body.engine ?? ""),
    model: typeof body.model === "string" ? body.model : null,
    capabilities: Array.isArray(body.capabilities) ? body.capabilities.map(String) : [],
    notices: Array.isArray(body.notices) ? body.notices.map(String) : [],
  };
}

export function readTimeline(reply: Reply): TimelinePage {
  check(reply);
  const version = Number(reply.header("X-Timeline-Version") ?? Number.NaN);
  if (!Array.isArray(reply.body) || !Number.isSafeInteger(version) || version < 0) {
    throw unreadable(reply, "a timeline");
  }
  return {
    rows: reply.body,
    version,
    epoch: reply.header("X-Timeline-Epoch"),
    more: /^(1|true|yes)$/i.test(reply.header("X-Timeline-More") ?? ""),
  };
}

export function readChat(reply: Reply): ChatReply {
  check(reply);
  const body = record(reply.body);
  return {
    status: body?.status === "queued" ? "queued" : "started",
    runId: String(body?.run_id ?? ""),
    queuePosition: typeof body?.queue_position === "number" ? body.queue_position : null,
  };
}

export function readProfiles(reply: Reply): Profile[] {
  check(reply);
  if (!Array.isArray(reply.body)) throw unreadable(reply, "profiles");
  return reply.body.flatMap((each) => {
    const { slug, display_name: name } = record(each) ?? {};
    if (typeof slug !== "string" || slug === "") return [];
    return [{ slug, name: typeof name === "string" && name !== "" ? name : slug }];
  });
}

/** Throws where the host said no. */
export function check(reply: Reply): void {
  if (reply.status >= 200 && reply.status < 300) return;
  const { from, status } = reply;
  const message = sentence(reply) ?? `The ${from} answered with an error (HTTP ${status}).`;
  const kind = code(reply) === "moved" ? "moved" : "http";
  throw new ApiError(kind, message, status, code(reply));
}

export function unreadable({ from, status }: Reply, what: string): ApiError {
  return new ApiError("http", `The ${from} sent ${what} that this page cannot read.`, status);
}

/** The host's own words for what went wrong. */
export function sentence({ body }: Reply): string | null {
  const message = record(body)?.message;
  return typeof message === "string" && message !== "" ? message : null;
}

export function code({ body }: Reply): string {
  const said = record(body)?.code;
  return typeof said === "string" ? said : "";
}

/** What a query says, by the names that hosts know. */
export function parameters(query: TimelineQuery): Record<string, string | number> {
  const { convId, since, before, limit, unfinished = false } = query;
  return {
    conv_id: convId,
    ...(since === undefined ? {} : { since_version: since }),
    ...(before === undefined ? {} : { before }),
    ...(limit === undefined ? {} : { limit }),
    ...(unfinished ? { unfinished: "true" } : {}),
  };
}

/** A prompt as hosts take it, but for what the way there says already. */
export function promptBody({ prompt, convId, key, pictures = [] }: ChatRequest): Record<string, unknown> {
  return {
    prompt,
    conv_id: convId,
    idempotency_key: key,
    ...(pictures.length === 0 ? {} : { attachments: pictures }),
  };
}

export function decisionBody({ decision, digest, reason = "" }: Approval): Record<string, unknown> {
  return { decision, digest, ...(reason === "" ? {} : { reason }) };
}

export function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
