const MATHML = "http://www.w3.org/1998/Math/MathML";

const ELEMENTS = new Set(
  "math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "accent accentunder class columnalign columnlines columnspacing depth dir display displaystyle fence form height largeop linebreak linethickness lspace mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator stretchy style symmetric voffset width".split(
    " ",
  ),
);

/** A copy of drawn formulas that holds MathML elements with harmless attributes, and nothing else. */
export function copyFormula(from: ParentNode): Node[] {
  return [...from.childNodes].flatMap((node) => {
    if (node.nodeType === Node.TEXT_NODE) return [document.createTextNode(node.nodeValue ?? "")];
    if (!(node instanceof Element)) return [];
    const name = node.localName.toLowerCase();
    const html = name === "span" && node.namespaceURI !== MATHML;
    if (!html && !ELEMENTS.has(name)) return copyFormula(node);
    const copy = html ? document.createElement("span") : document.createElementNS(MATHML, name);
    for (const { name: key, value } of node.attributes) {
      if (ATTRIBUTES.has(key) && !/url\s*\(|position\s*:/i.test(value)) copy.setAttribute(key, value);
    }
    copy.append(...copyFormula(node));
    return [copy];
  });
}
