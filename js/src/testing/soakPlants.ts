import { newKey } from "../ids";
import type { Transport } from "../transport/transport";
import { type Gated, HydrationGate } from "../ws/hydrationGate";

type Sockets = typeof WebSocket;
const gate: HydrationGate<Gated> = HydrationGate.prototype;
const { arrive } = gate;

/** A bug of the page's, planted where it would be, or as if it stood between the page and its host. */
export interface Plant {
  /** Puts it in for good. */
  readonly change?: () => void;
  readonly wrap?: (transport: Transport) => Transport;
  readonly sockets?: (Socket: Sockets) => Sockets;
}

export const PLANTS: Readonly<Record<string, Plant>> = {
  /** A hole in `n` is passed over. */
  gap_ignored: {
    change: () => {
      gate.arrive = function (item) {
        return arrive.call(this, { ...item, n: undefined });
      };
    },
  },
  /** The end of a stream is not heard. */
  cut_ignored: {
    wrap: (transport) => ({
      ...transport,
      open: (convId, events) => transport.open(convId, { ...events, close: () => {} }),
    }),
  },
  /** A line that leads nowhere counts as one on which nothing is said. */
  silence_ignored: {
    sockets: (Socket) =>
      class extends Socket {
        override send(): void {
          const event = { type: "ws.pong", id: "ws.pong:", data: { version: 0 } };
          const message = new MessageEvent("message", { data: JSON.stringify({ sem: true, event }) });
          queueMicrotask(() => this.dispatchEvent(message));
        }
      },
  },
  /** Who tries again does so under another key. */
  another_key: {
    wrap: (transport) => {
      const tried = new Set<string>();
      return {
        ...transport,
        chat: (request, signal) => {
          const key = tried.has(request.key) ? newKey() : request.key;
          tried.add(request.key);
          return transport.chat({ ...request, key }, signal);
        },
      };
    },
  },
  /** Frames that come while rows are loaded are not kept back: the rows, which are older, take their place. */
  older_rows_win: {
    change: () => {
      gate.arrive = function (item) {
        const verdict = arrive.call(this, item);
        if (verdict !== "held") return verdict;
        this.applied(item);
        return "apply";
      };
    },
  },
};
