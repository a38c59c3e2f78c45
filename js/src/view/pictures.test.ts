import { describe, expect, it } from "vitest";
import { dataUrl, readPictures, takePictures } from "./pictures";

const PNG = "\x89PNG\r\n\x1a\n1234";
const file = (text: string, name: string, size = 0) =>
  new File([Uint8Array.from(text, (char) => char.charCodeAt(0)), new Uint8Array(size)], name);

describe("pictures that a person adds", () => {
  it.each([
    [PNG, "image/png"],
    ["\xff\xd8\xff\xe0 jpeg", "image/jpeg"],
    ["GIF89a...", "image/gif"],
    ["RIFF\0\0\0\0WEBPVP8 ", "image/webp"],
  ])("are what their bytes say: %j", async (bytes, mime) => {
    const { taken, refused } = await takePictures([file(bytes, "photo.txt")], [], 1000);
    expect(refused).toEqual([]);
    expect(taken).toEqual([{ name: "photo.txt", mime, data: btoa(bytes) }]);
  });

  it("are refused with a sentence where they are none, too large, or too many", async () => {
    const files = [
      file("%PDF-1.7", "a.png"),
      file("", "empty"),
      file(PNG, "b.png", 10_000_001),
      file(PNG, "c.png"),
    ];
    const { taken, refused } = await takePictures(files, [], 15_000_000);
    expect(taken.map(({ name }) => name)).toEqual(["c.png"]);
    expect(refused).toEqual([
      "a.png is no picture that can be sent: PNG, JPEG, GIF and WebP can.",
      "empty is no picture that can be sent: PNG, JPEG, GIF and WebP can.",
      "b.png is larger than 10 MB.",
    ]);
    const many = await takePictures(new Array(12).fill(file(PNG, "x")), taken, 15_000_000);
    expect(many.taken).toHaveLength(9);
    expect(many.refused).toEqual(["At most 10 pictures go with one message."]);
    const large = await takePictures(
      [file(PNG, "d.png", 6_000_000), file(PNG, "e.png", 2_000_000)],
      [],
      7_000_000,
    );
    expect(large.taken).toHaveLength(1);
    expect(large.refused).toEqual(["e.png does not fit: pictures may have 7 MB together."]);
  });
});

describe("pictures of a row", () => {
  it("are those that can be drawn, from their own bytes", () => {
    const good = { name: "a", mime: "image/png", data: "iVBO" };
    expect(readPictures([good, { mime: "image/gif", data: "R0lG" }])).toEqual([
      good,
      { name: "", mime: "image/gif", data: "R0lG" },
    ]);
    const bad = [null, 3, {}, { ...good, mime: "image/svg+xml" }, { ...good, data: "https://evil.example/" }];
    for (const value of [...bad.map((each) => [each]), "x", { 0: good }])
      expect(readPictures(value)).toEqual([]);
    expect(dataUrl("text/html", "PGI+")).toBeNull();
  });
});
