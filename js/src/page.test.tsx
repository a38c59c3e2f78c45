import { afterAll, beforeAll, beforeEach, expect, it, vi } from "vitest";

const asked: [string, string | undefined][] = [];
let chosen: () => Response;

const select = () => document.querySelector<HTMLSelectElement>("[data-part=profile-select]");
const posts = () => asked.filter(([, body]) => body !== undefined);
const search = () => new URL(location.href).searchParams;

/** Opens the page at an address, as a browser does: everything of it is new. */
async function open(query: string): Promise<void> {
  history.replaceState(null, "", `/webchat/${query}`);
  document.body.innerHTML = "";
  const root = document.createElement("div");
  root.id = "webchat-page";
  document.body.append(root);
  vi.resetModules();
  await import("./page");
  await vi.waitFor(() => expect(select()).not.toBeNull());
}

function choose(slug: string): void {
  const field = select() as HTMLSelectElement;
  field.value = slug;
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

class Socket extends EventTarget {
  constructor() {
    super();
    const event = { type: "ws.hello", id: "ws.hello:c", data: { protocol: 1, epoch: "e", version: 0 } };
    const data = JSON.stringify({ sem: true, n: 1, event });
    queueMicrotask(() => this.dispatchEvent(Object.assign(new Event("message"), { data })));
  }
  close(): void {}
}

beforeAll(() => {
  (globalThis as { happyDOM?: { setURL(url: string): void } }).happyDOM?.setURL("http://localhost/webchat/");
  vi.stubGlobal("WebSocket", Socket);
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    asked.push([url, init.body as string | undefined]);
    if (url.includes("api/chat/profiles"))
      return Response.json([
        { slug: "default", display_name: "Default" },
        { slug: "sql", display_name: "SQL helper" },
      ]);
    if (url.includes("api/chat/profile")) return init.body ? Response.json({}) : chosen();
    if (url.includes("health"))
      return Response.json({ webchat: true, version: "1", protocol: 1, engine: "demo", model: null });
    if (url.includes("timeline"))
      return Response.json([], { headers: { "X-Timeline-Version": "0", "X-Timeline-Epoch": "e" } });
    return Response.json({ status: "started", run_id: "r" });
  });
});

beforeEach(() => {
  asked.length = 0;
  chosen = () => Response.json({ slug: "sql" });
});

afterAll(() => vi.unstubAllGlobals());

it("goes on with the profile that this browser chose, and remembers another choice", async () => {
  await open("?conv_id=c");
  expect(select()?.value).toBe("sql");
  choose("default");
  const remembered = ["/webchat/api/chat/profile", '{"slug":"default"}'];
  await vi.waitFor(() => expect(posts()).toEqual([remembered]));
  expect(search().has("profile")).toBe(false);
  document.querySelector<HTMLElement>("[data-part=suggestion]")?.click();
  await vi.waitFor(() => expect(posts().at(-1)?.[0]).toBe("/webchat/chat/default"));
});

it("takes the one that the address names, which follows the choice", async () => {
  await open("?conv_id=c2&profile=default");
  expect(select()?.value).toBe("default");
  expect(asked.some(([url]) => url.endsWith("api/chat/profile"))).toBe(false);
  choose("sql");
  expect(search().get("profile")).toBe("sql");
  expect(search().get("conv_id")).toBe("c2");
});

it("begins with the default one where the server can't say", async () => {
  chosen = () => new Response("", { status: 404 });
  await open("?conv_id=c3");
  expect(select()?.value).toBe("default");
});
