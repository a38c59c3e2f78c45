import { describe, expect, it } from "vitest";

// the typesetter refuses pages without a doctype, and the test page has none
Object.defineProperty(document, "compatMode", { value: "CSS1Compat" });
// nor do its MathML elements have a style
Object.defineProperty(Element.prototype, "style", { get: () => ({}), configurable: true });
const { typeset } = await import("./math");

const draw = (source: string, display = false) => {
  const into = document.createElement("span");
  typeset(source, display, into);
  return into;
};

describe("the typesetter", () => {
  it("draws MathML", () => {
    expect(draw("\\frac{1}{2}").querySelector("math mfrac")).not.toBeNull();
    expect(draw("x", true).querySelector("math")?.getAttribute("display")).toBe("block");
  });

  it.each([
    "\\href{javascript:alert(1)}{x}",
    "\\url{https://evil.example}",
    "\\includegraphics{https://evil.example/a.png}",
    "\\class{a}{x}",
    "\\id{body}{x}",
    "\\data{a=b}{x}",
    "\\frac{",
    "\\nope",
    "\\def\\x{\\x\\x}\\x",
  ])("refuses %s", (source) => {
    expect(() => draw(source)).toThrow();
  });

  it.each([
    "\\label{body} x",
    "\\begin{equation}\\label{cookie} x \\tag{1}\\end{equation}",
    "\\ref{body}",
    "\\style{position:fixed;top:0}{x}",
    "\\text{<img src=x onerror=alert(1)>}",
  ])("gives no id, no link and no handler to %s", (source) => {
    let drawn: HTMLElement;
    try {
      drawn = draw(source, true);
    } catch {
      return;
    }
    for (const element of drawn.querySelectorAll("*")) {
      expect(
        ["id", "name", "href", "src", "onclick", "onerror"].filter((name) => element.hasAttribute(name)),
      ).toEqual([]);
      expect(element.getAttribute("style") ?? "").not.toContain("position");
      expect(["a", "img", "script", "iframe"]).not.toContain(element.localName);
    }
  });
});
