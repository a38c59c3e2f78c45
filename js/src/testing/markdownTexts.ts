import fc from "fast-check";

const word = fc.constantFrom(
  "word",
  "two words",
  "**bold**",
  "*em*",
  "`code`",
  "[link](https://example.com)",
  "[ref]",
  "[ref][other]",
  "![image](https://example.com/a.png)",
  "$x^2$",
  "$5 and $10",
  "\\(a_b\\)",
  "<b>html</b>",
  "&amp;",
  "~~gone~~",
  "**open",
  "`open",
  "[open",
  "https://example.com/x",
  "a\\*b",
  "x_1",
  "1. no",
  "é😀",
);
const line = fc.array(word, { minLength: 1, maxLength: 4 }).map((words) => words.join(" "));
const code = fc.constantFrom("x = 1", "", "def f():\n    pass", "- no list", "# no heading", "a\n\nb");

const block = fc.oneof(
  { weight: 4, arbitrary: line },
  fc.array(line, { minLength: 2, maxLength: 3 }).map((lines) => lines.join("\n")),
  fc.tuple(fc.integer({ min: 1, max: 4 }), line).map(([depth, text]) => `${"#".repeat(depth)} ${text}`),
  line.map((text) => `${text}\n===`),
  fc
    .tuple(fc.constantFrom("```", "~~~", "````"), fc.constantFrom("", "python", "js"), code)
    .map(([mark, lang, body]) => `${mark}${lang}\n${body}\n${mark}`),
  fc.array(line, { minLength: 1, maxLength: 4 }).map((items) => items.map((item) => `- ${item}`).join("\n")),
  fc
    .array(line, { minLength: 1, maxLength: 3 })
    .map((items) => items.map((item, at) => `${at + 1}. ${item}`).join("\n\n")),
  fc.tuple(line, line).map(([a, b]) => `- ${a}\n  - ${b}\n\n  ${a}`),
  fc.tuple(line, code).map(([a, b]) => `- ${a}\n\n  \`\`\`\n  ${b.replaceAll("\n", "\n  ")}\n  \`\`\``),
  line.map((text) => `> ${text}\n> more`),
  line.map((text) => `| a | b |\n|---|--:|\n| ${text.replaceAll("|", "")} | 2 |`),
  fc.constantFrom(
    "---",
    "$$\nx = \\frac{1}{2}\n$$",
    "\\[ a + b \\]",
    "    indented",
    "- [x] task",
    "**",
    "Title\n---",
  ),
  fc.constantFrom(
    "[ref]: https://example.com/ref",
    "[other]: https://example.com/other 'title'",
    "[ref]: /second",
  ),
);

/** Markdown as models write it, and a little worse. */
export const markdownText: fc.Arbitrary<string> = fc
  .array(fc.tuple(block, fc.constantFrom("\n\n", "\n\n", "\n\n", "\n", "\n\n\n", "\n \n")), { maxLength: 7 })
  .map((blocks) => blocks.map(([text, gap]) => text + gap).join(""));
