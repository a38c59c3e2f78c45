/** What an offset says about a text: how it grows, or that something between was missed. */
export type Folded = { content: string } | "gap";

/**
 * A delta joins at its offset (UTF-16 code units). One that overlaps joins without doubling, one that would
 * make the text shorter leaves it, one that begins beyond the end is a gap.
 */
export function foldText(content: string, offset: number, delta: string): Folded {
  if (offset > content.length) return "gap";
  if (offset + delta.length <= content.length) return { content };
  if (offset === content.length) return { content: content + delta };
  return { content: content.slice(0, offset) + delta };
}
