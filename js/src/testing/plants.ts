import { record } from "../http/replies";
import { SemRegistry } from "../sem/registry";
import { TimelineStore } from "../timeline/store";
import type { Transport } from "../transport/transport";
import { type Gated, HydrationGate } from "../ws/hydrationGate";

/** A bug that the schedules must find: one in the page's own code, or one as if it stood between page and host. */
export interface Bug {
  readonly name: string;
  /** Puts it in; returns how to take it out. */
  readonly plant?: () => () => void;
  readonly wrap?: (transport: Transport) => Transport;
}

const gate: HydrationGate<Gated> = HydrationGate.prototype;
const store: TimelineStore = TimelineStore.prototype;
const registry: SemRegistry = SemRegistry.prototype;

function change<Of extends object, Name extends keyof Of>(
  prototype: Of,
  name: Name,
  wrong: (right: Of[Name]) => Of[Name],
): () => void {
  const right = prototype[name];
  prototype[name] = wrong(right);
  return () => {
    prototype[name] = right;
  };
}

/** The same transport, with what it says changed on its way to the page. */
function filtered(
  transport: Transport,
  say: (event: Record<string, unknown>) => Record<string, unknown> | null,
): Transport {
  return {
    ...bound(transport),
    open: (convId, events) =>
      transport.open(convId, {
        ...events,
        message(message) {
          const frame = record(message);
          const event = say(record(frame?.event) ?? {});
          if (event) events.message({ ...frame, event });
        },
      }),
  };
}

/** A host is a class: its methods need it. */
function bound(transport: Transport): Transport {
  return {
    name: transport.name,
    pictureBytes: transport.pictureBytes,
    watch: (events) => transport.watch(events),
    probe: (signal) => transport.probe(signal),
    open: (convId, events) => transport.open(convId, events),
    timeline: (query, signal) => transport.timeline(query, signal),
    chat: (request, signal) => transport.chat(request, signal),
    stop: (convId, runId, signal) => transport.stop(convId, runId, signal),
    approve: (approval, signal) => transport.approve(approval, signal),
    resume: (convId, pauseId, signal) => transport.resume(convId, pauseId, signal),
    profiles: (convId, signal) => transport.profiles(convId, signal),
    loadMath: () => transport.loadMath(),
  };
}

export const BUGS: readonly Bug[] = [
  {
    name: "a hole in n is passed over",
    plant: () =>
      change(
        gate,
        "arrive",
        (right) =>
          function (this: HydrationGate<Gated>, item) {
            return right.call(this, { ...item, n: undefined });
          },
      ),
  },
  {
    name: "a snapshot counts for one frame more than it has",
    plant: () =>
      change(
        gate,
        "snapshot",
        (right) =>
          function (this: HydrationGate<Gated>, version) {
            right.call(this, version + 1);
          },
      ),
  },
  {
    name: "the screen is cleared before the new rows are there",
    plant: () =>
      change(
        store,
        "replaceAll",
        (right) =>
          function (this: TimelineStore, rows, keep, floor) {
            right.call(this, [], keep);
            right.call(this, rows, keep, floor);
          },
      ),
  },
  {
    name: "a row above the first page is shown at once",
    plant: () =>
      change(
        store,
        "upsertEntity",
        (right) =>
          function (this: TimelineStore, row) {
            const outcome = right.call(this, row);
            this.lowerFloor(row.createdSeq ?? this.floor);
            return outcome;
          },
      ),
  },
  {
    name: "the first page of earlier rows counts as the last one",
    plant: () =>
      change(
        store,
        "lowerFloor",
        (right) =>
          function (this: TimelineStore) {
            right.call(this, 0);
          },
      ),
  },
  {
    name: "what comes late wins",
    plant: () =>
      change(
        store,
        "upsertEntity",
        (right) =>
          function (this: TimelineStore, row) {
            const version = Math.max(row.version ?? 0, this.get(row.id)?.version ?? 0);
            return right.call(this, { ...row, version });
          },
      ),
  },
  {
    name: "where a row was made is not looked at",
    plant: () =>
      change(
        registry,
        "apply",
        (right) =>
          function (this: SemRegistry, event, rows) {
            return right.call(this, { ...event, createdSeq: undefined }, rows);
          },
      ),
  },
  {
    name: "a part of what was missed counts as all",
    wrap: (transport) => ({
      ...bound(transport),
      timeline: async (query, signal) => {
        const page = await transport.timeline(query, signal);
        return query.since === undefined ? page : { ...page, more: false };
      },
    }),
  },
  {
    name: "what began above the first page is not asked for",
    wrap: (transport) => ({
      ...bound(transport),
      timeline: async (query, signal) => {
        const page = await transport.timeline(query, signal);
        return query.unfinished ? { ...page, rows: [] } : page;
      },
    }),
  },
  {
    name: "another history is taken for the same",
    wrap: (transport) => ({
      ...filtered(transport, (event) =>
        event.type === "ws.hello" ? { ...event, data: { ...record(event.data), epoch: "same" } } : event,
      ),
      timeline: async (query, signal) => ({ ...(await transport.timeline(query, signal)), epoch: null }),
    }),
  },
  {
    name: "a pong is not heard",
    wrap: (transport) => filtered(transport, (event) => (event.type === "ws.pong" ? null : event)),
  },
];
