import { Api, type ApiOptions } from "../http/api";
import {
  type Channel,
  type ChannelEvents,
  type CloseReason,
  closeReason,
  type MathModule,
  type Transport,
} from "./transport";

const OPEN_MS = 10_000;
const SILENCE_MS = 15_000;
const PONG_MS = 10_000;

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
    pictureBytes: 15_000_000,
    watch: () => () => {},
    probe: (signal) => api.health(signal),
    timeline: (query, signal) => api.timeline(query, signal),
    chat: (request, signal) => api.chat(request, signal),
    stop: (convId, runId, signal) => api.stop(convId, runId, signal),
    approve: (approval, signal) => api.approve(approval, signal),
    resume: (convId, pauseId, signal) => api.resume(convId, pauseId, signal),
    profiles: (convId, signal) => api.profiles(convId, signal),
    open: (convId, events) => openSocket(options, convId, events),
    loadMath: () => {
      const url = new URL(`${options.baseUrl}static/jupyter_server_webchat/math.js`, options.origin);
      return import(/* @vite-ignore */ url.href) as Promise<MathModule>;
    },
  };
}

/**
 * The address carries no token, ever: the cookie opens the socket. Nor does it name a profile: one that was removed
 * keeps nobody from reading.
 */
export function socketUrl(origin: string, baseUrl: string, convId: string): string {
  const url = new URL(`${baseUrl}webchat/ws`, origin);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("conv_id", convId);
  url.searchParams.set("deltas", "append");
  return url.href;
}

/** A socket that is silent for too long is asked for a sign of life; one that gives none is lost. */
function openSocket(options: ServerOptions, convId: string, events: ChannelEvents): Channel {
  const Socket = options.WebSocket ?? WebSocket;
  const socket = new Socket(socketUrl(options.origin, options.baseUrl, convId));
  let opened = false;
  let done = false;
  let timer: ReturnType<typeof setTimeout>;
  const listening = new AbortController();
  const { signal } = listening;

  const leave = () => {
    done = true;
    clearTimeout(timer);
    listening.abort();
  };
  const close = () => {
    if (done) return;
    leave();
    socket.close();
  };
  const end = (reason: CloseReason) => {
    close();
    events.close(reason);
  };
  let asked = false;
  const ask = () => {
    if (asked) return;
    asked = true;
    if (socket.readyState === Socket.OPEN) socket.send('{"type":"ws.ping"}');
    clearTimeout(timer);
    timer = setTimeout(() => end("lost"), PONG_MS);
  };
  const heard = () => {
    asked = false;
    clearTimeout(timer);
    timer = setTimeout(ask, SILENCE_MS);
  };
  timer = setTimeout(() => end("lost"), OPEN_MS);
  // a laptop that wakes up finds out now what has become of its streams
  globalThis.addEventListener?.("online", ask, { signal });
  globalThis.document?.addEventListener(
    "visibilitychange",
    () => {
      if (document.visibilityState === "visible") ask();
    },
    { signal },
  );

  socket.addEventListener("open", () => (opened = true), { signal });
  socket.addEventListener(
    "message",
    (event) => {
      heard();
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
      leave();
      events.close(opened ? closeReason(event.code) : "refused");
    },
    { signal },
  );
  return { close };
}
