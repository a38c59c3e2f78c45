// @vitest-environment node
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const src = dirname(fileURLToPath(import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((path) => /\.tsx?$/.test(path) && !/\.test\.|^testing\//.test(path))
  .map((path) => ({ path, text: readFileSync(join(src, path), "utf8") }));

/** What a file imports of ours at run time: types leave no trace. */
function imports({ path, text }: { path: string; text: string }): string[] {
  const found = text.matchAll(/^(?:import|export)\s+(?!type\b)[^"';]*?from\s+"(\.[^"]+)";/gms);
  return [...found].map((match) => relative(src, normalize(join(src, dirname(path), match[1] as string))));
}

/** Who may import whom; a folder may always import itself. */
const ALLOWED: Record<string, string[]> = {
  timeline: [],
  http: [],
  markdown: [],
  "ws/backoff": [],
  "ws/hydrationGate": [],
  sem: ["timeline"],
  transport: ["http", "ids", "modules"],
  "renderers/draw": [],
  renderers: ["http", "modules", "transport/line"],
  ws: ["sem", "timeline", "transport/transport"],
  session: ["ws", "sem", "timeline", "transport/transport", "ids"],
  cards: ["view", "timeline", "renderers/draw"],
  view: ["cards", "markdown", "session", "timeline"],
};

describe("the dependency rule", () => {
  it.each(Object.keys(ALLOWED))("%s", (part) => {
    const allowed = [part, ...(ALLOWED[part] ?? [])];
    const mine = files.filter(({ path }) => path === `${part}.ts` || path.startsWith(`${part}/`));
    expect(mine).not.toHaveLength(0);
    const broken = mine.flatMap((file) =>
      imports(file)
        .filter((target) => !allowed.some((each) => target === each || target.startsWith(`${each}/`)))
        .map((target) => `${file.path} imports ${target}`),
    );
    expect(broken).toEqual([]);
  });

  it("the middle is pure: no clock, no timer, no network in timeline, sem and the gate", () => {
    const pure = files.filter(({ path }) => /^(timeline|sem)\/|hydrationGate/.test(path));
    for (const { path, text } of pure) {
      expect([
        path,
        /\b(setTimeout|setInterval|Date\.now|fetch|WebSocket|Math\.random)\b\s*\(/.test(text),
      ]).toEqual([path, false]);
    }
  });
});

it("no HTML is ever made of text, and no text becomes code but what a kernel was asked for", () => {
  const ways =
    /\b(innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|srcdoc|eval|createContextualFragment)\b|new Function\b/;
  expect(files.filter(({ text }) => ways.test(text)).map(({ path }) => path)).toEqual([]);
  // HTML is read in one place, into a document that is never shown, and what leaves it is plain data
  const parsing = files.filter(({ text }) => /\bDOMParser\b/.test(text));
  expect(parsing.map(({ path }) => path)).toEqual(["cards/tables.ts"]);
  expect(parsing.flatMap(imports)).toEqual([]);
  // text becomes a module in one place, for those two who have it from a kernel that they asked
  const running = files.filter(({ text }) => /\bcreateObjectURL\b|\bdata:text\/javascript\b/.test(text));
  expect(running.map(({ path }) => path)).toEqual(["modules.ts"]);
  const users = files.filter((file) => imports(file).includes("modules"));
  expect(users.map(({ path }) => path).sort()).toEqual(["renderers/renderers.ts", "transport/comm.ts"]);
});
