import { findServer, type Place } from "./environment";
import { ApiError } from "./http/replies";
import { acquire, type Lease } from "./session/registry";
import { Session } from "./session/session";
import { commTransport } from "./transport/comm";
import type { Wire } from "./transport/line";
import { asFailure, type Transport } from "./transport/transport";
import { serverTransport } from "./transport/websocket";

const OR_KERNEL = "Or run this cell again: the chat then runs in the kernel.";
const NO_SERVER =
  'This page has no Jupyter server of its own, as it is in VS Code and Colab. Make the widget with ChatWidget(where="kernel"): the chat then runs in the kernel.';

/** The page's one session of a conversation on its server, made on first use; all views of it share it. */
export function lend(convId: string): Lease<Session> {
  const place = findServer();
  return lease(place.baseUrl, convId, () => toServer(place));
}

/** The same for a view in a notebook, where there is another way when the server has no chat. */
export function lendInNotebook(convId: string): Lease<Session> {
  const place = findServer();
  return lease(place.baseUrl, convId, () => advising(toServer(place), place));
}

/** The page's one session of a conversation in the kernel, over the comm of the widget that `channel` names. */
export function lendKernel(wire: Wire, channel: string, convId: string): Lease<Session> {
  return lease(`kernel ${channel}`, convId, () => commTransport(wire));
}

function lease(host: string, convId: string, way: () => Transport): Lease<Session> {
  return acquire(`${host} ${convId}`, () => {
    const session = new Session(way(), convId);
    session.start();
    return session;
  });
}

function toServer(place: Place): Transport {
  return serverTransport({ ...place, origin: location.origin });
}

/** Says, where the server has no chat, that the kernel can have it. */
function advising(server: Transport, { jupyter }: Place): Transport {
  const probe: Transport["probe"] = (signal) =>
    server.probe(signal).catch((error: unknown) => {
      const { kind, message } = asFailure(error);
      if (!jupyter && kind !== "http") throw new ApiError("missing", NO_SERVER);
      if (kind === "missing") throw new ApiError("missing", `${message} ${OR_KERNEL}`);
      throw error;
    });
  return { ...server, probe };
}
