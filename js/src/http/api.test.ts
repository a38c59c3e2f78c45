// @vitest-environment node
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, vi } from "vitest";
import { Api } from "./api";
import type { ApiError } from "./replies";

interface Call {
  url: string;
  init: RequestInit & { headers: Headers };
}

function server(answer: () => Response | Promise<Response>, more: { token?: string; cookies?: string } = {}) {
  const calls: Call[] = [];
  const api = new Api({
    baseUrl: "/user/me/",
    ...(more.token ? { token: more.token } : {}),
    cookies: () => more.cookies ?? "a=1; _xsrf=2%7Cabc; b=2",
    fetch: async (url, init) => {
      calls.push({ url: String(url), init: init as Call["init"] });
      return answer();
    },
  });
  return { api, calls };
}

const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
const marker = {
  webchat: true,
  version: "1",
  protocol: 1,
  engine: "openai",
  model: "m",
  capabilities: ["x"],
  notices: ["y"],
};
const rejected = async (promise: Promise<unknown>) => {
  const error = await promise.then(
    () => undefined,
    (reason: ApiError) => reason,
  );
  return { kind: error?.kind, message: error?.message ?? "", code: error?.code };
};

describe("health", () => {
  it("tells who answers", async () => {
    const { api, calls } = server(() => json(marker));
    expect(await api.health()).toEqual({
      version: "1",
      protocol: 1,
      engine: "openai",
      model: "m",
      capabilities: ["x"],
      notices: ["y"],
    });
    expect(calls[0]?.url).toBe("/user/me/webchat/health");
    expect(calls[0]?.init.credentials).toBe("same-origin");
  });

  it.each([
    ["404", () => json({ message: "Not Found" }, 404), "missing"],
    ["a page of HTML", () => new Response("<html></html>", { status: 200 }), "missing"],
    ["JSON of something else", () => json({ version: "1" }), "missing"],
    ["401", () => json({ message: "no" }, 401), "login"],
    ["403", () => new Response("<html>Forbidden</html>", { status: 403 }), "login"],
    ["a proxy without its server", () => new Response("Bad gateway", { status: 502 }), "network"],
    ["an error of the server", () => json({ message: "The store is down." }, 503), "http"],
  ] as const)("%s", async (_name, answer, kind) => {
    expect((await rejected(server(answer).api.health())).kind).toBe(kind);
  });

  it("a network that is down says so in a sentence, and what is missing says what to do", async () => {
    const down = server(() => Promise.reject(new TypeError("Failed to fetch")));
    expect(await rejected(down.api.health())).toMatchObject({
      kind: "network",
      message: expect.stringContaining("cannot be reached"),
    });
    const missing = server(() => json({}, 404));
    expect((await rejected(missing.api.health())).message).toContain("jupyter server extension list");
  });

  it("a redirect to the login page is a login", async () => {
    const { api } = server(() => {
      const response = new Response("<html>", { status: 200 });
      Object.defineProperty(response, "redirected", { value: true });
      Object.defineProperty(response, "url", { value: "http://localhost/user/me/login?next=x" });
      return response;
    });
    expect((await rejected(api.health())).kind).toBe("login");
  });
});

describe("chat", () => {
  const request = { convId: "c", profile: "default", prompt: "hi", key: "k" };

  it("posts JSON with the cookie's token", async () => {
    const { api, calls } = server(() => json({ status: "started", run_id: "r", conv_id: "c" }));
    expect(await api.chat(request)).toEqual({ status: "started", runId: "r", queuePosition: null });
    const { url, init } = calls[0] as Call;
    expect(url).toBe("/user/me/webchat/chat/default");
    expect(init.method).toBe("POST");
    expect(init.headers.get("Content-Type")).toBe("application/json");
    expect(init.headers.get("X-XSRFToken")).toBe("2|abc");
    expect(init.headers.get("Authorization")).toBeNull();
    expect(JSON.parse(String(init.body))).toEqual({ prompt: "hi", conv_id: "c", idempotency_key: "k" });
  });

  it("names the profile in the path, also the default one, for a cookie may name another", async () => {
    const { api, calls } = server(() => json({ status: "started", run_id: "r" }));
    await api.chat(request);
    await api.chat({ ...request, profile: "" });
    expect(calls.map(({ url }) => url)).toEqual(["/user/me/webchat/chat/default", "/user/me/webchat/chat"]);
  });

  it("knows a queued prompt", async () => {
    const { api, calls } = server(() => json({ status: "queued", run_id: "r", queue_position: 2 }, 202));
    expect(await api.chat({ ...request, profile: "a b" })).toEqual({
      status: "queued",
      runId: "r",
      queuePosition: 2,
    });
    expect(calls[0]?.url).toBe("/user/me/webchat/chat/a%20b");
  });

  it("gives the server's own sentence and code on", async () => {
    const { api } = server(() => json({ message: "The queue is full.", code: "queue_full" }, 429));
    expect(await rejected(api.chat(request))).toEqual({
      kind: "http",
      message: "The queue is full.",
      code: "queue_full",
    });
  });

  it("uses the page's token only where there is no cookie", async () => {
    const without = server(() => json({}), { token: "t", cookies: "" });
    await without.api.chat(request);
    expect(without.calls[0]?.init.headers.get("Authorization")).toBe("token t");
    const withCookie = server(() => json({}), { token: "t" });
    await withCookie.api.chat(request);
    expect(withCookie.calls[0]?.init.headers.get("Authorization")).toBeNull();
  });
});

describe("pictures", () => {
  const request = { convId: "c", profile: "default", prompt: "hi", key: "k" };

  it("go along as attachments, and where there are none nothing is said of them", async () => {
    const pictures = [{ name: "a.png", mime: "image/png", data: "iVBO" }];
    const { api, calls } = server(() => json({ status: "started", run_id: "r" }));
    await api.chat({ ...request, pictures });
    await api.chat({ ...request, pictures: [] });
    const bodies = calls.map(({ init }) => JSON.parse(String(init.body)));
    expect(bodies[0].attachments).toEqual(pictures);
    expect(bodies[1]).not.toHaveProperty("attachments");
  });

  it("are given the time that they need", async () => {
    vi.useFakeTimers();
    const given = async (data: string) => {
      const start = Date.now();
      const api = new Api({ baseUrl: "/", cookies: () => "", fetch: unanswered });
      const chat = rejected(api.chat({ ...request, pictures: [{ name: "", mime: "", data }] }));
      await vi.runAllTimersAsync();
      expect((await chat).kind).toBe("network");
      return Date.now() - start;
    };
    expect(await given("x")).toBe(16_000);
    expect(await given("x".repeat(10_000_000))).toBe(116_000);
    vi.useRealTimers();
  });
});

describe("an answer to a call that asks", () => {
  it("goes to the call by its id, with the digest of what was seen", async () => {
    const { api, calls } = server(() => json({ status: "denied", call_id: "r:call:1" }));
    const answer = { convId: "c", callId: "r:call:1", digest: "d" };
    await api.approve({ ...answer, decision: "deny", reason: "no" });
    await api.approve({ ...answer, decision: "once" });
    expect(calls[0]?.url).toBe("/user/me/webchat/conversations/c/approvals/r%3Acall%3A1");
    expect(calls[0]?.init.method).toBe("POST");
    expect(calls[0]?.init.headers.get("X-XSRFToken")).toBe("2|abc");
    const bodies = calls.map(({ init }) => JSON.parse(String(init.body)));
    expect(bodies).toEqual([
      { decision: "deny", digest: "d", reason: "no" },
      { decision: "once", digest: "d" },
    ]);
  });

  it("that is stale is refused in the server's words", async () => {
    const { api } = server(() => json({ message: "Too late.", code: "stale_approval" }, 409));
    const answer = api.approve({ convId: "c", callId: "x", decision: "once", digest: "d" });
    expect(await rejected(answer)).toEqual({ kind: "http", message: "Too late.", code: "stale_approval" });
  });
});

describe("timeline", () => {
  it("reads the position from the headers", async () => {
    const { api, calls } = server(() =>
      json([{ id: "a" }], 200, {
        "X-Timeline-Version": "12",
        "X-Timeline-Epoch": "e",
        "X-Timeline-More": "true",
      }),
    );
    expect(await api.timeline({ convId: "c", since: 3, limit: 5 })).toEqual({
      rows: [{ id: "a" }],
      version: 12,
      epoch: "e",
      more: true,
    });
    expect(calls[0]?.url).toBe("/user/me/webchat/timeline?conv_id=c&since_version=3&limit=5");
  });

  it("takes no answer without a position for a timeline", async () => {
    expect((await rejected(server(() => json([])).api.timeline({ convId: "c" }))).kind).toBe("http");
    expect(
      (
        await rejected(
          server(() => json({}, 200, { "X-Timeline-Version": "1" })).api.timeline({ convId: "c" }),
        )
      ).kind,
    ).toBe("http");
  });
});

it("stop names the run, or none", async () => {
  const { api, calls } = server(() => json({}));
  await api.stop("c 1", "r");
  await api.stop("c");
  expect(calls.map(({ url, init }) => [url, init.body])).toEqual([
    ["/user/me/webchat/conversations/c%201/stop", '{"run_id":"r"}'],
    ["/user/me/webchat/conversations/c/stop", "{}"],
  ]);
});

it("lets a pause go on, by its id", async () => {
  const { api, calls } = server(() => json({ status: "continued", pause_id: "r:pause:1" }));
  await api.resume("c 1", "r:pause:1");
  expect(calls.map(({ url, init }) => [url, init.method, init.body])).toEqual([
    ["/user/me/webchat/conversations/c%201/pauses/r%3Apause%3A1", "POST", "{}"],
  ]);
  const ended = server(() => json({ message: "The run has ended.", code: "run_ended" }, 409));
  expect(await rejected(ended.api.resume("c", "p"))).toMatchObject({ kind: "http", code: "run_ended" });
});

describe("profiles", () => {
  it("are those that the conversation can use; one without a name is called by its slug", async () => {
    const said = [{ slug: "default", display_name: "Default" }, { slug: "sql" }, { display_name: "?" }, 7];
    const { api, calls } = server(() => json(said));
    expect(await api.profiles("c 1")).toEqual([
      { slug: "default", name: "Default" },
      { slug: "sql", name: "sql" },
    ]);
    expect(calls[0]?.url).toBe("/user/me/webchat/api/chat/profiles?conv_id=c+1");
    expect((await rejected(server(() => json({})).api.profiles("c"))).kind).toBe("http");
  });

  it("the browser's own is asked for and set", async () => {
    const { api, calls } = server(() => json({ slug: "sql" }));
    expect(await api.chosenProfile()).toBe("sql");
    await api.chooseProfile("default");
    expect(calls.map(({ url, init }) => [url, init.method, init.body])).toEqual([
      ["/user/me/webchat/api/chat/profile", undefined, undefined],
      ["/user/me/webchat/api/chat/profile", "POST", '{"slug":"default"}'],
    ]);
    expect((await rejected(server(() => json({})).api.chosenProfile())).kind).toBe("http");
  });
});

describe("a slow server", () => {
  it("is given up where it does not answer", async () => {
    const api = new Api({ baseUrl: "/", cookies: () => "", timeoutMs: 20, fetch: unanswered });
    expect((await rejected(api.health())).kind).toBe("network");
  });

  /** A real server, whose answer comes in `pieces`, one each 30 ms; after the last one it says no more. */
  async function slowly<T>(pieces: Uint8Array[], ends: boolean, ask: (api: Api) => Promise<T>): Promise<T> {
    const http = createServer((_, response) => {
      const names = { "X-Timeline-Version": "1", "X-Timeline-Epoch": "e", "X-Timeline-More": "false" };
      response.writeHead(200, { "Content-Type": "application/json", ...names });
      const left = [...pieces];
      const timer = setInterval(() => {
        const next = left.shift();
        if (next !== undefined) response.write(next);
        else if (ends) response.end();
      }, 30);
      response.on("close", () => clearInterval(timer));
    });
    await new Promise<void>((listening) => http.listen(0, "127.0.0.1", listening));
    const { port } = http.address() as AddressInfo;
    const api = new Api({
      baseUrl: "/",
      cookies: () => "",
      timeoutMs: 200,
      fetch: (path, init) => fetch(`http://127.0.0.1:${port}${path}`, init),
    });
    try {
      return await ask(api);
    } finally {
      http.closeAllConnections();
      http.close();
    }
  }

  it("may take its time while it goes on sending, in whatever pieces", async () => {
    const bytes = [...Buffer.from('[{"id": "é😀"}]')].map((byte) => Uint8Array.of(byte));
    const page = await slowly(bytes, true, (api) => api.timeline({ convId: "c" }));
    expect(page.rows).toEqual([{ id: "é😀" }]);
  });

  it("is given up where it falls silent in the middle", async () => {
    const { kind } = await slowly([Buffer.from("[{")], false, (api) =>
      rejected(api.timeline({ convId: "c" })),
    );
    expect(kind).toBe("network");
  });
});

/** A server that never answers. */
const unanswered: typeof fetch = (_url, init) =>
  new Promise((_resolve, reject) => {
    init?.signal?.addEventListener("abort", () => reject(new Error("aborted")));
  });
