/**
 * Sessions as pages have them, without a screen, in one node process: lines of JSON on stdin say what a person does,
 * lines on stdout what became of it.
 */
import { createInterface } from "node:readline";
import { isLocal } from "../session/outbox";
import { Session } from "../session/session";
import type { Transport } from "../transport/transport";
import { serverTransport } from "../transport/websocket";
import { type BrowserOptions, happen, openBrowser } from "./soakBrowser";
import { PLANTS, type Plant } from "./soakPlants";
import { SoakWatch } from "./soakWatch";

interface Options extends BrowserOptions {
  readonly plant: string | null;
}

interface Command {
  readonly ask?: number;
  readonly do: keyof typeof commands;
  readonly page: number;
  readonly conv: string;
  /** So many rows at most come in one answer. */
  readonly rows: number;
  readonly prompt: string;
  readonly what: "online" | "hidden" | "visible";
}

interface Open {
  readonly session: Session;
  readonly watch: SoakWatch;
}

const options: Options = JSON.parse(process.argv[2] ?? "");
const plant = find(options.plant);
plant.change?.();
const browser = openBrowser(options);
const pages = new Map<number, Open>();

const commands = {
  open({ page, conv, rows }: Command) {
    const session = new Session(few(transport(), rows), conv);
    const watch = new SoakWatch(session.store, (what) => say({ broke: what, page }));
    pages.set(page, { session, watch });
    session.start();
  },
  /** Answers with the prompts of which the page does not know whether they were taken. */
  close({ page }: Command) {
    const { session, watch } = at(page);
    pages.delete(page);
    watch.close();
    session.close();
    return local(session).filter(({ status }) => status !== "queued");
  },
  send: ({ page, prompt }: Command) => at(page).session.send(prompt, "default"),
  /** Sends again what could not be sent. */
  retry({ page }: Command) {
    const { session } = at(page);
    for (const { id, status } of local(session)) if (status === "failed") session.outbox.retry(id);
  },
  stop: ({ page }: Command) => void at(page).session.stop(),
  earlier: ({ page }: Command) => void at(page).session.loadEarlier(),
  happen: ({ what }: Command) => happen(what),
  look({ page }: Command) {
    const { session } = at(page);
    const { phase, failure } = session.status.peek();
    return { phase, failure, local: local(session) };
  },
  rows({ page }: Command) {
    const { store } = at(page).session;
    return { floor: store.floor, rows: store.snapshot() };
  },
};

function find(name: string | null): Plant {
  const found = name === null ? {} : PLANTS[name];
  if (!found) throw new Error(`There is no plant ${name}.`);
  return found;
}

function transport(): Transport {
  const { sockets = (Socket) => Socket, wrap = (same) => same } = plant;
  return wrap(
    serverTransport({
      baseUrl: "/",
      origin: options.origin,
      cookies: () => options.cookies,
      fetch: browser.fetch,
      WebSocket: sockets(browser.WebSocket),
    }),
  );
}

/** The same, from a host that gives so many rows at a time. */
function few(host: Transport, rows: number): Transport {
  return {
    ...host,
    timeline: ({ limit, ...query }, signal) =>
      host.timeline(limit === undefined ? query : { ...query, limit: Math.min(limit, rows) }, signal),
  };
}

function at(page: number): Open {
  const open = pages.get(page);
  if (!open) throw new Error(`Page ${page} is not open.`);
  return open;
}

function local({ store }: Session): { id: string; status: unknown; prompt: unknown }[] {
  const rows = store.snapshot().filter(isLocal);
  return rows.map(({ id, props }) => ({ id, status: props.status, prompt: props.content }));
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command: Command = JSON.parse(line);
    const answer = commands[command.do](command);
    if (command.ask !== undefined) say({ ask: command.ask, answer: answer ?? null });
  })
  .on("close", () => process.exit());
