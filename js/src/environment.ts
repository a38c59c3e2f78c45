/** Where this page's Jupyter is, as the page itself says. */
export interface Place {
  readonly baseUrl: string;
  readonly token: string;
  /** Is this a page of Jupyter's? In others (VS Code, Colab) the address is a guess. */
  readonly jupyter: boolean;
}

export function findServer(page: Document = document): Place {
  const config = readConfig(page);
  const said = config.baseUrl ?? page.body?.dataset.baseUrl;
  return {
    baseUrl: slashed(said ?? "/"),
    token: typeof config.token === "string" ? config.token : "",
    jupyter: said !== undefined,
  };
}

function readConfig(page: Document): { baseUrl?: string; token?: unknown } {
  const text = page.getElementById("jupyter-config-data")?.textContent;
  if (!text) return {};
  try {
    const config = JSON.parse(text);
    return {
      ...(typeof config.baseUrl === "string" ? { baseUrl: config.baseUrl } : {}),
      token: config.token,
    };
  } catch {
    return {};
  }
}

/** A path with slashes at both ends; an address of another host is none of ours. */
function slashed(path: string): string {
  const inner = path.replace(/^\/+|\/+$/g, "");
  return inner === "" || /^[a-z][a-z0-9+.-]*:/i.test(inner) ? "/" : `/${inner}/`;
}
