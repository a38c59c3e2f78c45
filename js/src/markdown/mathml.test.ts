import { describe, expect, it } from "vitest";
import { copyFormula } from "./mathml";

const MATHML = "http://www.w3.org/1998/Math/MathML";

function element(
  name: string,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): Element {
  const made = document.createElementNS(MATHML, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

describe("the copy of a formula", () => {
  it("holds MathML and its own attributes", () => {
    const from = element(
      "div",
      {},
      element("math", { display: "block" }, element("mi", { mathvariant: "bold" }, "x")),
    );
    const [math] = copyFormula(from) as Element[];
    expect(math?.namespaceURI).toBe(MATHML);
    expect(math?.getAttribute("display")).toBe("block");
    expect(math?.firstElementChild?.getAttribute("mathvariant")).toBe("bold");
    expect(math?.textContent).toBe("x");
  });

  it("leaves out ids, handlers, addresses, and elements of other kinds", () => {
    const nasty = element("mrow", {
      id: "body",
      onclick: "x",
      href: "javascript:1",
      style: "background:url(https://evil.example)",
    });
    nasty.append(element("script", {}, "x"), document.createElement("img"));
    const [row] = copyFormula(element("div", {}, nasty)) as Element[];
    expect(row?.attributes).toHaveLength(0);
    expect(row?.childElementCount).toBe(0);
    expect(
      copyFormula(element("div", {}, element("mrow", { style: "position:fixed" })))[0],
    ).not.toHaveProperty("style.position", "fixed");
  });
});
