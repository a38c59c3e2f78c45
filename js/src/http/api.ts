import {
  ApiError,
  type Approval,
  type ChatReply,
  type ChatRequest,
  check,
  code,
  decisionBody,
  type Health,
  type Profile,
  parameters,
  promptBody,
  type Reply,
  readChat,
  readHealth,
  readProfiles,
  readTimeline,
  record,
  sentence,
  type TimelinePage,
  type TimelineQuery,
  unreadable,
} from "./replies";

export interface ApiOptions {
  /** With slashes at both ends. */
  readonly baseUrl: string;
  /** From the page's own configuration; only used where there is no cookie. */
  readonly token?: string;
  readonly fetch?: typeof fetch;
  readonly cookies?: () => string;
  /** An answer of which nothing has come for so long does not come any more. */
  readonly timeoutMs?: number;
}

const LOGIN =
  "Jupyter does not let this page in: you are no longer logged in, or may not use the chat. Log in again (reload the page), then retry.";
const NETWORK =
  "Jupyter cannot be reached. The server may have stopped, or the network is down. Your conversation is safe there.";
/** So many characters of a body are given another second to arrive. */
const CHARS_A_SECOND = 100_000;
const MISSING =
  "The webchat server extension is not running in this Jupyter server. Run “jupyter server extension list” to see whether jupyter_server_webchat is enabled, restart Jupyter, then retry.";

/** The routes under `{baseUrl}webchat/`, as functions. */
export class Api {
  readonly #options: ApiOptions;
  readonly #root: string;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#root = `${options.baseUrl}webchat/`;
  }

  /** Throws `missing` for whatever does not carry the marker: a page of ours is told from any other. */
  async health(signal?: AbortSignal): Promise<Health> {
    const reply = await this.#ask("health", {}, signal);
    const health = reply.status === 404 ? null : readHealth(reply);
    if (health === null) throw new ApiError("missing", MISSING, reply.status);
    return health;
  }

  async timeline(query: TimelineQuery, signal?: AbortSignal): Promise<TimelinePage> {
    const named = Object.entries(parameters(query)).map(([name, value]) => [name, String(value)]);
    return readTimeline(await this.#ask(`timeline?${new URLSearchParams(named)}`, {}, signal));
  }

  /** Without a profile: the one that this browser has chosen, which the server knows by a cookie. */
  async chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatReply> {
    const { profile } = request;
    const path = profile === "" ? "chat" : `chat/${encodeURIComponent(profile)}`;
    return readChat(await this.#post(path, promptBody(request), signal));
  }

  /** Without a run: the one that is running. With one that is queued: takes it out of the queue. */
  async stop(convId: string, runId?: string, signal?: AbortSignal): Promise<void> {
    const path = `conversations/${encodeURIComponent(convId)}/stop`;
    check(await this.#post(path, runId === undefined ? {} : { run_id: runId }, signal));
  }

  async approve(approval: Approval, signal?: AbortSignal): Promise<void> {
    const { convId, callId } = approval;
    const path = `conversations/${encodeURIComponent(convId)}/approvals/${encodeURIComponent(callId)}`;
    check(await this.#post(path, decisionBody(approval), signal));
  }

  /** Lets a run that pauses go on. */
  async resume(convId: string, pauseId: string, signal?: AbortSignal): Promise<void> {
    const path = `conversations/${encodeURIComponent(convId)}/pauses/${encodeURIComponent(pauseId)}`;
    check(await this.#post(path, {}, signal));
  }

  async profiles(convId: string, signal?: AbortSignal): Promise<Profile[]> {
    const query = new URLSearchParams({ conv_id: convId });
    return readProfiles(await this.#ask(`api/chat/profiles?${query}`, {}, signal));
  }

  /** The profile that this browser has chosen, by its slug. */
  async chosenProfile(signal?: AbortSignal): Promise<string> {
    const reply = await this.#ask("api/chat/profile", {}, signal);
    check(reply);
    const slug = record(reply.body)?.slug;
    if (typeof slug !== "string") throw unreadable(reply, "a profile");
    return slug;
  }

  /** Remembers a profile for all pages of this browser. */
  async chooseProfile(slug: string, signal?: AbortSignal): Promise<void> {
    check(await this.#post("api/chat/profile", { slug }, signal));
  }

  #post(path: string, body: unknown, signal?: AbortSignal): Promise<Reply> {
    const headers: Record<string, string> = { "Content-Type": "application/json" };
    const xsrf = this.#xsrf();
    if (xsrf !== null) headers["X-XSRFToken"] = xsrf;
    return this.#ask(path, { method: "POST", headers, body: JSON.stringify(body) }, signal);
  }

  /** Throws for what lies between this page and the host; what the host itself says is the reply. */
  async #ask(path: string, init: RequestInit, signal?: AbortSignal): Promise<Reply> {
    const { timeoutMs = 15_000 } = this.#options;
    const length = typeof init.body === "string" ? init.body.length : 0;
    const silence = new Silence(timeoutMs + Math.ceil(length / CHARS_A_SECOND) * 1000);
    let response: Response;
    let body: unknown;
    try {
      const over = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
      response = await this.#fetch(path, init, over, signal);
      body = await this.#json(response, () => silence.broken(timeoutMs));
    } finally {
      silence.end();
    }
    const { status, headers } = response;
    const reply: Reply = { from: "server", status, body, header: (name) => headers.get(name) };
    if (status === 401 || status === 403) throw new ApiError("login", LOGIN, status, code(reply));
    if (sentence(reply) === null && (status === 502 || status === 503 || status === 504)) {
      throw new ApiError("network", NETWORK, status, code(reply));
    }
    return reply;
  }

  async #fetch(
    path: string,
    init: RequestInit,
    over: AbortSignal,
    unwanted?: AbortSignal,
  ): Promise<Response> {
    const { token } = this.#options;
    const headers = new Headers(init.headers);
    headers.set("Accept", "application/json");
    // a token counts as another user on each request, so the cookie goes first
    if (token && this.#xsrf() === null) headers.set("Authorization", `token ${token}`);
    let response: Response;
    try {
      response = await (this.#options.fetch ?? fetch)(this.#root + path, {
        ...init,
        headers,
        credentials: "same-origin",
        cache: "no-store",
        signal: over,
      });
    } catch (error) {
      if (unwanted?.aborted) throw error;
      throw new ApiError("network", NETWORK);
    }
    if (response.redirected && /\/login\b/.test(new URL(response.url).pathname)) {
      throw new ApiError("login", LOGIN, response.status);
    }
    return response;
  }

  /** The body, or undefined where it is not JSON. A body that breaks off or stands still is a network failure. */
  async #json(response: Response, heard: () => void): Promise<unknown> {
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    try {
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        heard();
        text += decoder.decode(part.value, { stream: true });
      }
      text += decoder.decode();
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

/** Aborts its signal when it was not broken in time. A large answer may take as long as it goes on coming. */
class Silence {
  readonly #over = new AbortController();
  #timer: ReturnType<typeof setTimeout>;

  constructor(ms: number) {
    this.#timer = setTimeout(() => this.#over.abort(), ms);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  broken(nextMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#over.abort(), nextMs);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
