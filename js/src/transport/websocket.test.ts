// @vitest-environment node
import { beforeEach, describe, expect, it } from "vitest";
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
  return transport.open("c", "default", {
    message: (message) => log.push(message),
    close: (reason) => log.push(reason),
  });
};

describe("the address of a stream", () => {
  it("follows the page's own, and never holds a token", () => {
    expect(socketUrl("https://hub.example", "/user/me/", "nb-1", "")).toBe(
      "wss://hub.example/user/me/webchat/ws?conv_id=nb-1&deltas=append&profile=default",
    );
    expect(socketUrl("http://localhost:1", "/", "a", "p q")).toBe(
      "ws://localhost:1/webchat/ws?conv_id=a&deltas=append&profile=p+q",
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

it("says nothing any more after close, and sends only while it is open", () => {
  const channel = open();
  const socket = FakeSocket.last;
  channel.send({ early: true });
  socket.opens();
  channel.send({ type: "ws.ping" });
  channel.close();
  channel.close();
  socket.says('{"late":1}');
  socket.ends(1000);
  expect(socket.sent).toEqual(['{"type":"ws.ping"}']);
  expect(socket.closed).toBe(true);
  expect(log).toEqual([]);
});
