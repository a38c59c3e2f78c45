// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { serverTransport, socketUrl } from "./websocket";

class FakeSocket extends EventTarget {
  static readonly OPEN = 1;
  static last: FakeSocket;
  readyState = 0;
  sent: string[] = [];
  closed = false;
  constructor(readonly url: string) {
    super();
    FakeSocket.last = this;
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
  opens(): void {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }
  says(data: string): void {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }
  ends(code: number): void {
    this.dispatchEvent(Object.assign(new Event("close"), { code }));
  }
}

const log: unknown[] = [];
const open = () => {
  log.length = 0;
  const transport = serverTransport({
    baseUrl: "/",
    origin: "http://localhost:8888",
    WebSocket: FakeSocket as unknown as typeof WebSocket,
  });
  return transport.open("c", {
    message: (message) => log.push(message),
    close: (reason) => log.push(reason),
    fail: (failure) => log.push(failure),
  });
};

describe("the address of a stream", () => {
  it("follows the page's own, and holds no token and no profile", () => {
    expect(socketUrl("https://hub.example", "/user/me/", "nb-1")).toBe(
      "wss://hub.example/user/me/webchat/ws?conv_id=nb-1&deltas=append",
    );
    expect(socketUrl("http://localhost:1", "/", "a")).toBe(
      "ws://localhost:1/webchat/ws?conv_id=a&deltas=append",
    );
  });
});

describe("a stream", () => {
  beforeEach(() => void open());

  it("hands on what is JSON, and skips what is not", () => {
    FakeSocket.last.opens();
    FakeSocket.last.says('{"a":1}');
    FakeSocket.last.says("{broken");
    expect(log).toEqual([{ a: 1 }]);
  });

  it.each([
    [4408, "slow"],
    [4410, "deleted"],
    [4401, "login"],
    [1001, "restart"],
    [1006, "lost"],
    [1011, "lost"],
  ])("code %i means %s", (code, reason) => {
    FakeSocket.last.opens();
    FakeSocket.last.ends(code);
    expect(log).toEqual([reason]);
  });

  it("was refused when it ends before it began", () => {
    FakeSocket.last.ends(1006);
    expect(log).toEqual(["refused"]);
  });
});

describe("silence", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    open();
  });
  afterEach(() => void vi.useRealTimers());
  const pass = (ms: number) => vi.advanceTimersByTime(ms);

  it("of 15 s is asked about, and 10 s later the stream is lost", () => {
    FakeSocket.last.opens();
    FakeSocket.last.says("{}");
    pass(14_900);
    expect(FakeSocket.last.sent).toEqual([]);
    pass(200);
    expect(FakeSocket.last.sent).toEqual(['{"type":"ws.ping"}']);
    pass(9_000);
    expect(log).toEqual([{}]);
    pass(1_000);
    expect(log).toEqual([{}, "lost"]);
    expect(FakeSocket.last.closed).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("ends with any word", () => {
    FakeSocket.last.opens();
    FakeSocket.last.says("{}");
    pass(15_100);
    FakeSocket.last.says('{"pong":1}');
    pass(14_000);
    expect(FakeSocket.last.sent).toHaveLength(1);
    expect(log).toEqual([{}, { pong: 1 }]);
  });

  it("from the beginning is a stream that never was", () => {
    pass(10_000);
    expect(log).toEqual(["lost"]);
    expect(FakeSocket.last.closed).toBe(true);
  });
});

it("says nothing any more after close", () => {
  const channel = open();
  const socket = FakeSocket.last;
  socket.opens();
  channel.close();
  channel.close();
  socket.says('{"late":1}');
  socket.ends(1000);
  expect(socket.closed).toBe(true);
  expect(log).toEqual([]);
});

it("asks for a sign of life at once where the network or the person comes back, once", () => {
  vi.useFakeTimers();
  const page = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("document", page);
  open();
  FakeSocket.last.opens();
  FakeSocket.last.says("{}");
  page.dispatchEvent(new Event("visibilitychange"));
  expect(FakeSocket.last.sent).toEqual([]);
  page.visibilityState = "visible";
  page.dispatchEvent(new Event("visibilitychange"));
  vi.advanceTimersByTime(6_000);
  page.dispatchEvent(new Event("online"));
  expect(FakeSocket.last.sent).toEqual(['{"type":"ws.ping"}']);
  vi.advanceTimersByTime(4_000);
  expect(log).toEqual([{}, "lost"]);
  page.dispatchEvent(new Event("online"));
  expect(FakeSocket.last.sent).toHaveLength(1);
  vi.unstubAllGlobals();
  vi.useRealTimers();
});
