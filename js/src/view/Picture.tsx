import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";

interface Props {
  /** A `data:` address: nothing is fetched. */
  src: string;
  alt: string;
  class?: string;
  /** It cannot be drawn. */
  onError?: () => void;
}

/** An image of a bounded size, which opens in full on a click. */
export function Picture({ src, alt, class: name = "wc-picture", onError }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button
        type="button"
        class={name}
        data-part="picture"
        title="Show in full"
        aria-haspopup="dialog"
        onClick={() => setOpen(true)}
      >
        <img src={src} alt={alt} draggable={false} onError={onError} />
      </button>
      {open && <Full src={src} alt={alt} onClose={() => setOpen(false)} />}
    </>
  );
}

/** Above everything, until Escape or a click; the focus goes back to where it was. */
function Full({ src, alt, onClose }: { src: string; alt: string; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  const leave = () => dialog.current?.close();
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog, and its button is in the focus
    <dialog
      ref={dialog}
      class="wc-full"
      data-part="picture-dialog"
      aria-label={alt}
      onClose={onClose}
      onClick={leave}
    >
      <img src={src} alt={alt} />
      <button
        type="button"
        class="wc-round wc-full-close"
        aria-label="Close"
        title="Close (Esc)"
        onClick={leave}
      >
        <Icon name="cross" />
      </button>
    </dialog>
  );
}
