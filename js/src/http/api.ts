/** The routes under `{baseUrl}webchat/`, as functions. Nothing here knows the timeline or the screen. */
export interface Health {
  readonly version: string;
  readonly protocol: number;
  readonly engine: string;
  readonly model: string | null;
  readonly capabilities: readonly string[];
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
}

export interface ChatRequest {
  readonly convId: string;
  readonly profile: string;
  readonly prompt: string;
  readonly key: string;
}

export interface ChatReply {
  readonly status: "started" | "queued";
  readonly runId: string;
  readonly queuePosition: number | null;
}

/**
 * What went wrong, in kinds that a page can act on: `missing` the extension is not there, `login` this page is
 * no longer logged in, `network` nobody answered, `http` the server said no and why.
 */
export type FailureKind = "missing" | "login" | "network" | "http";

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

export interface ApiOptions {
  /** With slashes at both ends. */
  readonly baseUrl: string;
  /** From the page's own configuration; only used where there is no cookie. */
  readonly token?: string;
  readonly fetch?: typeof fetch;
  readonly cookies?: () => string;
  readonly timeoutMs?: number;
}

const LOGIN =
  "Jupyter does not let this page in: you are no longer logged in, or may not use the chat. Log in again (reload the page), then retry.";
const NETWORK =
  "Jupyter cannot be reached. The server may have stopped, or the network is down. Your conversation is safe there.";
const MISSING =
  "The webchat server extension is not running in this Jupyter server. Run “jupyter server extension list” to see whether jupyter_server_webchat is enabled, restart Jupyter, then retry.";

export class Api {
  readonly #options: ApiOptions;
  readonly #root: string;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#root = `${options.baseUrl}webchat/`;
  }

  /** Throws `missing` for whatever does not carry the marker: a page of ours is told from any other. */
  async health(signal?: AbortSignal): Promise<Health> {
    const response = await this.#fetch("health", {}, signal);
    if (response.status === 404) throw new ApiError("missing", MISSING, 404);
    const body = record(await this.#json(response));
    if (!response.ok) throw failure(response.status, body);
    if (body?.webchat !== true) throw new ApiError("missing", MISSING, response.status);
    return {
      version: String(body.version ?? ""),
      protocol: Number(body.protocol ?? 0),
      engine: String(body.engine ?? ""),
      model: typeof body.model === "string" ? body.model : null,
      capabilities: Array.isArray(body.capabilities) ? body.capabilities.map(String) : [],
    };
  }

  async timeline(query: TimelineQuery, signal?: AbortSignal): Promise<TimelinePage> {
    const search = new URLSearchParams({ conv_id: query.convId });
    if (query.since !== undefined) search.set("since_version", String(query.since));
    if (query.before !== undefined) search.set("before", String(query.before));
    if (query.limit !== undefined) search.set("limit", String(query.limit));
    const response = await this.#fetch(`timeline?${search}`, {}, signal);
    const body = await this.#json(response);
    if (!response.ok) throw failure(response.status, record(body));
    const version = Number(response.headers.get("X-Timeline-Version") ?? Number.NaN);
    if (!Array.isArray(body) || !Number.isSafeInteger(version) || version < 0) {
      throw new ApiError("http", "The server sent a timeline that this page cannot read.", response.status);
    }
    return {
      rows: body,
      version,
      epoch: response.headers.get("X-Timeline-Epoch"),
      more: /^(1|true|yes)$/i.test(response.headers.get("X-Timeline-More") ?? ""),
    };
  }

  async chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatReply> {
    const { profile } = request;
    const path = profile === "" || profile === "default" ? "chat" : `chat/${encodeURIComponent(profile)}`;
    const body = record(
      await this.#post(
        path,
        { prompt: request.prompt, conv_id: request.convId, idempotency_key: request.key },
        signal,
      ),
    );
    return {
      status: body?.status === "queued" ? "queued" : "started",
      runId: String(body?.run_id ?? ""),
      queuePosition: typeof body?.queue_position === "number" ? body.queue_position : null,
    };
  }

  /** Without a run: the one that is running. With one that is queued: takes it out of the queue. */
  async stop(convId: string, runId?: string, signal?: AbortSignal): Promise<void> {
    const path = `conversations/${encodeURIComponent(convId)}/stop`;
    await this.#post(path, runId === undefined ? {} : { run_id: runId }, signal);
  }

  async #post(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    const headers: Record<string, string> = { "Content-Type": "application/json" };
    const xsrf = this.#xsrf();
    if (xsrf !== null) headers["X-XSRFToken"] = xsrf;
    const response = await this.#fetch(path, { method: "POST", headers, body: JSON.stringify(body) }, signal);
    const answer = await this.#json(response);
    if (!response.ok) throw failure(response.status, record(answer));
    return answer;
  }

  async #fetch(path: string, init: RequestInit, signal?: AbortSignal): Promise<Response> {
    const { token, timeoutMs = 15_000 } = this.#options;
    const headers = new Headers(init.headers);
    headers.set("Accept", "application/json");
    // a token counts as another user on each request, so the cookie goes first
    if (token && this.#xsrf() === null) headers.set("Authorization", `token ${token}`);
    const timeout = AbortSignal.timeout(timeoutMs);
    let response: Response;
    try {
      response = await (this.#options.fetch ?? fetch)(this.#root + path, {
        ...init,
        headers,
        credentials: "same-origin",
        cache: "no-store",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError("network", NETWORK);
    }
    if (response.redirected && /\/login\b/.test(new URL(response.url).pathname)) {
      throw new ApiError("login", LOGIN, response.status);
    }
    return response;
  }

  /** The body, or undefined where it is not JSON. A body that breaks off is a network failure. */
  async #json(response: Response): Promise<unknown> {
    let text: string;
    try {
      text = await response.text();
    } catch {
      throw new ApiError("network", NETWORK, response.status);
    }
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  }

  #xsrf(): string | null {
    const cookies = this.#options.cookies?.() ?? document.cookie;
    const found = /(?:^|;\s*)_xsrf=([^;]*)/.exec(cookies);
    return found?.[1] ? decodeURIComponent(found[1]) : null;
  }
}

function failure(status: number, body: Record<string, unknown> | undefined): ApiError {
  const said = typeof body?.message === "string" && body.message !== "" ? body.message : null;
  const code = typeof body?.code === "string" ? body.code : "";
  if (status === 401 || status === 403) return new ApiError("login", LOGIN, status, code);
  if (said === null && (status === 502 || status === 503 || status === 504)) {
    return new ApiError("network", NETWORK, status, code);
  }
  return new ApiError("http", said ?? `The server answered with an error (HTTP ${status}).`, status, code);
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
