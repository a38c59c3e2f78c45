import fc from "fast-check";
import { render } from "preact";
import { describe, expect, it } from "vitest";
import { markdownText } from "../testing/markdownTexts";
import { Markdown } from "./Markdown";

function draw(...texts: string[]): HTMLElement {
  const into = document.createElement("div");
  for (const [at, text] of texts.entries()) {
    render(<Markdown text={text} streaming={at < texts.length - 1} />, into);
  }
  return into;
}

/** Elements, attributes in any order, and text that lies together: what a person gets. */
function shape(node: Node): unknown {
  if (node.nodeType === Node.TEXT_NODE) return node.nodeValue;
  const element = node as HTMLElement;
  const attributes = [...element.attributes].map(({ name, value }) => `${name}=${value}`).sort();
  const children: unknown[] = [];
  for (const child of element.childNodes) {
    const next = shape(child);
    const last = children.length - 1;
    if (typeof next === "string" && typeof children[last] === "string") children[last] += next;
    else if (next !== "") children.push(next);
  }
  return [element.localName, attributes, (element as HTMLInputElement).checked ?? null, children];
}

describe("a text that streams", () => {
  it("ends as the same elements, wherever it was cut", () => {
    fc.assert(
      fc.property(markdownText, fc.array(fc.nat(), { maxLength: 12 }), (text, cuts) => {
        const ends = cuts.map((at) => at % (text.length + 1)).sort((a, b) => a - b);
        const grown = draw(...ends.map((end) => text.slice(0, end)), text);
        expect(shape(grown)).toEqual(shape(draw(text)));
      }),
      { numRuns: Number(process.env.WEBCHAT_TEXTS ?? 400) },
    );
  }, 120_000);

  it("ends the same when it comes character by character", () => {
    const text =
      "# A\n\nSee [ref] and $x$.\r\n\r\n- one\n\n- two\n\n```py\na\n\nb\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[ref]: https://example.com\n\nEnd **bold**.";
    const steps = Array.from(text, (_, at) => text.slice(0, at + 1));
    expect(shape(draw(...steps))).toEqual(shape(draw(text)));
    expect(draw(text).querySelector("a")?.href).toBe("https://example.com/");
  });

  it("leaves the elements of finished segments alone", () => {
    const into = document.createElement("div");
    render(<Markdown text={"first\n\nsecond"} streaming={true} />, into);
    const first = into.querySelector("p");
    const seen: MutationRecord[] = [];
    const observer = new MutationObserver((records) => seen.push(...records));
    observer.observe(first as Node, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
    });
    render(<Markdown text={"first\n\nsecond grows\n\nthird"} streaming={true} />, into);
    expect(into.querySelector("p")).toBe(first);
    expect([...seen, ...observer.takeRecords()]).toEqual([]);
  });

  it("begins again when the text is another one", () => {
    expect(shape(draw("old text\n\nand more", "new"))).toEqual(shape(draw("new")));
  });
});

describe("what Markdown becomes", () => {
  const text = (source: string) => draw(source).textContent;
  const first = (source: string, what: string) => draw(source).querySelector(what);

  it("headings, lists, tasks, tables, quotes, code", () => {
    expect(first("## T", "h2")?.textContent).toBe("T");
    expect(draw("1. a\n2. b").querySelectorAll("ol > li")).toHaveLength(2);
    expect(first("4. a\n5. b", "ol")?.getAttribute("start")).toBe("4");
    expect(draw("- [x] a\n- [ ] b").querySelectorAll("input:disabled")).toHaveLength(2);
    expect(first("| a |\n|--:|\n| 1 |", ".wc-scroll td.wc-right")?.textContent).toBe("1");
    expect(first("> a", "blockquote p")?.textContent).toBe("a");
    expect(first("```python\nx = 1\n```", ".wc-code-lang")?.textContent).toBe("python");
    expect(first("```python\nimport x\n```", ".wc-h-keyword")?.textContent).toBe("import");
    expect(first("```nonsense\nimport x\n```", "pre")?.textContent).toBe("import x");
  });

  it("character references, outside of code only", () => {
    expect(text("a &amp; b &lt;c&gt; &#33; &nope; `&amp;`")).toBe("a & b <c> ! &nope; &amp;");
  });

  it.each([
    ["$x^2$", "x^2"],
    ["\\(a_b*c*d\\)", "a_b*c*d"],
    ["a $*x$ and $y*$ b", "*x"],
    ["$$\na\n+ b\n$$", "a\n+ b"],
    ["text\n\\[\nc\n\\]\nmore", "c"],
    ["- item $\\frac{1}{2}$", "\\frac{1}{2}"],
  ])("%j holds a formula", (source, tex) => {
    expect(first(source, ".wc-math")?.getAttribute("data-tex")).toBe(tex);
  });

  it.each([
    "$5 and $10",
    "costs $5-$10",
    "$ x $",
    "`$x$`",
    "US$5, or 10$ more",
    "\\$x\\$",
    "$20 (twenty dollars) or so$",
    "$",
  ])("%j holds none", (source) => {
    expect(first(source, ".wc-math")).toBeNull();
  });
});
