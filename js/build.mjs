// Builds the four files that the Python package ships. Sizes are printed, and a bundle over its budget fails
// the build: the whole text of widget.js is synced to the page once per widget.
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const outdir = here("../webchat_widget/static");
const budgets = { "widget.js": 250_000, "page.js": 250_000, "math.js": 250_000, "widget.css": 40_000 };

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
};
const builds = [
  { ...common, outfile: `${outdir}/widget.js`, entryPoints: [here("src/widget.tsx")] },
  { ...common, outfile: `${outdir}/page.js`, entryPoints: [here("src/page.tsx")] },
  { ...common, outfile: `${outdir}/math.js`, entryPoints: [here("src/math.ts")] },
  { ...common, outfile: `${outdir}/widget.css`, entryPoints: [here("src/styles/webchat.css")] },
];

function report() {
  let over = false;
  for (const [name, budget] of Object.entries(budgets)) {
    const size = statSync(`${outdir}/${name}`).size;
    const zipped = gzipSync(readFileSync(`${outdir}/${name}`)).length;
    over ||= size > budget;
    const verdict = size > budget ? `OVER the budget of ${budget}` : `of ${budget}`;
    console.log(`${name.padEnd(11)} ${String(size).padStart(7)} bytes ${verdict} (${zipped} gzipped)`);
  }
  if (over) process.exit(1);
}

if (process.argv.includes("--watch")) {
  for (const options of builds) await (await esbuild.context({ ...options, minify: false })).watch();
} else {
  if (!process.argv.includes("--size")) {
    mkdirSync(outdir, { recursive: true });
    await Promise.all(builds.map((options) => esbuild.build(options)));
  }
  report();
}
