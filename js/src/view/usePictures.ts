import { useCallback, useRef, useState } from "preact/hooks";
import type { Picture } from "../http/replies";
import { takePictures } from "./pictures";

/** The pictures that go with what is being typed. */
export interface Attached {
  readonly pictures: readonly Picture[];
  /** Why some were not taken, a sentence each. */
  readonly refused: readonly string[];
  /** Some are still being read. */
  readonly reading: boolean;
  readonly add: (files: readonly File[]) => void;
  readonly remove: (at: number) => void;
  readonly put: (pictures: readonly Picture[]) => void;
  readonly clear: () => void;
}

export function usePictures(mostTogether: number): Attached {
  const [pictures, setPictures] = useState<readonly Picture[]>([]);
  const [refused, setRefused] = useState<readonly string[]>([]);
  const [reading, setReading] = useState(0);
  const there = useRef(pictures);
  const set = useCallback((next: readonly Picture[]) => {
    there.current = next;
    setPictures(next);
    setRefused([]);
  }, []);
  const turn = useRef(Promise.resolve()); // one after the other, for each counts what is there
  const add = (files: readonly File[]) => {
    setReading((count) => count + 1);
    turn.current = turn.current
      .then(async () => {
        const { taken, refused } = await takePictures(files, there.current, mostTogether);
        set([...there.current, ...taken]);
        setRefused(refused);
      })
      .catch(() => setRefused(["A picture could not be read. Try it again."]))
      .finally(() => setReading((count) => count - 1));
  };
  return {
    pictures,
    refused,
    reading: reading > 0,
    add,
    remove: (at) => set(there.current.filter((_, each) => each !== at)),
    put: useCallback((more) => set([...more, ...there.current]), [set]),
    clear: () => set([]),
  };
}

/** The files that a person pastes. Text that came along is what was meant: tables come with a picture. */
export function filesOf(data: DataTransfer | null): File[] {
  return !data || data.types.includes("text/plain") ? [] : [...data.files];
}
