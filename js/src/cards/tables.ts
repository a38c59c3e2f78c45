/** A table out of HTML, as plain data: what is drawn is made anew from it. */
export interface TableData {
  readonly caption: string;
  readonly head: readonly Cell[][];
  readonly body: readonly Cell[][];
  readonly moreRows: number;
  readonly moreColumns: number;
}

export interface Cell {
  readonly text: string;
  readonly header: boolean;
  readonly column: number;
  readonly columns: number;
  readonly rows: number;
  /** It stands in a column of numbers. */
  numeric: boolean;
}

const ROWS = 200;
const COLUMNS = 50;
const TABLES = 5;
const CHARS = 1000;
const LONGEST = 4_000_000;

const SILENT = new Set(["SCRIPT", "STYLE", "TEMPLATE", "NOSCRIPT", "TITLE"]);
const NUMBER = /^[-+−]?(?:[\d.,'_\u202f ]+(?:e[-+]?\d+)?%?|nan|inf|<na>|none|nat)$/i;

/**
 * The tables in a piece of HTML. It is read into a document that is shown nowhere, where nothing runs and nothing is
 * fetched, and only texts and spans are taken out of that. Empty where there is none.
 */
export function tablesIn(html: string): TableData[] {
  if (html.length > LONGEST || !/<table[\s>]/i.test(html)) return [];
  const page = new DOMParser().parseFromString(html, "text/html");
  const outer = [...page.querySelectorAll("table")].filter((table) => !table.parentElement?.closest("table"));
  return outer.slice(0, TABLES).flatMap((table) => {
    const read = readTable(table);
    return read.head.length + read.body.length > 0 ? [read] : [];
  });
}

function readTable(table: HTMLTableElement): TableData {
  const children = [...table.children];
  const caption = children.find((child) => child.tagName === "CAPTION");
  const rows = children.flatMap((part) => {
    const section = /^(THEAD|TBODY|TFOOT)$/.test(part.tagName);
    return section ? [...part.children].map((row) => ({ row, inHead: part.tagName === "THEAD" })) : [];
  });
  const lines = rows.filter(({ row }) => row.tagName === "TR");
  const shown = lines.slice(0, ROWS);
  const grid = new Grid(shown.length);
  const head: Cell[][] = [];
  const body: Cell[][] = [];
  for (const { row, inHead } of shown) {
    const cells = [...row.children].filter(({ tagName }) => tagName === "TD" || tagName === "TH");
    (inHead ? head : body).push(grid.row(cells));
  }
  markNumbers([...head, ...body]);
  const moreRows = lines.length - shown.length;
  return { caption: caption ? textOf(caption) : "", head, body, moreRows, moreColumns: grid.moreColumns };
}

/** Gives each cell its column, as the spans of those before it leave room. */
class Grid {
  moreColumns = 0;
  readonly #rows: number;
  /** For each column, the first row in which it is free again. */
  readonly #free = new Array<number>(COLUMNS).fill(0);
  #row = 0;

  constructor(rows: number) {
    this.#rows = rows;
  }

  row(elements: readonly Element[]): Cell[] {
    const cells: Cell[] = [];
    let column = 0;
    let left = 0;
    for (const element of elements) {
      while (column < COLUMNS && (this.#free[column] as number) > this.#row) column += 1;
      if (column >= COLUMNS) {
        left += 1;
        continue;
      }
      let columns = 1;
      const wanted = span(element, "colspan", COLUMNS - column);
      while (columns < wanted && (this.#free[column + columns] as number) <= this.#row) columns += 1;
      const rows = span(element, "rowspan", this.#rows - this.#row);
      this.#free.fill(this.#row + rows, column, column + columns);
      const header = element.tagName === "TH";
      cells.push({ text: textOf(element), header, column, columns, rows, numeric: false });
      column += columns;
    }
    this.moreColumns = Math.max(this.moreColumns, left);
    this.#row += 1;
    return cells;
  }
}

function span(element: Element, name: string, most: number): number {
  const wanted = Number.parseInt(element.getAttribute(name) ?? "", 10);
  return Number.isFinite(wanted) ? Math.min(Math.max(1, wanted), Math.max(1, most)) : 1;
}

/** A column whose values are all numbers stands at its right end, names and all. */
function markNumbers(rows: readonly Cell[][]): void {
  const others = new Set<number>();
  const numbers = new Set<number>();
  for (const cell of rows.flat()) {
    if (cell.header || cell.text === "") continue;
    (NUMBER.test(cell.text) ? numbers : others).add(cell.column);
  }
  for (const cell of rows.flat()) {
    cell.numeric = cell.columns === 1 && numbers.has(cell.column) && !others.has(cell.column);
  }
}

/** The text that a person would see in an element, a few lines at most. */
function textOf(element: Element): string {
  const parts: string[] = [];
  let length = 0;
  const visit = (node: Node): void => {
    if (length > CHARS) return;
    if (node.nodeType === Node.TEXT_NODE) {
      const text = (node.nodeValue ?? "").replace(/\s+/g, " ");
      parts.push(text);
      length += text.length;
    }
    if (node.nodeType !== Node.ELEMENT_NODE || SILENT.has((node as Element).tagName)) return;
    if ((node as Element).tagName === "BR") parts.push("\n");
    for (const child of node.childNodes) visit(child);
    if (/^(P|DIV|LI|TR|TD|TH)$/.test((node as Element).tagName)) parts.push(" ");
  };
  for (const child of element.childNodes) visit(child);
  const text = parts
    .join("")
    .replace(/ *\n */g, "\n")
    .replace(/ {2,}/g, " ")
    .trim();
  return text.length > CHARS ? `${text.slice(0, CHARS)}…` : text;
}
