import { findServer } from "./environment";
import { acquire, type Lease } from "./session/registry";
import { Session } from "./session/session";
import { serverTransport } from "./transport/websocket";

/** The page's one session of a conversation, made on first use; all views of it share it. */
export function lend(convId: string, profile: string): Lease<Session> {
  const place = findServer();
  return acquire(`${place.baseUrl} ${convId}`, () => {
    const session = new Session(serverTransport({ ...place, origin: location.origin }), convId, profile);
    session.start();
    return session;
  });
}
