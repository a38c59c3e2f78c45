import fc from "fast-check";
import { render } from "preact";
import { describe, expect, it } from "vitest";
import { HtmlTable } from "./HtmlTable";
import { tablesIn } from "./tables";

const texts = (html: string) =>
  tablesIn(html).map(({ head, body }) => [...head, ...body].map((row) => row.map((cell) => cell.text)));

function draw(html: string): HTMLElement {
  const into = document.createElement("div");
  render(
    tablesIn(html).map((table, at) => <HtmlTable key={at} table={table} />),
    into,
  );
  return into;
}

const FRAME = `<div><style scoped>.dataframe { color: red }</style><table border="1" class="dataframe">
  <thead><tr style="text-align: right;"><th></th><th>city</th><th>size</th></tr></thead>
  <tbody><tr><th>0</th><td>Rome</td><td>2.8</td></tr><tr><th>1</th><td>a<br>b</td><td>NaN</td></tr></tbody>
</table><p>2 rows × 2 columns</p></div>`;

describe("a table out of HTML", () => {
  it("has the cells of a DataFrame, and its numbers at the right", () => {
    expect(texts(FRAME)).toEqual([
      [
        ["", "city", "size"],
        ["0", "Rome", "2.8"],
        ["1", "a\nb", "NaN"],
      ],
    ]);
    const el = draw(FRAME);
    expect(el.querySelector("section")?.getAttribute("aria-label")).toBe("Table");
    expect([...el.querySelectorAll("thead th")].every((th) => th.getAttribute("scope") === "col")).toBe(true);
    expect(el.querySelector("tbody th")?.getAttribute("scope")).toBe("row");
    expect([...el.querySelectorAll(".wc-number")].map((each) => each.textContent)).toEqual([
      "size",
      "2.8",
      "NaN",
    ]);
  });

  it("has a caption, and several tables", () => {
    const el = draw(
      "<table><caption>One</caption><tr><td>1</td></tr></table><table><tr><td>2</td></tr></table>",
    );
    expect(el.querySelector("caption")?.textContent).toBe("One");
    expect(el.querySelectorAll("table")).toHaveLength(2);
  });

  it("is bounded, and says what it leaves out", () => {
    const row = `<tr>${"<td>1</td>".repeat(53)}</tr>`;
    const el = draw(`<table>${row.repeat(201)}</table>`);
    expect(el.querySelectorAll("tr")).toHaveLength(200);
    expect(el.querySelectorAll("tr:first-child td")).toHaveLength(50);
    expect(el.textContent).toContain("1 more row and 3 more columns");
  });

  it("spans no more than there is", () => {
    const [wide] = tablesIn(
      '<table><tr><td colspan="1000">a</td><td>b</td></tr><tr><td rowspan="9999">c</td></tr></table>',
    );
    expect(wide?.body[0]).toMatchObject([{ columns: 50, rows: 1 }]);
    expect(wide?.body[1]).toMatchObject([{ columns: 1, rows: 1 }]);
    expect(wide?.moreColumns).toBe(1);
    const row = '<tr><td rowspan="200" colspan="-3">x</td></tr>';
    const tall = tablesIn(`<table>${row.repeat(200)}</table>`)[0];
    const columns = tall?.body.flat().map((cell) => cell.column + cell.columns) ?? [];
    expect(Math.max(...columns)).toBeLessThanOrEqual(50);
  });

  it.each([
    ["no table", "<h1>Hi</h1><script>alert(1)</script>"],
    ["a table that is text", "&lt;table&gt;<p>x</p>"],
    ["nothing in it", "<table></table>"],
    ["more than can be read", `<table><tr><td>${"x".repeat(4_000_001)}</td></tr></table>`],
  ])("is none: %s", (_name, html) => expect(tablesIn(html)).toEqual([]));

  it("lets nothing through but text", () => {
    const el = draw(`<table onclick="alert(1)" id="x" style="position:fixed"><tr><td><script>alert(1)</script>
      <img src=x onerror=alert(1)><a href="javascript:alert(1)">a link</a><style>*{}</style>
      <table><tr><td>inner</td></tr></table></td><td>&lt;b&gt;</td></tr></table>`);
    expect([...el.querySelectorAll("td")].map((td) => td.textContent)).toEqual(["a link inner", "<b>"]);
    inspect(el);
  });

  it("also of what nobody thought of", () => {
    const bits = [
      "<table>", "</table>", "<tr>", "<td>", "<th rowspan=3>", "<td colspan=99>", "<thead>", "<tbody>", "<tfoot>",
      "<caption>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "text", "<td",
      "<template><table>", "<style>", "<!--", "-->", "<math><mtext>", "<form id=children><input name=children>",
    ]; // biome-ignore format: one line each would be long
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...bits), { maxLength: 25 }), (parts) => {
        inspect(draw(`<table>${parts.join("")}`));
      }),
      { numRuns: 300 },
    );
  });
});

function inspect(root: Element): void {
  for (const element of root.querySelectorAll("*")) {
    expect("SECTION DIV TABLE CAPTION THEAD TBODY TR TH TD").toContain(element.tagName);
    for (const { name } of element.attributes) {
      expect(["class", "tabindex", "aria-label", "scope", "colspan", "rowspan"]).toContain(
        name.toLowerCase(),
      );
    }
  }
}
