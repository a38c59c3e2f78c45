import { afterEach, describe, expect, it } from "vitest";
import { findServer } from "./environment";

afterEach(() => {
  document.body.replaceChildren();
  delete document.body.dataset.baseUrl;
});

function config(text: string): void {
  const script = document.createElement("script");
  script.id = "jupyter-config-data";
  script.type = "application/json";
  script.textContent = text;
  document.body.append(script);
}

describe("where the server is", () => {
  it("from the page's configuration", () => {
    config('{"baseUrl": "/user/me/", "token": "t"}');
    expect(findServer()).toEqual({ baseUrl: "/user/me/", token: "t", jupyter: true });
  });

  it("from the body of an older page", () => {
    document.body.dataset.baseUrl = "/base";
    expect(findServer()).toEqual({ baseUrl: "/base/", token: "", jupyter: true });
  });

  it("at the root, where nothing or nonsense says otherwise", () => {
    expect(findServer()).toEqual({ baseUrl: "/", token: "", jupyter: false });
    config("{nonsense");
    expect(findServer().baseUrl).toBe("/");
  });

  it("never on another host", () => {
    config('{"baseUrl": "https://evil.example/"}');
    expect(findServer().baseUrl).toBe("/");
    document.body.replaceChildren();
    config('{"baseUrl": "//evil.example/"}');
    expect(findServer().baseUrl).toBe("/evil.example/");
  });
});
