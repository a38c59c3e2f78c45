// @vitest-environment node
import { expect, it } from "vitest";
import { terminalText } from "./terminal";

it.each([
  ["plain\ntext\t!", "plain\ntext\t!"],
  ["\x1b[1;32mgreen\x1b[0m", "green"],
  ["\x1b]0;a title\x07text", "text"],
  ["\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"],
  ["\x1b(Bx\x1b=y\x1b", "xy"],
  ["\x1b[?25l\x1b[2Kline", "line"],
  ["an end that is cut \x1b[3", "an end that is cut "],
  [" 10%|#\r 50%|###\r100%|#####\ndone", "100%|#####\ndone"],
  ["longer\rab", "abnger"],
  ["dos\r\nlines\r\n", "dos\nlines\n"],
  ["bell\x07 null\x00 c1\x9b", "bell null c1"],
])("%j", (output, shown) => expect(terminalText(output)).toBe(shown));

it("draws the end of what is very long", () => {
  const shown = terminalText("line\n".repeat(100_000));
  expect(shown.length).toBeLessThan(101_000);
  expect(shown).toMatch(/^… the beginning is not shown\nline\n[\s\S]*line\n$/);
  expect(terminalText("x".repeat(300_000)).length).toBeLessThan(101_000);
});
