import type { Cell, TableData } from "./tables";

/** A table that was HTML once, drawn from its data. */
export function HtmlTable({ table }: { table: TableData }) {
  const { caption, head, body, moreRows, moreColumns } = table;
  const more = [count(moreRows, "row"), count(moreColumns, "column")].filter((each) => each !== "");
  return (
    <>
      <section class="wc-table" tabIndex={0} aria-label={caption || "Table"}>
        <table>
          {caption !== "" && <caption>{caption}</caption>}
          {head.length > 0 && <thead>{head.map((cells, at) => row(cells, at, "col"))}</thead>}
          <tbody>{body.map((cells, at) => row(cells, at, "row"))}</tbody>
        </table>
      </section>
      {more.length > 0 && <div class="wc-label">{more.join(" and ")}</div>}
    </>
  );
}

function row(cells: readonly Cell[], key: number, scope: "col" | "row") {
  return (
    <tr key={key}>
      {cells.map((cell, at) => {
        const spans = {
          colSpan: cell.columns > 1 ? cell.columns : undefined,
          rowSpan: cell.rows > 1 ? cell.rows : undefined,
          class: cell.numeric ? "wc-number" : undefined,
        };
        return cell.header ? (
          <th key={at} scope={scope} {...spans}>
            {cell.text}
          </th>
        ) : (
          <td key={at} {...spans}>
            {cell.text}
          </td>
        );
      })}
    </tr>
  );
}

function count(more: number, what: string): string {
  if (more === 0) return "";
  return `${more.toLocaleString()} more ${what}${more === 1 ? "" : "s"}`;
}
