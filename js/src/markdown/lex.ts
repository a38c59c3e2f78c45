import { Lexer, type MarkedOptions, type Token, Tokenizer, type Tokens } from "marked";
import { blockMath, inlineMath, maskMath } from "./math";

export interface Link {
  readonly href: string;
  readonly title?: string | null | undefined;
}
export type Links = Record<string, Link>;

/** Raw HTML is no language here: it stays text. */
class TextOnly extends Tokenizer {
  override html(): Tokens.HTML | undefined {
    return undefined;
  }
  override tag(): Tokens.Tag | undefined {
    return undefined;
  }
}

const options = {
  gfm: true,
  breaks: false,
  tokenizer: new TextOnly(),
  extensions: {
    block: [(src: string) => blockMath(src)],
    startBlock: [(src: string) => startOf(src, /\n {0,3}(?:\$\$|\\\[)/, 1)],
    inline: [(src: string) => inlineMath(src)],
    startInline: [(src: string) => startOf(src, /\$|\\[([]/)],
    renderers: {},
    childTokens: {},
  },
  hooks: { emStrongMask: maskMath },
} as unknown as MarkedOptions;

/**
 * One segment of a text. Blocks are found first, which needs nothing else; what they hold inline needs the link
 * definitions of the whole text, so that is a second step, taken again when definitions come.
 */
export class Piece {
  readonly source: string;
  /** The link definitions that stand in this piece. */
  readonly defines: Links;
  #lexer: Lexer | null;
  #tokens: Token[] = [];
  #used: Links | null = null;

  constructor(source: string) {
    this.source = source;
    this.#lexer = new Lexer(options);
    this.#lexer.blockTokens(source, this.#lexer.tokens);
    this.defines = this.#lexer.tokens.links as Links;
  }

  /** The tokens of this piece, given all definitions of the text. The same array while nothing changed. */
  tokens(links: Links): Token[] {
    if (this.#used === links) return this.#tokens;
    if (this.#used && !this.source.includes("[")) return this.#tokens;
    const lexer = this.#lexer ?? new Lexer(options);
    if (!this.#lexer) lexer.blockTokens(this.source, lexer.tokens);
    this.#lexer = null;
    lexer.tokens.links = links as typeof lexer.tokens.links;
    for (const { src, tokens } of lexer.inlineQueue) lexer.inlineTokens(src, tokens);
    this.#tokens = [...lexer.tokens];
    this.#used = links;
    return this.#tokens;
  }
}

function startOf(src: string, pattern: RegExp, skip = 0): number | undefined {
  const at = src.search(pattern);
  return at < 0 ? undefined : at + skip;
}
