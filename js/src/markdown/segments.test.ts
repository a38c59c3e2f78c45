// @vitest-environment node
import fc from "fast-check";
import { Lexer } from "marked";
import { describe, expect, it } from "vitest";
import { markdownText } from "../testing/markdownTexts";
import { Segmenter } from "./segments";

function cut(text: string): string[] {
  const segmenter = new Segmenter();
  return [...segmenter.feed(text), text.slice(segmenter.tail)];
}

describe("segments", () => {
  it.each([
    ["paragraphs", "a\n\nb\n\nc", ["a\n\n", "b\n\n", "c"]],
    [
      "a list stays together over blank lines",
      "- a\n\n- b\n\n  more\n\nend",
      ["- a\n\n- b\n\n  more\n\n", "end"],
    ],
    ["a fence stays together", "```\na\n\nb\n```\n\nc", ["```\na\n\nb\n```\n\n", "c"]],
    ["bold after a list is no item", "- a\n\n**b", ["- a\n\n", "**b"]],
    ["numbers wait until it is clear what they are", "1. a\n\n2", ["1. a\n\n2"]],
    ["an indented line belongs to what came before", "a\n\n    code\n\nb", ["a\n\n    code\n\n", "b"]],
    ["a fence in an item ends with the item", "- a\n  ```\n  x\n\nb\n\nc", ["- a\n  ```\n  x\n\nb\n\n", "c"]],
  ])("%s", (_name, text, segments) => {
    expect(cut(text)).toEqual(segments);
  });

  it("are the same however the text arrives, and add up to it", () => {
    fc.assert(
      fc.property(markdownText, fc.array(fc.nat()), (text, cuts) => {
        const segmenter = new Segmenter();
        const pieces: string[] = [];
        const ends = [...new Set(cuts.map((at) => at % (text.length + 1)))].sort((a, b) => a - b);
        for (const end of [...ends, text.length]) pieces.push(...segmenter.feed(text.slice(0, end)));
        expect([...pieces, text.slice(segmenter.tail)]).toEqual(cut(text));
        expect(cut(text).join("")).toBe(text);
      }),
      { numRuns: 2000 },
    );
  });

  it("lie between the blocks that the lexer finds in the whole text", () => {
    const kinds = (text: string) =>
      Lexer.lex(text)
        .filter((token) => token.type !== "space")
        .map((token) => `${token.type} ${token.raw.trimEnd()}`);
    fc.assert(
      fc.property(markdownText, (text) => {
        expect(cut(text).flatMap(kinds)).toEqual(kinds(text));
      }),
      { numRuns: 2000 },
    );
  });
});
