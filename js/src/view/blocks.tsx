import type { MarkedToken, Token, Tokens } from "marked";
import type { ComponentChild } from "preact";
import { decodeEntities } from "../markdown/entities";
import type { MathToken } from "../markdown/math";
import { safeLink } from "../markdown/urls";
import { CodeBlock } from "./CodeBlock";
import { Formula } from "./Formula";
import { RemoteImage } from "./RemoteImage";

/**
 * The allow-list: what is not named here becomes text. No element gets an `id`, a `name`, a `style` or a handler
 * from a text, and no address that `safeLink` did not pass.
 */
export function Blocks({ tokens, growing = false }: { tokens: readonly Token[]; growing?: boolean }) {
  return <>{tokens.map((token, at) => block(token, at, growing && at === tokens.length - 1))}</>;
}

function block(token: Token, key: number, growing: boolean): ComponentChild {
  const known = token as MarkedToken | MathToken;
  switch (known.type) {
    case "space":
    case "def":
      return null;
    case "paragraph":
      return <p key={key}>{inline(known.tokens)}</p>;
    case "heading": {
      const Heading = `h${Math.min(6, Math.max(1, known.depth))}` as "h1";
      return <Heading key={key}>{inline(known.tokens)}</Heading>;
    }
    case "code":
      return <CodeBlock key={key} code={known.text} language={known.lang ?? ""} growing={growing} />;
    case "blockquote":
      return (
        <blockquote key={key}>
          <Blocks tokens={known.tokens} growing={growing} />
        </blockquote>
      );
    case "list":
      return list(known, key, growing);
    case "table":
      return table(known, key);
    case "hr":
      return <hr key={key} />;
    case "math":
      return <Formula key={key} source={known.text} display={true} />;
    case "checkbox":
      return <input key={key} type="checkbox" checked={known.checked} disabled aria-label="done" />;
    case "text":
      return known.tokens ? <span key={key}>{inline(known.tokens)}</span> : decodeEntities(known.text);
    default:
      return inlineToken(token, key);
  }
}

function list(token: Tokens.List, key: number, growing: boolean) {
  const items = token.items.map((item, at) => (
    <li key={at} class={item.task ? "wc-task" : undefined}>
      <Blocks tokens={item.tokens} growing={growing && at === token.items.length - 1} />
    </li>
  ));
  if (!token.ordered) return <ul key={key}>{items}</ul>;
  const start = typeof token.start === "number" && token.start !== 1 ? token.start : undefined;
  return (
    <ol key={key} start={start}>
      {items}
    </ol>
  );
}

function table(token: Tokens.Table, key: number) {
  const cell = (each: Tokens.TableCell, at: number) => {
    const Cell = each.header ? "th" : "td";
    return (
      <Cell key={at} class={each.align ? `wc-${each.align}` : undefined}>
        {inline(each.tokens)}
      </Cell>
    );
  };
  return (
    <section key={key} class="wc-scroll" tabIndex={0} aria-label="Table">
      <table>
        <thead>
          <tr>{token.header.map(cell)}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, at) => (
            <tr key={at}>{row.map(cell)}</tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function inline(tokens: readonly Token[] | undefined): ComponentChild[] {
  return (tokens ?? []).map(inlineToken);
}

function inlineToken(token: Token, key: number): ComponentChild {
  const known = token as MarkedToken | MathToken;
  switch (known.type) {
    case "text":
      return known.tokens ? inline(known.tokens) : decodeEntities(known.text);
    case "escape":
      return known.text;
    case "strong":
      return <strong key={key}>{inline(known.tokens)}</strong>;
    case "em":
      return <em key={key}>{inline(known.tokens)}</em>;
    case "del":
      return <del key={key}>{inline(known.tokens)}</del>;
    case "codespan":
      return <code key={key}>{known.text}</code>;
    case "br":
      return <br key={key} />;
    case "math":
      return <Formula key={key} source={known.text} display={known.display} />;
    case "link":
      return link(known, key);
    case "image":
      return <RemoteImage key={key} href={decodeEntities(known.href)} alt={decodeEntities(known.text)} />;
    case "checkbox":
      return <input key={key} type="checkbox" checked={known.checked} disabled aria-label="done" />;
    default:
      return known.raw;
  }
}

function link(token: Tokens.Link, key: number) {
  const href = safeLink(token.autolink ? token.href : decodeEntities(token.href));
  if (href === null) return <span key={key}>{inline(token.tokens)}</span>;
  return (
    <a
      key={key}
      href={href}
      title={token.title ? decodeEntities(token.title) : undefined}
      target="_blank"
      rel="noopener noreferrer nofollow"
    >
      {inline(token.tokens)}
    </a>
  );
}
