import {
  ApiError,
  check,
  decisionBody,
  parameters,
  promptBody,
  readChat,
  readHealth,
  readProfiles,
  readTimeline,
  record,
  unreadable,
} from "../http/replies";
import { newKey } from "../ids";
import { importText } from "../modules";
import { Line, type Wire } from "./line";
import {
  asFailure,
  type Channel,
  type ChannelEvents,
  closeReason,
  type MathModule,
  type Transport,
} from "./transport";

const PROBE_MS = 2_500;
/**
 * JupyterLab begins to make the subshell that answers while a cell runs when a comm opens. What is said before it
 * is there waits for the cell.
 */
const SUBSHELL_MS = 400;
const LOST_MS = 8_000;
const MATH_MS = 20_000;
const PING_MS = 30_000;
/** So long after the last frame the page asks whether it was the last one. */
const TAIL_MS = 3_000;
/** Jupyter's server ends the connection of a page that sends a message of more than 10 MiB, base64 and all. */
const PICTURE_BYTES = 7_000_000;
const TOO_LARGE =
  "The pictures are too large for a chat that runs in the kernel (7 MB together). Take some away, or send smaller ones.";

/** A kernel as the host: the same questions and the same frames, over a widget's comm. */
export function commTransport(
  wire: Wire,
  load: (source: string) => Promise<unknown> = importText,
): Transport {
  const line = new Line(wire);
  let early = true;
  return {
    name: "kernel",
    pictureBytes: PICTURE_BYTES,
    watch: (events) => line.watch(events),
    async probe(signal) {
      const againMs = early ? SUBSHELL_MS : undefined;
      early = false;
      const reply = await line.ask({
        op: "health",
        body: {},
        timeoutMs: PROBE_MS,
        againMs,
        signal,
        quiet: true,
      });
      const health = readHealth(reply);
      if (health === null) throw unreadable(reply, "an answer");
      return health;
    },
    async timeline(query, signal) {
      await line.hearing(signal);
      const body = parameters(query);
      return readTimeline(await line.ask({ op: "timeline", body, timeoutMs: LOST_MS, signal }));
    },
    async chat(request, signal) {
      const { profile, pictures = [] } = request;
      const chars = pictures.reduce((sum, { data }) => sum + data.length, 0);
      if (chars * 0.75 > PICTURE_BYTES) throw new ApiError("http", TOO_LARGE); // it was typed for a server
      const body = { ...promptBody(request), profile };
      return readChat(await line.ask({ op: "chat", body, signal }));
    },
    async stop(convId, runId, signal) {
      const body = { conv_id: convId, ...(runId === undefined ? {} : { run_id: runId }) };
      check(await line.ask({ op: "stop", body, signal }));
    },
    async approve(approval, signal) {
      const body = { conv_id: approval.convId, call_id: approval.callId, ...decisionBody(approval) };
      check(await line.ask({ op: "approve", body, signal }));
    },
    async resume(convId, pauseId, signal) {
      const body = { conv_id: convId, pause_id: pauseId };
      check(await line.ask({ op: "resume", body, signal }));
    },
    async profiles(convId, signal) {
      const body = { conv_id: convId };
      const question = { op: "profiles", body, againMs: LOST_MS, signal, quiet: true };
      return readProfiles(await line.ask(question));
    },
    open: (convId, events) => openStream(line, convId, events),
    async loadMath() {
      await line.hearing();
      const reply = await line.ask({ op: "math", body: {}, timeoutMs: MATH_MS });
      check(reply);
      if (typeof reply.body !== "string") throw unreadable(reply, "a typesetter");
      return (await load(reply.body)) as MathModule;
    },
  };
}

/**
 * The widget's stream, as one that begins with this page. The kernel numbers the frames of a widget for all of
 * its pages, so what came up to `base` is not ours, and our own numbers begin with the hello as 1.
 */
function openStream(line: Line, convId: string, events: ChannelEvents): Channel {
  const rid = newKey();
  let base: number | null = null;
  let last = 0;
  let early: unknown[] = [];
  let regular: ReturnType<typeof setInterval> | undefined;
  let tail: ReturnType<typeof setTimeout> | undefined;
  let asking = false;
  let done = false;

  const leave = () => {
    done = true;
    clearInterval(regular);
    clearTimeout(tail);
    unlisten();
  };
  const close = () => {
    if (done) return;
    leave();
    // also where it never opened: the kernel may still come to it
    line.ask({ op: "close", body: { stream: rid }, timeoutMs: LOST_MS, quiet: true }).catch(() => {});
  };
  const pass = (frames: readonly unknown[]) => {
    for (const each of frames) {
      if (done || base === null) return;
      const frame = record(each);
      const n = Number(frame?.n);
      if (!Number.isSafeInteger(n) || n <= base) continue;
      if (n < last) {
        // the kernel had forgotten this page, and counts for others from the beginning
        close();
        events.close("lost");
        return;
      }
      last = n;
      events.message({ ...frame, n: n - base + 1 });
    }
  };
  const ping = async () => {
    if (asking) return;
    asking = true;
    try {
      const body = { stream: rid };
      const reply = await line.ask({ op: "ping", body, timeoutMs: LOST_MS, quiet: true });
      if (done) return;
      if (reply.status === 410) {
        leave();
        events.close("lost");
      } else {
        check(reply);
        events.message({ sem: true, event: { type: "ws.pong", id: "ws.pong", data: record(reply.body) } });
      }
    } catch {
      // no answer says nothing: a kernel that runs a cell is not lost
    } finally {
      asking = false;
    }
  };

  const unlisten = line.listen({
    frames(frames) {
      if (base === null) {
        early.push(...frames);
        return;
      }
      pass(frames);
      clearTimeout(tail);
      if (!done) tail = setTimeout(() => void ping(), TAIL_MS);
    },
    closed(code) {
      if (base === null) return; // the end of an earlier one
      leave();
      events.close(closeReason(code));
    },
    gone(failure) {
      leave();
      events.fail(failure);
    },
  });

  const open = async () => {
    try {
      await line.hearing();
      if (done) return;
      const reply = await line.ask({
        op: "open",
        body: { conv_id: convId },
        rid,
        timeoutMs: LOST_MS,
      });
      if (done) return;
      check(reply);
      const { n, hello } = record(reply.body) ?? {};
      if (!Number.isSafeInteger(n) || !record(hello)) throw unreadable(reply, "a stream");
      base = n as number;
      events.message({ sem: true, n: 1, event: { type: "ws.hello", id: "ws.hello", data: hello } });
      pass(early);
      early = [];
      if (!done) regular = setInterval(() => void ping(), PING_MS);
    } catch (error) {
      if (done) return;
      close();
      events.fail(asFailure(error));
    }
  };
  void open();
  return { close };
}
