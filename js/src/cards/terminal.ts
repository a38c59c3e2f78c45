/** So much of an output is drawn; it grows at its end. */
const DRAWN = 100_000;

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-~]?)/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;

/**
 * What a terminal would show of an output, as plain text: colours and other commands are left out, a carriage return
 * begins the line anew, as progress bars want it.
 */
export function terminalText(output: string): string {
  const cut = output.length > DRAWN;
  const tail = cut ? output.slice(output.indexOf("\n", output.length - DRAWN) + 1).slice(-DRAWN) : output;
  const text = tail.replace(ESCAPES, "").replace(/\r+\n/g, "\n");
  const lines = text.includes("\r") ? text.split("\n").map(rewritten).join("\n") : text;
  const plain = lines.replace(CONTROLS, "");
  return cut ? `… the beginning is not shown\n${plain}` : plain;
}

function rewritten(line: string): string {
  return line.split("\r").reduce((shown, part) => part + shown.slice(part.length), "");
}
