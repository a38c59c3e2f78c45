// Builds the four files that the Python package ships. Sizes are printed, and a bundle over its budget fails
// the build: the whole text of widget.js is synced to the page once per widget.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const outdir = here("../webchat_widget/static");
const budgets = {
  "widget.js": 250_000,
  "page.js": 250_000,
  "math.js": 250_000,
  "widget.css": 40_000,
};

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // THIRD_PARTY_LICENSES.txt lies beside the bundles
  metafile: true,
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

/** The licences of all packages of which something is in a bundle. */
function licenses(results) {
  const inputs = results.flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  const texts = [...new Set(names.filter(Boolean))].sort().map((name) => {
    const folder = here(`node_modules/${name}/`);
    const { version } = JSON.parse(readFileSync(`${folder}package.json`, "utf8"));
    const file = readdirSync(folder).find((each) => /^licen[sc]e/i.test(each));
    if (!file) throw new Error(`${name} has no licence file`);
    return `${name} ${version}\n\n${readFileSync(folder + file, "utf8").trim()}\n`;
  });
  const rule = `\n${"-".repeat(80)}\n\n`;
  writeFileSync(`${outdir}/THIRD_PARTY_LICENSES.txt`, texts.join(rule));
}

if (process.argv.includes("--watch")) {
  for (const options of builds) await (await esbuild.context({ ...options, minify: false })).watch();
} else {
  if (!process.argv.includes("--size")) {
    mkdirSync(outdir, { recursive: true });
    licenses(await Promise.all(builds.map((options) => esbuild.build(options))));
  }
  report();
}
