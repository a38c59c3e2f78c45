/** What a page gets from its browser, for pages that live in node. All pages of a process share it. */
export interface BrowserOptions {
  /** The page's clock runs so many times faster than that on the wall: who waits 15 s waits 3 s at 5. */
  readonly pace: number;
  /** As a browser would send them, for it has logged in. */
  readonly cookies: string;
  readonly origin: string;
}

interface SocketOptions {
  readonly headers: Record<string, string>;
}

class Page extends EventTarget {
  hidden = false;

  get visibilityState(): string {
    return this.hidden ? "hidden" : "visible";
  }
}

const page = new Page();
const network = new EventTarget();

/** Puts the browser there; returns what a page is made with. */
export function openBrowser({ pace, cookies, origin }: BrowserOptions): {
  fetch: typeof fetch;
  WebSocket: typeof WebSocket;
} {
  const later = globalThis.setTimeout;
  const faster = (run: () => void, ms = 0, ...more: []) => later(run, ms / pace, ...more);
  Object.assign(globalThis, {
    setTimeout: faster,
    requestAnimationFrame: (run: () => void) => faster(run, 16),
    cancelAnimationFrame: (frame: NodeJS.Timeout) => clearTimeout(frame),
    addEventListener: network.addEventListener.bind(network),
    document: page,
  });
  const own = { Cookie: cookies, Origin: origin };
  return {
    fetch: (url, init) => {
      const headers = new Headers(init?.headers);
      for (const [name, value] of Object.entries(own)) headers.set(name, value);
      return fetch(new URL(String(url), origin), { ...init, headers });
    },
    WebSocket: class extends WebSocket {
      constructor(url: string | URL) {
        super(url, { headers: own } satisfies SocketOptions as unknown as string[]);
        // node says `error` only, where a browser goes on with `close`
        this.addEventListener("error", () => {
          this.dispatchEvent(Object.assign(new Event("close"), { code: 1006 }));
        });
      }
    },
  };
}

/** The network has come back, or a person looks elsewhere and comes back. */
export function happen(what: "online" | "hidden" | "visible"): void {
  if (what === "online") {
    network.dispatchEvent(new Event("online"));
    return;
  }
  page.hidden = what === "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
}
