import type { Picture } from "../http/replies";

export const PICTURE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MOST = 10;
const MOST_BYTES = 10_000_000;

/** How the bytes of each kind begin. */
const MAGIC: [string, RegExp][] = [
  ["image/png", /^\x89PNG\r\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF[\s\S]{4}WEBP/],
];

/** The address of an image from its own bytes, or null where they are none that may be drawn. */
export function dataUrl(mime: unknown, data: unknown): string | null {
  if (typeof mime !== "string" || !PICTURE_TYPES.includes(mime) || typeof data !== "string") return null;
  const bytes = data.replace(/\s+/g, "");
  return /^[A-Za-z0-9+/]+={0,2}$/.test(bytes) ? `data:${mime};base64,${bytes}` : null;
}

export function addressOf({ mime, data }: Picture): string {
  return `data:${mime};base64,${data}`;
}

/** The pictures that a row carries, as far as they make sense. */
export function readPictures(value: unknown): Picture[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((each) => {
    if (typeof each !== "object" || each === null) return [];
    const { name, mime, data } = each as Record<string, unknown>;
    const safe = dataUrl(mime, data) !== null;
    return safe ? [{ name: typeof name === "string" ? name : "", mime: `${mime}`, data: `${data}` }] : [];
  });
}

/**
 * Reads files that a person wants to send along with those that are there, and says, in a sentence each, what can't
 * be sent. What a file is stands in its first bytes, not in its name.
 */
export async function takePictures(
  files: readonly File[],
  there: readonly Picture[],
  mostTogether: number,
): Promise<{ taken: Picture[]; refused: string[] }> {
  const taken: Picture[] = [];
  const refused: string[] = [];
  let together = there.reduce((sum, { data }) => sum + data.length * 0.75, 0);
  for (const file of files) {
    const name = (file.name || "picture").slice(0, 200);
    if (there.length + taken.length >= MOST) {
      refused.push(`At most ${MOST} pictures go with one message.`);
      break;
    }
    const mime = await kindOf(file);
    if (mime === null) {
      refused.push(`${name} is no picture that can be sent: PNG, JPEG, GIF and WebP can.`);
    } else if (file.size > MOST_BYTES) {
      refused.push(`${name} is larger than ${megabytes(MOST_BYTES)}.`);
    } else if (together + file.size > mostTogether) {
      refused.push(`${name} does not fit: pictures may have ${megabytes(mostTogether)} together.`);
    } else {
      taken.push({ name, mime, data: await base64(file) });
      together += file.size;
    }
  }
  return { taken, refused };
}

/** Null also for what can't be read, as a folder. */
async function kindOf(file: File): Promise<string | null> {
  const start = await file
    .slice(0, 16)
    .arrayBuffer()
    .catch(() => new ArrayBuffer(0));
  const bytes = new Uint8Array(start);
  const head = String.fromCharCode(...bytes);
  return MAGIC.find(([, magic]) => magic.test(head))?.[0] ?? null;
}

function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function megabytes(bytes: number): string {
  return `${Math.floor(bytes / 1_000_000)} MB`;
}
