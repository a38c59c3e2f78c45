import fc from "fast-check";
import { render } from "preact";
import { describe, expect, it } from "vitest";
import { Markdown } from "./Markdown";

const ELEMENTS = new Set(
  "DIV SECTION P H1 H2 H3 H4 H5 H6 UL OL LI BLOCKQUOTE HR BR STRONG EM DEL CODE PRE SPAN A TABLE THEAD TBODY TR TH TD INPUT BUTTON svg path".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "class href target rel title start type checked disabled tabindex role aria-label aria-hidden data-part data-tex viewBox d key".split(
    " ",
  ),
);

/** Everything that may stand in what a stranger's text was drawn to; throws with what may not. */
function inspect(root: Element): void {
  for (const element of root.querySelectorAll("*")) {
    if (!ELEMENTS.has(element.tagName)) throw new Error(`element ${element.tagName}`);
    for (const { name, value } of element.attributes) {
      if (!ATTRIBUTES.has(name)) throw new Error(`attribute ${name}=${value} on ${element.tagName}`);
      if (name === "href") {
        expect(["http:", "https:", "mailto:"]).toContain(new URL(value).protocol);
        expect(element.getAttribute("rel")).toBe("noopener noreferrer nofollow");
        expect(element.getAttribute("target")).toBe("_blank");
      }
    }
  }
}

function draw(text: string, streaming = false): HTMLElement {
  const into = document.createElement("div");
  render(<Markdown text={text} streaming={streaming} />, into);
  return into;
}

const CORPUS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)><animate onbegin=alert(1) attributeName=x>",
  "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
  "<a href=javascript:alert(1)>x</a>",
  "<form id=body name=cookie><input name=attributes></form>",
  "<style>@import 'https://evil.example'</style>",
  "<base href=https://evil.example/>",
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
  "<!--><img src=x onerror=alert(1)>-->",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](javascript&#58;alert(1))",
  "[x](&#x6A;avascript:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x](<java\nscript:alert(1)>)",
  "[x](\u0001javascript:alert(1))",
  "[x](javascript&colon;alert&lpar;1&rpar;)",
  "[x](java&NewLine;script:alert(1))",
  "[x](vbscript:msgbox(1))",
  "[x](data:text/html;base64,PHNjcmlwdD4=)",
  "[x](data:image/svg+xml,<svg onload=alert(1)>)",
  "[x](file:///etc/passwd)",
  "[x](blob:https://example.com/1)",
  "[x](//evil.example/x)",
  "[x](/api/shutdown)",
  "[x](../tree)",
  "[x](#body)",
  "[x](https://user:pass@example.com 'title\" onmouseover=\"alert(1)')",
  "[x]: javascript:alert(1)\n\n[x]",
  "[__proto__]: https://a.example\n\n[__proto__] [constructor]",
  "<javascript:alert(1)>",
  '<https://example.com/"onclick=alert(1)>',
  "![x](javascript:alert(1))",
  "![x](data:image/png;base64,iVBORw0KGgo=)",
  "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
  "![x](https://evil.example/track.gif?me)",
  "[![x](https://evil.example/a.png)](javascript:alert(1))",
  "![x][r]\n\n[r]: https://evil.example/b.png",
  '```"><img src=x onerror=alert(1)>\ncode</code></pre><script>alert(1)</script>\n```',
  "```html\n<img src=x onerror=alert(1)>\n```",
  "``` constructor\nx\n```",
  "| <img src=x onerror=alert(1)> |\n|--|\n| [x](javascript:alert(1)) |",
  "# <h1 id=x name=y>",
  "- <li onclick=alert(1)>\n  - [x](javascript:alert(1))",
  "$\\href{javascript:alert(1)}{x}$",
  "$$<img src=x onerror=alert(1)>$$",
  "\\[ </span><script>alert(1)</script> \\]",
  "**<b onclick=alert(1)>**",
  "www.example.com mailto:a@b.c a@b.example xss://x",
  "\u202Ejavascript:alert(1)\u202C",
  "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(1)&#62;",
  "[a](https://example.com/?q=<script>) [b](https:javascript:alert(1))",
  "<details open ontoggle=alert(1)>",
  "\\<script>alert(1)</script>",
];

describe("a stranger's text", () => {
  it.each(CORPUS)("%j stays within the allow-list, whole and at every cut", (text) => {
    for (let end = 1; end <= text.length; end += 1) inspect(draw(text.slice(0, end), true));
    inspect(draw(text));
  });

  it("stays within it in any mixture", () => {
    const soup = fc.array(fc.oneof(fc.constantFrom(...CORPUS), fc.string({ maxLength: 12 })), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(soup, fc.constantFrom("", " ", "\n", "\n\n", "\n> ", "\n- "), (parts, glue) =>
        inspect(draw(parts.join(glue))),
      ),
      { numRuns: 1500 },
    );
  }, 120_000);

  it("shows raw HTML as the text that it is", () => {
    expect(draw("a <b onclick='x'>bold</b> <script>1</script>").textContent).toBe(
      "a <b onclick='x'>bold</b> <script>1</script>",
    );
    expect(draw("<div>\n*x*\n</div>").textContent).toContain("<div>");
  });

  it("has links only where an address leads somewhere", () => {
    const links = (text: string) =>
      [...draw(text).querySelectorAll("a")].map((link) => link.getAttribute("href"));
    expect(links("[a](https://example.com/x) <mailto:a@b.c> [b](/x) [c](javascript:1) [d](//x)")).toEqual([
      "https://example.com/x",
      "mailto:a@b.c",
    ]);
  });

  it("fetches no image without a click", async () => {
    const root = draw("![chart](https://example.com/a.png)");
    expect(root.querySelector("img")).toBeNull();
    const chip = root.querySelector("button");
    expect(chip?.textContent).toContain("Load image from example.com");
    chip?.click();
    await new Promise((resolve) => setTimeout(resolve));
    expect(root.querySelector("img")?.getAttribute("src")).toBe("https://example.com/a.png");
    expect(root.querySelector("img")?.getAttribute("referrerpolicy")).toBe("no-referrer");
    expect(draw("![x](data:image/png;base64,iVBORw0KGgo=)").querySelector("button, img")).toBeNull();
  });
});
