// @vitest-environment node
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Api } from "./api";
import type { ApiError, ChatRequest } from "./replies";

interface Accepted {
  name: string;
  method: string;
  path: string;
  body: unknown;
  status: number;
  send?: ChatRequest;
  outcome?: "started" | "queued";
}

interface Refused {
  name: string;
  status: number;
  code: string;
}

const golden = JSON.parse(
  readFileSync(new URL("../../../tests/contract/http.json", import.meta.url), "utf8"),
) as { accepted: Accepted[]; refused: Refused[] };

const prompt: ChatRequest = { convId: "c", profile: "default", prompt: "hello", key: "k" };

function answering(status: number, body: unknown) {
  const sent: { path: string; method: string | undefined; body: unknown }[] = [];
  const api = new Api({
    baseUrl: "/",
    cookies: () => "_xsrf=x",
    fetch: async (url, init) => {
      const path = String(url).replace("/webchat/", "");
      sent.push({ path, method: init?.method, body: JSON.parse(String(init?.body)) });
      return new Response(JSON.stringify(body), { status });
    },
  });
  return { api, sent };
}

describe("the golden bodies, as the server is held to them too", () => {
  const sendable = golden.accepted.filter((each) => each.send !== undefined);

  it("holds a body that this page sends", () => expect(sendable.length).toBeGreaterThan(0));

  it.each(sendable)("sends: $name", async ({ send, outcome, status, ...expected }) => {
    const reply = { status: outcome, run_id: "r", conv_id: "c", turn_id: "r:turn", idempotency_key: "k" };
    const { api, sent } = answering(status, reply);
    expect(await api.chat(send as ChatRequest)).toMatchObject({ status: outcome, runId: "r" });
    expect(sent).toEqual([{ path: expected.path, method: expected.method, body: expected.body }]);
  });

  it.each(golden.refused)("understands: $name", async ({ status, code }) => {
    const { api } = answering(status, { message: "A sentence.", reason: "Reason", code });
    const error: ApiError = await api.chat(prompt).then(
      () => expect.unreachable("it was refused"),
      (reason: ApiError) => reason,
    );
    expect(error).toMatchObject({ kind: "http", message: "A sentence.", status, code });
  });
});
