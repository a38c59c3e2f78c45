const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** The address a link may lead to, or null: http, https and mailto, after the browser's own parsing. */
export function safeLink(href: string): string | null {
  const url = parse(href);
  return url && SCHEMES.has(url.protocol) ? url.href : null;
}

/** An image that may be fetched, after a click. */
export function remoteImage(href: string): URL | null {
  const url = parse(href);
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url : null;
}

/** No base: an address relative to the page is no address from a stranger's text. */
function parse(href: string): URL | null {
  try {
    return new URL(href);
  } catch {
    return null;
  }
}
