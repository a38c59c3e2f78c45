/** With Ctrl or Cmd they edit text, send it or, in Jupyter, would change cells: never what a chat wants. */
const ALWAYS_HERE = new Set([
  ...["Enter", "Backspace", "Delete", "Home", "End"],
  ...["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"],
  ...["m", "v", "z"],
]);
/** With Shift too they are no editing: Ctrl+Shift+C opens Jupyter's palette. */
const HERE = new Set(["a", "c", "x", "y"]);

/**
 * Is this key a shortcut of the page around the chat, such as Ctrl+S? Plain keys never are: the notebook's command
 * mode would take them for commands. Nor is anything with Alt, which types letters where it comes with Ctrl.
 */
export function isShortcut(event: KeyboardEvent): boolean {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.isComposing) return false;
  // a keyboard of another script has no "c", but the key at its place does the same
  const key = /^[ -~]/.test(event.key) ? event.key : event.code.replace(/^Key/, "");
  const name = key.length === 1 ? key.toLowerCase() : key;
  return !ALWAYS_HERE.has(name) && (event.shiftKey || !HERE.has(name));
}
