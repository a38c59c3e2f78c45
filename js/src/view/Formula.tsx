import { useContext, useLayoutEffect, useRef } from "preact/hooks";
import { View } from "./hooks";

/**
 * A formula. It shows its source until the typesetter has come, and for good where that cannot come or cannot
 * read it.
 */
export function Formula({ source, display }: { source: string; display: boolean }) {
  const view = useContext(View);
  const box = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    let current = true;
    view?.session.loadMath().then(
      (math) => {
        const target = box.current;
        if (!current || !target) return;
        const drawn = document.createElement("span");
        try {
          math.typeset(source, display, drawn);
        } catch {
          return;
        }
        target.classList.remove("wc-tex");
        target.replaceChildren(...drawn.childNodes);
      },
      () => {},
    );
    return () => {
      current = false;
    };
  }, [source, display, view]);
  // Its content is drawn by hand, so another formula is another element: the key says so
  return (
    <span
      key={`${display} ${source}`}
      ref={box}
      class={display ? "wc-math wc-math-display wc-tex" : "wc-math wc-tex"}
      data-tex={source}
    >
      {source}
    </span>
  );
}
