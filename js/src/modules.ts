/**
 * Runs the text of an ES module, which is the one way in which text becomes code here. It may only be what this
 * page has asked a live kernel for: never the state of a saved notebook, and nothing that a model wrote.
 */
export async function importText(source: string): Promise<unknown> {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    return await import(/* @vite-ignore */ url);
  } finally {
    URL.revokeObjectURL(url);
  }
}
