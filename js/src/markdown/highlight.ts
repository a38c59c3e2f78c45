import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import julia from "highlight.js/lib/languages/julia";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import rust from "highlight.js/lib/languages/rust";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

/** A run of code in one colour; children nest. */
export type Highlighted = string | { readonly scope: string; readonly children: readonly Highlighted[] };

type Tree = { scope: string; children: Highlighted[] };

/** Collects a tree in place of highlight.js' HTML text. */
class TreeEmitter {
  readonly root: Tree = { scope: "", children: [] };
  readonly #stack: Tree[] = [this.root];

  get #top(): Tree {
    return this.#stack[this.#stack.length - 1] as Tree;
  }
  addText(text: string): void {
    if (text === "") return;
    const { children } = this.#top;
    const last = children.length - 1;
    if (typeof children[last] === "string") children[last] += text;
    else children.push(text);
  }
  startScope(scope: string): void {
    const node: Tree = { scope, children: [] };
    this.#top.children.push(node);
    this.#stack.push(node);
  }
  endScope(): void {
    if (this.#stack.length > 1) this.#stack.pop();
  }
  openNode(scope: string): void {
    this.startScope(scope);
  }
  closeNode(): void {
    this.endScope();
  }
  __addSublanguage(other: TreeEmitter): void {
    this.#top.children.push(...other.root.children);
  }
  finalize(): void {}
  toHTML(): string {
    return "";
  }
}

const core = hljs.newInstance();
core.configure({ __emitter: TreeEmitter } as unknown as Parameters<typeof core.configure>[0]);
const languages = {
  bash,
  cpp,
  diff,
  go,
  ini,
  javascript,
  json,
  julia,
  markdown,
  python,
  r,
  rust,
  shell,
  sql,
  typescript,
  xml,
  yaml,
};
for (const [name, language] of Object.entries(languages)) core.registerLanguage(name, language);
core.registerAliases(["ipython", "ipython3", "py3"], { languageName: "python" });
core.registerAliases("zsh", { languageName: "bash" });

const LIMIT = 40_000;

/** The code as coloured runs, or null where the language is unknown or the code too long to be worth it. */
export function highlight(code: string, language: string): readonly Highlighted[] | null {
  if (code.length > LIMIT || !core.getLanguage(language)) return null;
  const result = core.highlight(code, { language, ignoreIllegals: true });
  return (result as unknown as { _emitter: TreeEmitter })._emitter.root.children;
}
