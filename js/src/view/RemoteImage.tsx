import { useState } from "preact/hooks";
import { remoteImage } from "../markdown/urls";

/** An image from somewhere else: it tells that somewhere who is reading, so it is fetched only on a click. */
export function RemoteImage({ href, alt }: { href: string; alt: string }) {
  const [state, setState] = useState<"asked" | "wanted" | "failed">("asked");
  const url = remoteImage(href);
  if (!url) return <span class="wc-image-off">{alt || "image"}</span>;
  if (state === "wanted") {
    return (
      <img
        class="wc-image"
        src={url.href}
        alt={alt}
        referrerpolicy="no-referrer"
        onError={() => setState("failed")}
      />
    );
  }
  if (state === "failed") {
    return (
      <a href={url.href} target="_blank" rel="noopener noreferrer nofollow">
        {alt || "image"} (could not be loaded here)
      </a>
    );
  }
  return (
    <button type="button" class="wc-chip" title={url.href} onClick={() => setState("wanted")}>
      Load image from {url.host}
      {alt && <span class="wc-muted"> – {alt}</span>}
    </button>
  );
}
