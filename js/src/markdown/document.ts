import type { Token } from "marked";
import { type Links, Piece } from "./lex";
import { Segmenter } from "./segments";

/**
 * A Markdown text that grows. `update` takes the whole text so far and returns the tokens of each segment;
 * finished segments keep their arrays, so whoever draws them can skip them, and only the last one is read again.
 */
export class MarkdownDocument {
  #text = "";
  #segmenter = new Segmenter();
  #finished: Piece[] = [];
  #tail: Piece | null = null;
  #links: Links = Object.create(null);
  #linksKey = "";

  update(source: string): Token[][] {
    const text = source.includes("\r") ? source.replace(/\r\n?/g, "\n") : source;
    if (!text.startsWith(this.#text)) this.#reset();
    this.#text = text;
    for (const segment of this.#segmenter.feed(text)) {
      const ready = this.#tail?.source === segment ? this.#tail : new Piece(segment);
      this.#finished.push(ready);
      this.#tail = null;
    }
    const tail = text.slice(this.#segmenter.tail);
    if (this.#tail?.source !== tail) this.#tail = tail === "" ? null : new Piece(tail);
    const pieces = this.#tail ? [...this.#finished, this.#tail] : this.#finished;
    const links = this.#collect(pieces);
    return pieces.map((piece) => piece.tokens(links));
  }

  /** The definitions of the whole text, the first of each name; the same object while they are the same. */
  #collect(pieces: readonly Piece[]): Links {
    const links: Links = Object.create(null);
    for (const piece of pieces) {
      for (const [name, link] of Object.entries(piece.defines)) links[name] ??= link;
    }
    const key = JSON.stringify(Object.entries(links));
    if (key !== this.#linksKey) {
      this.#linksKey = key;
      this.#links = links;
    }
    return this.#links;
  }

  #reset(): void {
    this.#segmenter = new Segmenter();
    this.#finished = [];
    this.#tail = null;
  }
}
