import temml from "temml";
import { copyFormula } from "./markdown/mathml";

/**
 * The typesetter, a bundle of its own that is loaded with the first formula. What it draws is copied element by
 * element through an allow-list; commands that need trust (links, images, ids) are refused.
 */
export function typeset(source: string, display: boolean, into: HTMLElement): void {
  const drawn = document.createElement("span");
  temml.render(source, drawn, {
    displayMode: display,
    throwOnError: true,
    trust: false,
    strict: false,
    maxSize: [20, 400],
    maxExpand: 500,
  });
  into.replaceChildren(...copyFormula(drawn));
}
