// Run by tests/soak/schedules.py, bundled for node: plays every schedule of a file, one a line, and prints what differs.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { difference, type Played } from "./replay";

const lines = createInterface({ input: createReadStream(process.argv[2] as string) });
let count = 0;
for await (const line of lines) {
  const played = JSON.parse(line) as Played & { number: number };
  const why = await difference(played);
  if (why) console.log(JSON.stringify({ number: played.number, why }));
  count += 1;
}
console.log(JSON.stringify({ count }));
