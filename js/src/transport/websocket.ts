import { Api, type ApiOptions } from "../http/api";
import type { Channel, ChannelEvents, CloseReason, MathModule, Transport } from "./transport";

const REASONS: Record<number, CloseReason> = {
  4408: "slow",
  4410: "deleted",
  4401: "login",
  1001: "restart",
};

export interface ServerOptions extends ApiOptions {
  /** The page's origin, e.g. `https://hub.example`. */
  readonly origin: string;
  readonly WebSocket?: typeof WebSocket;
}

/** A Jupyter server as the host: routes over HTTP, frames over a WebSocket. */
export function serverTransport(options: ServerOptions): Transport {
  const api = new Api(options);
  return {
    name: "server",
    probe: (signal) => api.health(signal),
    timeline: (query, signal) => api.timeline(query, signal),
    chat: (request, signal) => api.chat(request, signal),
    stop: (convId, runId, signal) => api.stop(convId, runId, signal),
    open: (convId, profile, events) => openSocket(options, convId, profile, events),
    loadMath: () => {
      const url = new URL(`${options.baseUrl}static/jupyter_server_webchat/math.js`, options.origin);
      return import(/* @vite-ignore */ url.href) as Promise<MathModule>;
    },
  };
}

/** The address carries no token, ever: the cookie opens the socket. */
export function socketUrl(origin: string, baseUrl: string, convId: string, profile: string): string {
  const url = new URL(`${baseUrl}webchat/ws`, origin);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("conv_id", convId);
  url.searchParams.set("deltas", "append");
  url.searchParams.set("profile", profile || "default");
  return url.href;
}

function openSocket(options: ServerOptions, convId: string, profile: string, events: ChannelEvents): Channel {
  const Socket = options.WebSocket ?? WebSocket;
  const socket = new Socket(socketUrl(options.origin, options.baseUrl, convId, profile));
  let opened = false;
  let done = false;
  const listening = new AbortController();
  const { signal } = listening;
  socket.addEventListener("open", () => (opened = true), { signal });
  socket.addEventListener(
    "message",
    (event) => {
      let message: unknown;
      try {
        message = JSON.parse(event.data);
      } catch {
        return; // not ours; a missing frame shows as a hole in `n`
      }
      events.message(message);
    },
    { signal },
  );
  socket.addEventListener(
    "close",
    (event) => {
      done = true;
      listening.abort();
      events.close(opened ? (REASONS[event.code] ?? "lost") : "refused");
    },
    { signal },
  );
  return {
    send: (message) => {
      if (socket.readyState === Socket.OPEN) socket.send(JSON.stringify(message));
    },
    close: () => {
      if (done) return;
      done = true;
      listening.abort();
      socket.close();
    },
  };
}
